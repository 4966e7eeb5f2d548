"""What the suite asks of a classifier."""

import abc

import equinox as eqx
import jax
from jaxtyping import Array, Float


class AbstractClassifier(eqx.Module):
    """A map from one flattened image, pixels in [0, 1], to logits."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        """Logits: any real numbers, not probabilities."""

    def probabilities(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        """Softmax of the logits: each in [0, 1], their sum 1."""
        return jax.nn.softmax(self(x))
