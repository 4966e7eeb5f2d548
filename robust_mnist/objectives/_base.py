"""What training asks of an objective."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.models import AbstractClassifier


class AbstractObjective(eqx.Module):
    """The loss of one image, averaged by the trainer over a batch, plus a penalty per batch."""

    @abc.abstractmethod
    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Loss of image `x` with label `y` at training step `step`, counted from 0."""

    @abc.abstractmethod
    def penalty(self, model: AbstractClassifier, *, step: Int[Array, ""]) -> Float[Array, ""]:
        """What is added to the mean loss once per batch; 0 for most objectives."""
