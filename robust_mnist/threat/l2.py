"""Euclidean distance."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from robust_mnist.threat._base import (
    AbstractBall,
    Image,
    Scalar,
    clean_value,
    room,
    share_lost,
    to_unit,
)
from robust_mnist.threat._climb import climb, fill


class L2(AbstractBall):
    """The whole image may move by at most `eps` in Euclidean distance."""

    @property
    def name(self) -> str:
        return "l2"

    @property
    def title(self) -> str:
        return "L2"

    def size(self, delta: Image) -> Scalar:
        return jnp.linalg.norm(delta)

    def project(self, delta: Image, eps: Scalar) -> Image:
        # The floor keeps 0/0 out when eps = 0 and `delta` is already zero.
        return delta * jnp.minimum(1.0, eps / jnp.maximum(self.size(delta), 1e-12))

    def steepest(self, gradient: Image) -> Image:
        unit, _ = to_unit(gradient)
        length = jnp.linalg.norm(unit)
        return unit / jnp.where(length > 0, length, 1.0)

    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        direction_key, radius_key = jax.random.split(key)
        direction = self.steepest(jax.random.normal(direction_key, (pixels,), eps.dtype))
        return eps * jax.random.uniform(radius_key, (), eps.dtype) ** (1 / pixels) * direction

    def ascend(self, x: Image, gradient: Image, eps: Scalar) -> Image:
        unit, _ = to_unit(gradient)
        weight, limit = jnp.abs(unit), room(x, unit)

        def lengthen(t: Scalar) -> Scalar:
            # What the pixels at their ends leave of the budget goes to the others.
            full = t * weight >= limit
            left = eps**2 - jnp.sum(jnp.where(full, limit**2, 0.0))
            free = jnp.sum(jnp.where(full, 0.0, weight**2))
            longer = jnp.sqrt(jnp.maximum(left, 0.0) / jnp.where(free > 0, free, 1.0))
            return jnp.where(free > 0, longer, t)

        scale = climb(lengthen, jnp.zeros_like(eps))
        return jnp.sign(unit) * jnp.minimum(scale * weight, limit)

    def nearest(self, x: Image, gradient: Image, rise: Scalar) -> Image:
        unit, scale = to_unit(gradient)
        weight = jnp.abs(unit)
        return jnp.sign(unit) * fill(weight, weight, room(x, unit), rise / scale)

    def least(self, x: Image, weights: Image, eps: Scalar) -> Scalar:
        """The dual norm over the pixels that can move the right way, or the whole box."""
        falls, rises = jnp.ceil(x), jnp.ceil(1 - x)  # 0 at an end of the range, else 1
        size = jnp.abs(weights)
        total = jax.lax.stop_gradient(jnp.sum(size))  # the bound does not depend on the unit
        # In units of the sum of all weights: the squares of weights below 1e-154 would underflow,
        # and a fall of 0 would prove what is false. In this unit the sum of the squares of n
        # weights is at least 1/n. `share_lost` times that sum covers each square that underflows.
        # The unit and its inverse are normal numbers; dividing each weight would be slower.
        tiny = float(jnp.finfo(x.dtype).tiny)
        unit = jnp.clip(total, tiny, 1 / tiny)
        share = weights * (1 / unit)
        positive = jnp.abs(share)
        # The square where a positive weight meets a pixel that falls, or a negative one that rises.
        squares = share * share * (falls + rises) + share * positive * (falls - rises)
        length = jnp.sqrt(jnp.sum(squares) / 2 + share_lost(x) * jnp.sum(share * share))
        fall = eps * (unit * length)
        box = jnp.sum(weights - size * (1 + share_lost(x))) / 2
        return jnp.maximum(clean_value(x, weights) - fall * (1 + share_lost(x)), box)
