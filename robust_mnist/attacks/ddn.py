"""Decoupled direction and norm."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.attacks._closest import Closest
from robust_mnist.attacks._schedule import cosine
from robust_mnist.attacks.losses import AbstractLoss, CrossEntropy, words
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L2, AbstractBall


class DDN(AbstractMinimalAttack):
    """Gradient steps projected on a sphere that shrinks while the image is wrong, else grows.

    Reference:
        Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial
        attacks and defenses", CVPR 2019, algorithm 1. Images are not rounded to 8 bits.

    Attributes:
        loss: What to ascend; the published attack uses cross-entropy.
        steps: Number of gradient steps, at least 1.
        init_eps: First radius.
        gamma: Share by which the radius changes.
    """

    loss: AbstractLoss = CrossEntropy()
    steps: int = eqx.field(static=True, default=100)
    init_eps: float = 1.0
    gamma: float = 0.05

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"DDN takes at least one step, got steps={self.steps}")

    @property
    def ball(self) -> AbstractBall:
        return L2()

    @property
    def about(self) -> str:
        return f"decoupled direction and norm (DDN) on {words(self.loss)}: {self.steps} steps in L2"

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        return self.path(model, x, y, key=key)[0]

    def path(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, " pixels"], Float[Array, " points"]]:
        """The answer, and the size of the closest wrong image seen after 0, 1, ... gradients."""

        def value(delta: Array) -> tuple[Array, Array]:
            logits = model(x + delta)
            return self.loss(logits, y), metrics.margin(logits, y) <= 0

        def step(
            state: tuple[Array, Array, Closest], number: Array
        ) -> tuple[tuple[Array, Array, Closest], Array]:
            delta, eps, closest = state
            (_, wrong), gradient = jax.value_and_grad(value, has_aux=True)(delta)
            closest = closest.see(x + delta, wrong, self.ball.size(delta))
            # Without a gradient any direction is as good as another.
            noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
            gradient = jnp.where(jnp.any(gradient != 0), gradient, noise)
            rate = cosine(number, self.steps, 1.0, 0.01)
            delta = delta + rate * self.ball.steepest(gradient)
            eps = eps * jnp.where(wrong, 1 - self.gamma, 1 + self.gamma)
            delta = delta * eps / jnp.maximum(self.ball.size(delta), 1e-12)
            return (jnp.clip(x + delta, 0.0, 1.0) - x, eps, closest), closest.size

        first = (jnp.zeros_like(x), jnp.asarray(self.init_eps, x.dtype), Closest.none(x))
        (delta, _, closest), sizes = jax.lax.scan(step, first, jnp.arange(self.steps))
        wrong = metrics.margin(model(x + delta), y) <= 0
        closest = closest.see(x + delta, wrong, self.ball.size(delta))
        return closest.image, jnp.append(sizes, closest.size)
