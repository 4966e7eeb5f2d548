"""Fast minimum-norm attack."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.attacks._closest import Closest
from robust_mnist.attacks._schedule import cosine
from robust_mnist.attacks.losses import AbstractLoss, Margin, words
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L2, AbstractBall, room, to_unit


# 1/p + 1/q = 1; a change of size e moves a linear score by at most e times the dual norm.
_DUAL = {"linf": 1, "l2": 2, "l1": jnp.inf}


class FMN(AbstractMinimalAttack):
    """Gradient steps projected on a ball whose radius follows the boundary.

    Until a wrong image is seen the radius is where the linearised boundary lies, counting the
    pixels that can still move; afterwards it shrinks while the image is wrong, else it grows.

    Reference:
        Pintor et al., "Fast minimum-norm adversarial attacks through adaptive norm constraints",
        NeurIPS 2021, algorithm 1. Two things differ where the radius is first set: the pixels that
        the box holds do not count, and it lies beyond the linearised boundary by `gamma`.

    Attributes:
        ball: Norm that is minimised.
        loss: Score that is above 0 where the classifier is wrong, in units of logits.
        steps: Number of gradient steps, at least 1.
        alpha: First length of a step, in Euclidean distance; it falls to a hundredth.
        gamma: First share by which the radius changes; it falls to 0.001.
    """

    ball: AbstractBall = L2()
    loss: AbstractLoss = Margin()
    steps: int = eqx.field(static=True, default=100)
    alpha: float = 1.0
    gamma: float = 0.05

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"FMN takes at least one step, got steps={self.steps}")

    @property
    def about(self) -> str:
        return (
            f"fast minimum-norm attack (FMN) on {words(self.loss)}: {self.steps} steps in "
            f"{self.ball.title}"
        )

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
        score = jax.value_and_grad(lambda delta: self.loss(model(x + delta), y))

        def step(
            state: tuple[Array, Array, Closest], number: Array
        ) -> tuple[tuple[Array, Array, Closest], Array]:
            delta, eps, closest = state
            value, gradient = score(delta)
            wrong, size = value >= 0, self.ball.size(delta)
            closest = closest.see(x + delta, wrong, size)
            gamma = cosine(number, self.steps, self.gamma, 0.001)
            eps = self._radius(eps, x + delta, value, gradient, size, closest, gamma)
            # Without a gradient any direction is as good as another.
            noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
            gradient = jnp.where(jnp.any(gradient != 0), gradient, noise)
            rate = cosine(number, self.steps, self.alpha, self.alpha / 100)
            moved = jnp.clip(x + delta + rate * L2().steepest(gradient), 0.0, 1.0) - x
            delta = self.ball.project(moved, eps)
            return (delta, eps, closest), closest.size

        first = (jnp.zeros_like(x), jnp.asarray(jnp.inf, x.dtype), Closest.none(x))
        (delta, _, closest), sizes = jax.lax.scan(step, first, jnp.arange(self.steps))
        # The last point has been stepped to but not scored yet.
        wrong = self.loss(model(x + delta), y) >= 0
        closest = closest.see(x + delta, wrong, self.ball.size(delta))
        return closest.image, jnp.append(sizes, closest.size)

    def _radius(
        self,
        eps: Array,
        z: Array,
        value: Array,
        gradient: Array,
        size: Array,
        closest: Closest,
        gamma: Array,
    ) -> Array:
        if self.ball.name == "l0":
            # Pixels are counted: a radius changes by one at least.
            eps = jnp.where(jnp.isfinite(eps), eps, size + 1.0)
            less = jnp.minimum(eps - 1, jnp.floor(eps * (1 - gamma)))
            more = jnp.maximum(eps + 1, jnp.floor(eps * (1 + gamma)))
            less = jnp.minimum(less, closest.size - 1)
            return jnp.maximum(jnp.where(value >= 0, less, more), 1.0)
        # Pixels at their end do not help to get there; nor would a step that ends just before it.
        free = jnp.where(room(z, gradient) > 0, gradient, 0.0)
        unit, scale = to_unit(free)
        slope = scale * jnp.linalg.norm(unit, ord=_DUAL[self.ball.name])
        boundary = size + (1 + gamma) * jnp.abs(value) / jnp.where(slope > 0, slope, 1.0)
        boundary = jnp.where(slope > 0, boundary, jnp.inf)
        less = jnp.minimum(jnp.minimum(eps, closest.size) * (1 - gamma), closest.size)
        more = jnp.where(closest.found, eps * (1 + gamma), boundary)
        return jnp.where(value >= 0, less, more)
