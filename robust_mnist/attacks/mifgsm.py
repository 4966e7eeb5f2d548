"""Momentum iterative fast gradient sign method."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks._highest import Highest
from robust_mnist.attacks.losses import AbstractLoss, CrossEntropy, words
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


class MIFGSM(AbstractBallAttack):
    """Signed steps along gradients accumulated with momentum, each of length 1 in the L1 norm.

    Reference:
        Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, algorithm 1.

    Attributes:
        steps: Number of steps of eps / steps, at least 1.
        decay: What is kept of the accumulated gradient.
        loss: What to ascend; the published attack uses cross-entropy.
    """

    steps: int = eqx.field(static=True, default=10)
    decay: float = 1.0
    loss: AbstractLoss = CrossEntropy()

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"MIFGSM takes at least one step, got steps={self.steps}")

    @property
    def ball(self) -> AbstractBall:
        return Linf()

    @property
    def about(self) -> str:
        return (
            f"momentum iterative FGSM (MI-FGSM) on {words(self.loss)}: {self.steps} steps of "
            f"eps / {self.steps} in Linf"
        )

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
        del key

        def value(z: Array) -> tuple[Array, Array]:
            logits = model(z)
            return self.loss(logits, y), metrics.margin(logits, y) <= 0

        score = jax.value_and_grad(value, has_aux=True)

        def step(
            state: tuple[Array, Array, Highest], _: None
        ) -> tuple[tuple[Array, Array, Highest], None]:
            z, momentum, best = state
            seen, gradient = score(z)
            # Scaled first: the sum of a gradient below 1e-38 would be 0, and 0 / 0 no direction.
            gradient = gradient / jnp.maximum(jnp.max(jnp.abs(gradient)), 1e-37)
            length = jnp.sum(jnp.abs(gradient))
            momentum = self.decay * momentum + gradient / jnp.where(length > 0, length, 1.0)
            moved = jnp.clip(z + eps / self.steps * jnp.sign(momentum), 0.0, 1.0)
            return (moved, momentum, best.see(z, *seen)), None

        none = Highest(x, jnp.asarray(-jnp.inf, x.dtype), jnp.asarray(False))
        first = (x, jnp.zeros_like(x), none)
        (last, _, best), _ = jax.lax.scan(step, first, length=self.steps)
        return best.see(last, *value(last)).image
