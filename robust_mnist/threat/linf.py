"""The largest change of any pixel."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from robust_mnist.threat._base import AbstractBall, Image, Scalar, room, share_lost, to_unit
from robust_mnist.threat._climb import fill


class Linf(AbstractBall):
    """Every pixel may move by at most `eps`."""

    @property
    def name(self) -> str:
        return "linf"

    @property
    def title(self) -> str:
        return "Linf"

    def size(self, delta: Image) -> Scalar:
        return jnp.max(jnp.abs(delta))

    def project(self, delta: Image, eps: Scalar) -> Image:
        return jnp.clip(delta, -eps, eps)

    def steepest(self, gradient: Image) -> Image:
        return jnp.sign(gradient)

    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        return eps * jax.random.uniform(key, (pixels,), eps.dtype, -1.0, 1.0)

    def ascend(self, x: Image, gradient: Image, eps: Scalar) -> Image:
        return jnp.sign(gradient) * jnp.minimum(eps, room(x, gradient))

    def nearest(self, x: Image, gradient: Image, rise: Scalar) -> Image:
        unit, scale = to_unit(gradient)
        speed = jnp.abs(jnp.sign(unit))
        return jnp.sign(unit) * fill(jnp.abs(unit), speed, room(x, unit), rise / scale)

    def least(self, x: Image, weights: Image, eps: Scalar) -> Scalar:
        low, high = jnp.maximum(x - eps, 0.0), jnp.minimum(x + eps, 1.0)
        centre, radius = (low + high) / 2, (high - low) / 2
        return jnp.sum(weights * centre - jnp.abs(weights) * (radius + share_lost(x) * high))
