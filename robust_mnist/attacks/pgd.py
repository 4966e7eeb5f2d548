"""Projected gradient descent."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks._highest import Highest
from robust_mnist.attacks.losses import AbstractLoss, Margin, words
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


class PGD(AbstractBallAttack):
    """Ascend the loss from a random point of the ball, and keep the best image ever seen.

    Reference:
        Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.

    Attributes:
        ball: Norm that bounds the perturbation.
        steps: Number of gradient steps, at least 1.
        rel_step_size: Length of a step as a fraction of `eps`, positive.
        loss: What to ascend; the default cannot underflow.
        random_start: Whether to start at a random point of the ball, or at the clean image.
    """

    ball: AbstractBall = Linf()
    steps: int = eqx.field(static=True, default=40)
    rel_step_size: float = 0.1
    loss: AbstractLoss = Margin()
    random_start: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(
                f"PGD takes at least one step, got steps={self.steps}; "
                "for clean accuracy sweep eps=0"
            )
        if not self.rel_step_size > 0:
            raise ValueError(f"PGD needs rel_step_size > 0, got {self.rel_step_size}")

    @property
    def about(self) -> str:
        name = "projected gradient descent (PGD)"
        if not self.random_start:
            name = "basic iterative method (BIM)"
        start = "1 random start" if self.random_start else "started at the image"
        return f"{name} on {words(self.loss)}: {self.pace}, {start}"

    @property
    def pace(self) -> str:
        """Number, length and norm of the steps, in words."""
        return f"{self.steps} steps of {self.rel_step_size:g} eps in {self.ball.title}"

    @property
    def one_step(self) -> bool:
        return False

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        return self.path(model, x, y, eps=eps, key=key)[0]

    def path(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, " pixels"], Bool[Array, " points"]]:
        """The answer, and whether the points reached after 0, 1, ... gradients are wrong."""

        def value(z: Array) -> tuple[Array, Array]:
            logits = model(z)
            return self.loss(logits, y), metrics.margin(logits, y) <= 0

        score = jax.value_and_grad(value, has_aux=True)

        def feasible(z: Array) -> Array:
            # x lies in the box, so clipping only moves a pixel towards x and stays in the ball.
            return jnp.clip(x + self.ball.project(z - x, eps), 0.0, 1.0)

        def ascend(
            carry: tuple[Array, Highest], _: None
        ) -> tuple[tuple[Array, Highest], Bool[Array, ""]]:
            z, best = carry
            # One pass both scores z and tells where to go from it.
            (height, wrong), gradient = score(z)
            move = self.ball.ascend(z, gradient, self.rel_step_size * eps)
            return (feasible(z + move), best.see(z, height, wrong)), wrong

        start = feasible(x + self.ball.sample(key, x.size, eps)) if self.random_start else x
        # The clean image takes part: an attack never makes a mistake right again.
        first = (start, Highest(x, *value(x)))
        (last, best), wrong = jax.lax.scan(ascend, first, length=self.steps)
        # The last point has been stepped to but not scored yet.
        height, last_wrong = value(last)
        return best.see(last, height, last_wrong).image, jnp.append(wrong, last_wrong)
