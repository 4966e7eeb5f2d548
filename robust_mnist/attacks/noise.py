"""Random noise: what an attack has to beat."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


class Noise(AbstractBallAttack):
    """The worst of many random points of the ball.

    Attributes:
        ball: Norm that bounds the perturbation.
        kind: `uniform` in the ball; `corners` of it, signs of full length for Linf; `gaussian`
            noise scaled to the surface.
        samples: How many points are drawn, at least 1.
    """

    ball: AbstractBall = Linf()
    kind: Literal["uniform", "corners", "gaussian"] = eqx.field(static=True, default="uniform")
    samples: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        if self.kind not in {"uniform", "corners", "gaussian"}:
            raise ValueError(f"Noise is uniform, corners or gaussian, got {self.kind}")
        if self.samples < 1:
            raise ValueError(f"Noise draws at least one sample, got samples={self.samples}")

    @property
    def about(self) -> str:
        of = {"uniform": "points of the", "corners": "corners of the", "gaussian": "Gaussian"}
        end = "directions in" if self.kind == "gaussian" else "ball in"
        return f"the worst of {self.samples} random {of[self.kind]} {end} {self.ball.title}"

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
        def sample(number: Array) -> Array:
            draw = self._draw(jax.random.fold_in(key, number), x, eps)
            return jnp.clip(x + self.ball.project(draw, eps), 0.0, 1.0)

        def keep(best: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], None]:
            z = sample(number)
            margin = metrics.margin(model(z), y)
            lower = margin < best[1]
            return (jnp.where(lower, z, best[0]), jnp.where(lower, margin, best[1])), None

        first = (x, metrics.margin(model(x), y))
        (best, _), _ = jax.lax.scan(keep, first, jnp.arange(self.samples))
        return best

    def _draw(self, key: PRNGKeyArray, x: Array, eps: Array) -> Array:
        if self.kind == "uniform":
            return self.ball.sample(key, x.size, eps)
        if self.kind == "corners":
            signs = jax.random.rademacher(key, x.shape, dtype=x.dtype)
            return eps * signs / self.ball.size(signs)
        normal = jax.random.normal(key, x.shape, x.dtype)
        return eps * normal / self.ball.size(normal)
