"""The number of pixels that change."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

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


class L0(AbstractBall):
    """Up to `eps` pixels may change, each as far as the box allows."""

    @property
    def name(self) -> str:
        return "l0"

    @property
    def title(self) -> str:
        return "L0"

    def size(self, delta: Image) -> Scalar:
        return jnp.sum(delta != 0).astype(delta.dtype)

    def project(self, delta: Image, eps: Scalar) -> Image:
        return jnp.where(_first(jnp.abs(delta), eps), delta, 0.0)

    def steepest(self, gradient: Image) -> Image:
        # One pixel, by as much as black and white differ.
        at = jnp.argmax(jnp.abs(gradient))
        return jnp.zeros_like(gradient).at[at].set(jnp.sign(gradient[at]))

    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        """Random pixels change by random amounts of at most 1."""
        which_key, size_key = jax.random.split(key)
        change = jax.random.uniform(size_key, (pixels,), eps.dtype, -1.0, 1.0)
        return jnp.where(
            _first(jax.random.uniform(which_key, (pixels,), eps.dtype), eps), change, 0.0
        )

    def ascend(self, x: Image, gradient: Image, eps: Scalar) -> Image:
        unit, _ = to_unit(gradient)
        limit = room(x, unit)
        gain = jnp.abs(unit) * limit
        return jnp.sign(unit) * jnp.where(_first(gain, eps), limit, 0.0)

    def nearest(self, x: Image, gradient: Image, rise: Scalar) -> Image:
        unit, scale = to_unit(gradient)
        limit = room(x, unit)
        gain = jnp.abs(unit) * limit
        # No pixel is changed for what the sum of the others lost by rounding.
        wanted = rise / scale * (1 - 8 * jnp.finfo(x.dtype).eps)
        return jnp.sign(unit) * jnp.where(spend(gain, gain, wanted) > 0, limit, 0.0)

    def least(self, x: Image, weights: Image, eps: Scalar) -> Scalar:
        gain = jnp.abs(weights) * room(x, -weights)
        return clean_value(x, weights) - shared(gain, jnp.ones_like(gain), jnp.floor(eps))


def _first(values: Image, eps: Scalar) -> Bool[Array, " pixels"]:
    """Which pixels have the `eps` largest values; the first of equal ones come first."""
    return spend(values, jnp.ones_like(values), jnp.floor(eps)) > 0
