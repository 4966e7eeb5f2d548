"""Multilayer perceptron."""

from collections.abc import Callable
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from robust_mnist.errors import InputError, unknown
from robust_mnist.models._base import AbstractClassifier


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "leaky-relu": jax.nn.leaky_relu,
    "abs": jnp.abs,
}


class Dense(eqx.Module):
    """An affine layer, its weight laid out as PyTorch's `Linear`.

    Attributes:
        weight: Shape (out, in).
        bias: Shape (out,).
    """

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        return self.weight @ x + self.bias


class MLP(AbstractClassifier):
    """Dense layers with one activation between them and none after the last.

    Weights start Glorot-normal, biases at zero.

    Reference:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
        networks", AISTATS 2010.

    Attributes:
        layers: From the pixels to the logits.
        activation: Name in `ACTIVATIONS`; kept as a name so that a file can say it.
    """

    layers: tuple[Dense, ...]
    activation: str = eqx.field(static=True)

    def __init__(
        self, sizes: tuple[int, ...], activation: str = "tanh", *, key: PRNGKeyArray
    ) -> None:
        """Draw the initial weights.

        Args:
            sizes: Width of every layer, input and output included, each at least 1.
            activation: Name in `ACTIVATIONS`.
            key: Randomness of the weights.

        Raises:
            InputError: Fewer than two sizes, a width below 1, or an unknown activation.
        """
        if len(sizes) < 2 or min(sizes) < 1:
            raise InputError(f"an MLP needs at least two widths, each at least 1, got {sizes}")
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        glorot = jax.nn.initializers.glorot_normal(in_axis=1, out_axis=0)
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            Dense(glorot(layer_key, (outs, ins), jnp.float32), jnp.zeros(outs, jnp.float32))
            for layer_key, (ins, outs) in zip(keys, pairwise(sizes), strict=True)
        )
        self.activation = activation

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        act = ACTIVATIONS[self.activation]
        for layer in self.layers[:-1]:
            x = act(layer(x))
        return self.layers[-1](x)
