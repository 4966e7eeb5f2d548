"""Small classifiers with known answers, shared by the tests."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.models.mlp import Dense


class Affine(AbstractClassifier):
    """Logits `weight @ x + bias`: every robust radius has a closed form."""

    weight: Float[Array, "classes pixels"]
    bias: Float[Array, " classes"]

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.weight @ x + self.bias


class Scaled(AbstractClassifier):
    """The same decisions with logits multiplied and shifted."""

    model: AbstractClassifier
    factor: Float[Array, ""]
    shift: Float[Array, ""]

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.factor * self.model(x) + self.shift


def network(key, sizes=(64, 32, 32, 10), activation="tanh", gain=3.0):
    """A random MLP with logits spread enough to have confident and doubtful images."""
    model = MLP(sizes, activation, key=key)
    layers = tuple(Dense(layer.weight * gain, layer.bias) for layer in model.layers)
    return jax.tree.unflatten(jax.tree.structure(model), jax.tree.leaves(layers))


def grey_images(key, count, pixels=64):
    """Random grey levels as stored."""
    return np.asarray(jax.random.randint(key, (count, pixels), 0, 256), np.uint8)


def predicted(model, images):
    """The model's own answers, so that every image starts out right."""
    from robust_mnist.data.pixels import to_float

    return np.asarray(jnp.argmax(jax.vmap(model)(to_float(images)), axis=1), np.uint8)
