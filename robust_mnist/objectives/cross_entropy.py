"""Plain training."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.models import AbstractClassifier
from robust_mnist.objectives._base import AbstractObjective


class CrossEntropy(AbstractObjective):
    """Cross-entropy on the clean image, in nats."""

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        del step, key
        return metrics.cross_entropy(model(x), y)

    def penalty(self, model: AbstractClassifier, *, step: Int[Array, ""]) -> Float[Array, ""]:
        del model, step
        return jnp.zeros(())
