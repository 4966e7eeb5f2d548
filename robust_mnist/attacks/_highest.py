"""The image of the highest loss along the way of a search."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Highest(eqx.Module):
    """The image of the highest loss seen so far; a wrong one comes before any right one.

    The loss alone would not do. Cross-entropy may be higher where three classes share the
    probability and the true one leads than where the true one comes second to a single other: a
    search that passed through the wrong image would answer with the right one.

    Attributes:
        image: That image.
        value: Its loss.
        wrong: Whether the classifier is wrong there.
    """

    image: Float[Array, " pixels"]
    value: Float[Array, ""]
    wrong: Bool[Array, ""]

    def see(
        self, image: Float[Array, " pixels"], value: Float[Array, ""], wrong: Bool[Array, ""]
    ) -> "Highest":
        """Take note of an image."""
        better = (wrong & ~self.wrong) | ((wrong == self.wrong) & (value > self.value))
        return Highest(
            jnp.where(better, image, self.image),
            jnp.where(better, value, self.value),
            self.wrong | wrong,
        )
