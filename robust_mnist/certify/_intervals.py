"""Intervals through a layer and through an activation, widened by what rounding can do."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def affine(
    weight: Float[Array, "neurons below"],
    bias: Float[Array, " neurons"],
    low: Float[Array, " below"],
    high: Float[Array, " below"],
) -> tuple[Float[Array, " neurons"], Float[Array, " neurons"], Float[Array, " neurons"]]:
    """Ends of `weight @ a + bias` for a from `low` to `high`, and a bound on all partial sums.

    A dot product of n terms summed in any order is off by at most n u sum |w_i x_i| (1 + O(n u)), u
    half a unit in the last place; twice that covers the higher-order terms and the bias.
    """
    centre, radius = (low + high) / 2, (high - low) / 2
    middle = weight @ centre + bias
    magnitude = jnp.abs(weight)
    spread = magnitude @ radius
    size = magnitude @ jnp.maximum(jnp.abs(low), jnp.abs(high)) + jnp.abs(bias)
    slack = 2 * (weight.shape[1] + 4) * jnp.finfo(weight.dtype).eps * size
    return middle - spread - slack, middle + spread + slack, size


def outwards(
    low: Float[Array, " neurons"], high: Float[Array, " neurons"]
) -> tuple[Float[Array, " neurons"], Float[Array, " neurons"]]:
    """Outputs of an activation, widened: XLA's are right to a few units in the last place.

    Where they underflow, to a few of the smallest numbers.
    """
    limits = jnp.finfo(low.dtype)
    slack = 16 * (limits.eps * jnp.maximum(jnp.abs(low), jnp.abs(high)) + limits.tiny)
    return low - slack, high + slack
