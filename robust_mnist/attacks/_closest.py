"""The closest wrong image along the way of a search."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Closest(eqx.Module):
    """The closest wrong image seen so far; the start of the search where there is none.

    Attributes:
        image: That image.
        size: Size of its perturbation; infinite where there is none.
    """

    image: Float[Array, " pixels"]
    size: Float[Array, ""]

    @classmethod
    def none(cls, x: Float[Array, " pixels"]) -> "Closest":
        """Nothing is found yet."""
        return cls(x, jnp.asarray(jnp.inf, x.dtype))

    @property
    def found(self) -> Bool[Array, ""]:
        """Whether a wrong image was seen."""
        return jnp.isfinite(self.size)

    def see(
        self, image: Float[Array, " pixels"], wrong: Bool[Array, ""], size: Float[Array, ""]
    ) -> "Closest":
        """Take note of an image."""
        closer = wrong & (size < self.size)
        return Closest(jnp.where(closer, image, self.image), jnp.where(closer, size, self.size))
