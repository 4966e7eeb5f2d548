"""The sum of all changes."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from robust_mnist.threat._base import (
    AbstractBall,
    Image,
    Scalar,
    clean_value,
    room,
    shared,
    to_unit,
)


class L1(AbstractBall):
    """The pixels may move by `eps` in all."""

    @property
    def name(self) -> str:
        return "l1"

    @property
    def title(self) -> str:
        return "L1"

    def size(self, delta: Image) -> Scalar:
        return jnp.sum(jnp.abs(delta))

    def project(self, delta: Image, eps: Scalar) -> Image:
        """Soft thresholding at the level that leaves `eps`.

        Reference:
            Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions",
            ICML 2008, figure 1.
        """
        size = jnp.abs(delta)
        falling = jnp.sort(size, descending=True)
        count = jnp.arange(1, delta.size + 1, dtype=delta.dtype)
        level = (jnp.cumsum(falling) - eps) / count
        # The last level that is still below its pixel; with eps = 0 there is none.
        last = jnp.maximum(jnp.sum(falling > level), 1) - 1
        threshold = jnp.maximum(level[last], 0.0)
        kept = jnp.sign(delta) * jnp.maximum(size - threshold, 0.0)
        return jnp.where(jnp.sum(size) <= eps, delta, kept)

    def project_in_box(self, x: Image, delta: Image, eps: Scalar) -> Image:
        """Closest change to `delta` inside the ball that also keeps `x` in [0, 1].

        Soft thresholding again, but no pixel moves further than its end: what they spend in all
        falls piecewise linearly with the level, so the level is found by sorting the corners.

        Reference:
            Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
            classifiers", ICML 2021, proposition 2.1.

        Args:
            x: Clean image, pixels in [0, 1].
            delta: What to project.
            eps: Radius.
        """
        size, limit = jnp.abs(delta), room(x, delta)
        # Going down, a pixel begins to spend where the level meets its size, and ends at its limit.
        corners, turns = jnp.concatenate([size, size - limit]), jnp.ones_like(size)
        order = jnp.argsort(corners, descending=True)
        level, spending = corners[order], jnp.cumsum(jnp.concatenate([turns, -turns])[order])
        steps = level - jnp.append(level[1:], level[-1])
        spent = jnp.cumsum(spending * steps)
        last = jnp.argmax(spent >= eps)
        threshold = level[last] - (steps * spending - spent + eps)[last] / spending[last]
        enough = jnp.sum(jnp.minimum(size, limit)) <= eps
        kept = jnp.clip(size - jnp.where(enough, 0.0, jnp.maximum(threshold, 0.0)), 0.0, limit)
        return jnp.sign(delta) * kept

    def steepest(self, gradient: Image) -> Image:
        # All of it into one pixel, the first of the steepest.
        at = jnp.argmax(jnp.abs(gradient))
        return jnp.zeros_like(gradient).at[at].set(jnp.sign(gradient[at]))

    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        # Spacings of exponentials are uniform on a simplex; the one left over is the inside.
        sign_key, size_key = jax.random.split(key)
        parts = jax.random.exponential(size_key, (pixels + 1,))
        signs = jax.random.rademacher(sign_key, (pixels,), dtype=parts.dtype)
        return eps * signs * parts[:-1] / jnp.sum(parts)

    def ascend(self, x: Image, gradient: Image, eps: Scalar) -> Image:
        limit = room(x, gradient)
        return _spend(gradient, limit, limit, eps)

    def nearest(self, x: Image, gradient: Image, rise: Scalar) -> Image:
        unit, scale = to_unit(gradient)
        limit, weight = room(x, unit), jnp.abs(unit)
        gain = _spend(unit, weight * limit, weight * limit, rise / scale)
        # Back from gains to changes, and never beyond the room for a rounding error.
        change = jnp.abs(gain) / jnp.where(weight > 0, weight, 1.0)
        return jnp.sign(unit) * jnp.minimum(change, limit)

    def least(self, x: Image, weights: Image, eps: Scalar) -> Scalar:
        return clean_value(x, weights) - shared(jnp.abs(weights), room(x, -weights), eps)


def _spend(gradient: Image, price: Image, limit: Image, budget: Scalar) -> Image:
    """Spend `budget` on the steepest pixels first, each up to its limit."""
    order = jnp.argsort(jnp.abs(gradient), descending=True)
    prices = price[order]
    before = jnp.cumsum(prices) - prices
    spent = jnp.clip(budget - before, 0.0, limit[order])
    return jnp.sign(gradient) * jnp.zeros_like(gradient).at[order].set(spent)
