"""Intervals through a layer and through an activation, widened by what rounding can do."""

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float


def floor(dtype: DTypeLike) -> float:
    """The magnitude at which a relative rounding error is as large as what underflow can lose.

    XLA replaces results below the smallest normal number by 0, an error of at most that number.
    Where a magnitude is raised by this floor, the relative slack covers that error as well:
    1e-292 in float64.
    """
    limits = jnp.finfo(dtype)
    return float(limits.tiny) / float(limits.eps)


def affine(
    weight: Float[Array, "neurons below"],
    bias: Float[Array, " neurons"],
    low: Float[Array, " below"],
    high: Float[Array, " below"],
) -> tuple[Float[Array, " neurons"], Float[Array, " neurons"], Float[Array, " neurons"]]:
    """Ends of `weight @ a + bias` for a from `low` to `high`, and a bound on all partial sums.

    A dot product of n terms summed in any order is off by at most n u sum |w_i x_i| (1 + O(n u)), u
    half a unit in the last place; twice that covers the higher-order terms and the bias. The floor
    covers products that underflow: at most 2 n of them, and both ends halved.
    """
    least = floor(weight.dtype)
    centre, radius = low / 2 + high / 2, high / 2 - low / 2  # each half: a sum may overflow
    middle = weight @ centre + bias
    magnitude = jnp.abs(weight)
    spread = magnitude @ radius
    size = magnitude @ (jnp.maximum(jnp.abs(low), jnp.abs(high)) + least) + jnp.abs(bias) + least
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
