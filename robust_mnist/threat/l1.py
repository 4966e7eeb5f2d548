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
from robust_mnist.threat._budget import spend


# What is left of the range of levels is then of the size of a rounding error in float32.
_HALVINGS = 30


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

        Args:
            delta: What to project.
            eps: Radius.

        Reference:
            Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions",
            ICML 2008, figure 1.
        """
        return _soften(delta, jnp.abs(delta), eps)

    def project_in_box(self, x: Image, delta: Image, eps: Scalar) -> Image:
        """Closest change to `delta` inside the ball that also keeps `x` in [0, 1].

        Soft thresholding again, but no pixel moves further than its end.

        Reference:
            Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
            classifiers", ICML 2021, proposition 2.1.

        Args:
            x: Clean image, pixels in [0, 1].
            delta: What to project.
            eps: Radius.
        """
        return _soften(delta, room(x, delta), eps)

    def steepest(self, gradient: Image) -> Image:
        # All of it into one pixel, the first of the steepest.
        at = jnp.argmax(jnp.abs(gradient))
        return jnp.zeros_like(gradient).at[at].set(jnp.sign(gradient[at]))

    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        # Spacings of exponentials are uniform on a simplex; the one left over is the inside.
        sign_key, size_key = jax.random.split(key)
        parts = jax.random.exponential(size_key, (pixels + 1,), eps.dtype)
        signs = jax.random.rademacher(sign_key, (pixels,), dtype=parts.dtype)
        return eps * signs * parts[:-1] / jnp.sum(parts)

    def ascend(self, x: Image, gradient: Image, eps: Scalar) -> Image:
        limit = room(x, gradient)
        return jnp.sign(gradient) * spend(jnp.abs(gradient), limit, eps)

    def nearest(self, x: Image, gradient: Image, rise: Scalar) -> Image:
        unit, scale = to_unit(gradient)
        limit, weight = room(x, unit), jnp.abs(unit)
        gain = spend(weight, weight * limit, rise / scale)
        # Back from gains to changes, and never beyond the room for a rounding error.
        change = gain / jnp.where(weight > 0, weight, 1.0)
        return jnp.sign(unit) * jnp.minimum(change, limit)

    def least(self, x: Image, weights: Image, eps: Scalar) -> Scalar:
        return clean_value(x, weights) - shared(jnp.abs(weights), room(x, -weights), eps)


def _soften(delta: Image, limit: Image, eps: Scalar) -> Image:
    """Move all pixels towards 0 by one amount, such that they keep `eps` in all.

    None keeps more than its limit. The amount is bisected, which tells the pixels in between from
    those at an end, and then solved for: sorting takes thirty times as long on a CPU.
    """
    size = jnp.abs(delta)
    change = lambda level: jnp.clip(size - level, 0.0, limit)

    def halve(ends: tuple[Scalar, Scalar], _: None) -> tuple[tuple[Scalar, Scalar], None]:
        low, high = ends
        middle = (low + high) / 2
        above = jnp.sum(change(middle)) > eps
        return (jnp.where(above, middle, low), jnp.where(above, high, middle)), None

    ends = (jnp.zeros_like(eps), jnp.max(size))
    (_, level), _ = jax.lax.scan(halve, ends, length=_HALVINGS)
    # At this level pixels are at their limit, in between, or unmoved, and stay so.
    full = size - level >= limit
    between = (size > level) & ~full
    taken = jnp.sum(jnp.where(full, limit, jnp.where(between, size, 0.0)))
    count = jnp.sum(between).astype(size.dtype)
    exact = jnp.where(count > 0, (taken - eps) / jnp.maximum(count, 1.0), level)
    enough = jnp.sum(change(jnp.zeros_like(eps))) <= eps
    return jnp.sign(delta) * change(jnp.where(enough, 0.0, exact))
