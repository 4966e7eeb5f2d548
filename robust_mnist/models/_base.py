"""What the suite asks of a classifier."""

import abc

import equinox as eqx
import jax
from jaxtyping import Array, Float


class AbstractClassifier(eqx.Module):
    """A map from one flattened image, pixels in [0, 1], to logits.

    Images are attacked in float32 and judged in float64, with all real arrays of the model widened;
    what it computes with besides should take the type of the image.
    """

    @abc.abstractmethod
    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        """Logits: any real numbers, not probabilities."""

    def probabilities(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        """Softmax of the logits: each in [0, 1], their sum 1."""
        return jax.nn.softmax(self(x))


class AbstractParametrised(AbstractClassifier):
    """A classifier that is trained in other variables than those of the network it amounts to."""

    @abc.abstractmethod
    def network(self) -> AbstractClassifier:
        """That network, which gives the same logits."""


def kept(model: AbstractClassifier) -> AbstractClassifier:
    """What is left of a model after its training: what is saved, attacked and certified.

    Nothing then depends on how weights came about, and a file holds those that really multiply.
    """
    return model.network() if isinstance(model, AbstractParametrised) else model
