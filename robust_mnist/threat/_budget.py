"""A budget spent on pixels in the order of some value, without sorting them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from robust_mnist.threat._base import Image, Scalar


Bits = Int[Array, ""]


def spend(values: Image, prices: Image, budget: Scalar) -> Image:
    """What each pixel gets when those of the largest values are bought first, each up to its price.

    Where the budget ends, the last pixel gets what is left; the first of equal ones comes first.

    Args:
        values: What decides the order, each at least 0.
        prices: What each may get, each at least 0.
        budget: What there is in all; nothing is bought for 0 or less.
    """
    level = cutoff(values, prices, budget)
    above, equal = values > level, jnp.where(values == level, prices, 0.0)
    left = budget - jnp.sum(jnp.where(above, prices, 0.0))
    rest = jnp.clip(left - (jnp.cumsum(equal) - equal), 0.0, equal)
    return jnp.where(above, prices, rest)


def cutoff(values: Image, prices: Image, budget: Scalar) -> Scalar:
    """The least value of which the budget pays all that is larger; 0 where it pays for all.

    Bits of numbers that are not negative are ordered as the numbers are, so that bisecting the bits
    is exact, and ten times as fast on a CPU as sorting.
    """
    width = jnp.finfo(values.dtype).bits
    bits = jax.lax.bitcast_convert_type(values, jnp.dtype(f"int{width}"))

    def halve(ends: tuple[Bits, Bits], _: None) -> tuple[tuple[Bits, Bits], None]:
        low, high = ends
        middle = high - (high - low) // 2
        paid = jnp.sum(jnp.where(bits > middle, prices, 0.0)) <= budget
        return (jnp.where(paid, low, middle), jnp.where(paid, middle, high)), None

    # The larger end is always paid for, at first because nothing is above it.
    ends = (jnp.full((), -1, bits.dtype), jnp.max(bits))
    (_, found), _ = jax.lax.scan(halve, ends, length=width)
    return jax.lax.bitcast_convert_type(found, values.dtype)
