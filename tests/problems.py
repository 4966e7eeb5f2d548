"""Small classifiers with known answers, shared by the tests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from robust_mnist import metrics
from robust_mnist.certify import CERTIFIERS
from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.models.mlp import Dense


def case(*values, long=False, name=None):
    """A case of a parametrized test; a long one is of `nox -s oracles` alone."""
    return pytest.param(*values, marks=[pytest.mark.long] if long else [], id=name)


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


# Compiled once for all tests of a file, as long as they keep to one size of batch and of network: a
# test that changes what is traced has to trace for itself.


def bounds(certifier, model, x, y, eps):
    """What a certifier promises for each image at its radius, or at one for all."""
    return _bounds({"": certifier}, model, x, y.astype(np.int32), _each(eps, x))[""]


def promises(norm, model, x, y, eps):
    """The same of every certifier that knows the network, by name.

    In one program: most of them begin alike, and it compiles in half the time of all their own.
    """
    known = {
        name: certifier for name, certifier in CERTIFIERS.items()
        if certifier.ball.name == norm and model.activation in certifier.activations
    }  # fmt: skip
    return _bounds(known, model, x, y.astype(np.int32), _each(eps, x))


@eqx.filter_jit
def _bounds(certifiers, model, x, y, eps):
    return {
        name: jax.vmap(lambda x, y, e, c=certifier: c(model, x, y, eps=e))(x, y, eps)
        for name, certifier in certifiers.items()
    }


def reached(attack, model, x, y, eps, key):
    """The margin to which an attack brings each image within its radius."""
    return _reached(attack, model, x, y.astype(np.int32), _each(eps, x), key)


@eqx.filter_jit
def _reached(attack, model, x, y, eps, key):
    from robust_mnist.sweep import attack_batch

    z = attack_batch(attack, model, x, y, ids=jnp.arange(x.shape[0]), eps=eps, key=key)
    return jax.vmap(lambda z, y: metrics.margin(model(z), y))(z, y)


def _each(eps, images):
    """One radius per image, of one type: another would be another program."""
    return jnp.asarray(np.broadcast_to(np.asarray(eps, np.float32), images.shape[:1]))


def exact_radius(norm, model, x, y):
    """Smallest change within the box that makes an `Affine` classifier wrong, in float64."""
    weight, x = np.asarray(model.weight, np.float64), np.asarray(x, np.float64)
    logits = weight @ x + np.asarray(model.bias, np.float64)
    radii = []
    for other in range(len(logits)):
        if other != y:
            slope, gap = weight[other] - weight[y], logits[y] - logits[other]
            radii.append(_radius(norm, np.abs(slope), np.where(slope > 0, 1 - x, x), gap))
    return min(radii)


def _radius(norm, slope, room, gap):
    if np.sum(slope * room) < gap:
        return np.inf
    if norm in {"l1", "l0"}:
        # Greedy: by gain per unit of L1, or by the whole gain of a pixel.
        order = np.argsort(-slope if norm == "l1" else -slope * room)
        gains = (slope * room)[order]
        before = np.cumsum(gains) - gains
        used = np.clip((gap - before) / np.maximum(gains, 1e-300), 0, 1)
        return float(np.sum(used * room[order])) if norm == "l1" else float(np.sum(used > 0))
    change = lambda t: np.minimum(t if norm == "linf" else t * slope, room)
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope @ change(middle) < gap else (low, middle)
    return float(high if norm == "linf" else np.linalg.norm(change(high)))
