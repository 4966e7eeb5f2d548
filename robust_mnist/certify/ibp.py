"""Interval bound propagation."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_mnist.certify._backward import margin_rows, worst
from robust_mnist.certify._base import AbstractCertifier
from robust_mnist.certify._intervals import affine, outwards
from robust_mnist.models import ACTIVATIONS, MLP
from robust_mnist.threat import AbstractBall, Linf


class IBP(AbstractCertifier):
    """Intervals of every neuron, carried layer by layer; the last layer bounds margins directly.

    Cheap and loose. Rounding is covered by widening each interval outwards.

    Reference:
        Gowal et al., "On the effectiveness of interval bound propagation for training verifiably
        robust models", 2018. Rounding: Higham, "Accuracy and stability of numerical algorithms",
        section 3.1.
    """

    @property
    def about(self) -> str:
        return f"interval bound propagation (IBP) in {self.ball.title}: a proof, fast and loose"

    @property
    def ball(self) -> AbstractBall:
        return Linf()

    @property
    def activations(self) -> frozenset[str]:
        # Monotone ones: an interval's ends map to the image's ends.
        return frozenset({"tanh", "relu", "sigmoid", "elu", "softplus", "leaky-relu"})

    @property
    def batch(self) -> int:
        return 200  # intervals are small, and what is small is better done all at once

    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        return worst(self.margins(model, x, y, eps=eps), y)

    def margins(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, " classes"]:
        """Lower bounds on the true logit minus each; of the true class itself, 0 but for rounding.

        Args:
            model: As for the call.
            x: The same.
            y: The same.
            eps: The same.
        """
        act = ACTIVATIONS[model.activation]
        low, high = jnp.maximum(x - eps, 0.0), jnp.minimum(x + eps, 1.0)
        for layer in model.layers[:-1]:
            low, high, _ = affine(layer.weight, layer.bias, low, high)
            low, high = outwards(act(low), act(high))
        # One row per wrong class: the difference is bounded, not the two logits apart.
        weight, bias = margin_rows(model, y)
        margins, _, _ = affine(weight, bias, low, high)
        return margins
