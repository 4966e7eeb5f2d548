"""Interval bound propagation."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_mnist.certify._base import AbstractCertifier
from robust_mnist.models import ACTIVATIONS, MLP
from robust_mnist.threat import AbstractBall, Linf


class IBP(AbstractCertifier):
    """Intervals of every neuron, carried layer by layer; the last layer bounds margins directly.

    Cheap and loose. Rounding is covered by widening each interval outwards: a dot product of n
    terms summed in any order is off by at most n u sum |w_i x_i| (1 + O(n u)), u half a unit in the
    last place; twice that covers the higher-order terms, the bias and the activation's own error.

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

    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        act = ACTIVATIONS[model.activation]
        low, high = jnp.maximum(x - eps, 0.0), jnp.minimum(x + eps, 1.0)
        for layer in model.layers[:-1]:
            low, high = _affine(layer.weight, layer.bias, low, high)
            low, high = _outwards(act(low), act(high))
        last = model.layers[-1]
        # One row per wrong class: the difference is bounded, not the two logits apart.
        weight, bias = last.weight[y][None] - last.weight, last.bias[y] - last.bias
        margins, _ = _affine(weight, bias, low, high)
        return jnp.min(jnp.where(jnp.arange(bias.size, dtype=y.dtype) == y, jnp.inf, margins))


def _affine(weight: Array, bias: Array, low: Array, high: Array) -> tuple[Array, Array]:
    centre, radius = (low + high) / 2, (high - low) / 2
    middle = weight @ centre + bias
    magnitude = jnp.abs(weight)
    spread = magnitude @ radius
    slack = (
        2 * (weight.shape[1] + 4) * jnp.finfo(weight.dtype).eps
        * (magnitude @ jnp.maximum(jnp.abs(low), jnp.abs(high)) + jnp.abs(bias))
    )  # fmt: skip
    return middle - spread - slack, middle + spread + slack


def _outwards(low: Array, high: Array) -> tuple[Array, Array]:
    # XLA's activations are accurate to a few units in the last place; 16 is a wide margin.
    slack = 16 * jnp.finfo(low.dtype).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
    return low - slack, high + slack
