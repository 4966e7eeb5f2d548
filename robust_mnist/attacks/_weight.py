"""The weight of a margin beside a distance, found by bisection."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Weight(eqx.Module):
    """Grows tenfold until it suffices, then is halved between what did and what did not.

    Attributes:
        value: What to try.
        low: Largest weight that did not suffice.
        high: Smallest weight that did; infinite before one did.
    """

    value: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]

    @classmethod
    def first(cls, value: float, dtype: jnp.dtype) -> "Weight":
        """Nothing is known yet."""
        return cls(*(jnp.asarray(number, dtype) for number in (value, 0.0, jnp.inf)))

    def after(self, found: Bool[Array, ""]) -> "Weight":
        """The next weight, after a search that found a wrong image or did not."""
        low = jnp.where(found, self.low, jnp.maximum(self.low, self.value))
        high = jnp.where(found, jnp.minimum(self.high, self.value), self.high)
        return Weight(jnp.where(jnp.isfinite(high), (low + high) / 2, self.value * 10), low, high)
