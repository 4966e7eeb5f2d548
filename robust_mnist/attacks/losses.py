"""What an attack ascends. Each loss is a value: swap it with the field `loss=`."""

import abc
import re

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_mnist import metrics


class AbstractLoss(eqx.Module):
    """A score of logits that grows as the classifier does worse."""

    @abc.abstractmethod
    def __call__(self, logits: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
        """The score of one image whose true class is `y`."""


def words(loss: AbstractLoss) -> str:
    """The name of a loss in a sentence: `cross-entropy`, `margin`, `DLR`."""
    name = type(loss).__name__
    return name if name.isupper() else re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


class Margin(AbstractLoss):
    """Largest wrong logit minus the true one: above 0 where the classifier is wrong.

    It does not underflow, however confident the network is: its gradient is that of two logits.
    """

    def __call__(self, logits: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
        return -metrics.margin(logits, y)


class CrossEntropy(AbstractLoss):
    """Cross-entropy in nats; its gradient underflows to 0 on confident networks."""

    def __call__(self, logits: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
        return metrics.cross_entropy(logits, y)


class RescaledCrossEntropy(AbstractLoss):
    """Cross-entropy of logits divided by their spread, which keeps the softmax from saturating.

    The spread, from the largest to the third largest logit, counts as a constant: neither the
    scale nor a shift of the logits changes the direction of the gradient.
    """

    def __call__(self, logits: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
        largest, _, third = jax.lax.top_k(logits, 3)[0]
        spread = jax.lax.stop_gradient(largest - third)
        # The largest is taken away first: far from 0, the quotient would lose digits of the rest.
        logits = logits - jax.lax.stop_gradient(largest)
        return metrics.cross_entropy(logits / jnp.where(spread > 0, spread, 1.0), y)


class DLR(AbstractLoss):
    """Difference of logits ratio: the margin over the spread of the largest three logits.

    Neither the scale nor a shift of the logits changes it.

    Reference:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020, equation 6.
    """

    def __call__(self, logits: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
        largest, _, third = jax.lax.top_k(logits, 3)[0]
        return -metrics.margin(logits, y) / (largest - third + 1e-12)


class Toward(AbstractLoss):
    """One wrong logit minus the true one: the margin with its class fixed.

    Attributes:
        target: Class to reach, other than the true one.
    """

    target: Int[Array, ""]

    def __call__(self, logits: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
        return metrics.logit_of(logits, self.target) - metrics.logit_of(logits, y)


class TargetedDLR(AbstractLoss):
    """`Toward` over the spread of the largest four logits.

    Reference:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020, equation 7.

    Attributes:
        target: Class to reach, other than the true one.
    """

    target: Int[Array, ""]

    def __call__(self, logits: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
        first, _, third, fourth = jax.lax.top_k(logits, 4)[0]
        return Toward(self.target)(logits, y) / (first - (third + fourth) / 2 + 1e-12)
