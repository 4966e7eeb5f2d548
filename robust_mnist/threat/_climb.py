"""Roots of rising, piecewise smooth functions, from the left."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


Scalar = Float[Array, ""]


def climb(improve: Callable[[Scalar], Scalar], start: Scalar) -> Scalar:
    """The limit of `improve` from `start`, for an `improve` that never passes its fixed point.

    Each turn takes the active set of pixels as it stands and solves for it exactly, so the set can
    only shrink and the number of turns is finite; it is usually below ten.
    """

    def body(ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        _, now = ends
        return now, improve(now)

    # Rounding may turn the last step back: that is the end as well.
    higher = lambda ends: ends[1] > ends[0]
    before, after = jax.lax.while_loop(higher, body, (start, improve(start)))
    return jnp.maximum(before, after)


def fill(weight: Array, speed: Array, room: Array, rise: Scalar) -> Array:
    """The change `min(t * speed, room)` with the smallest t that makes `weight @ change >= rise`.

    Newton's method: what is raised is concave in t, so that a tangent never passes the root.

    Args:
        weight: What a unit of change in each pixel is worth, at least 0.
        speed: How fast each pixel moves, at least 0.
        room: How far it can move.
        rise: How much is wanted.
    """

    def newton(t: Scalar) -> Scalar:
        change = jnp.minimum(t * speed, room)
        slope = jnp.sum(jnp.where(t * speed < room, weight * speed, 0.0))
        missing = rise - jnp.sum(weight * change)
        step = missing / jnp.where(slope > 0, slope, 1.0)
        # With every pixel at its end there is no more to be had.
        return jnp.where((slope > 0) & (missing > 0), t + step, t)

    return jnp.minimum(climb(newton, jnp.zeros_like(rise)) * speed, room)
