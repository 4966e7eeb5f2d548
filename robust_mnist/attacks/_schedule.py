"""Schedules that attacks share."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cosine(number: Int[Array, ""], steps: int, first: float, last: float) -> Float[Array, ""]:
    """Half a cosine from `first` at step 0 down to `last` after the steps."""
    return last + (first - last) * (1 + jnp.cos(jnp.pi * number.astype(jnp.float32) / steps)) / 2
