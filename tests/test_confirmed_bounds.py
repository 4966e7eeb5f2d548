"""Bounds in float64, in which every certificate is given, and intervals of hidden neurons."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case, grey_images, network, predicted
from test_certify import NORMS, meetings

from robust_mnist import metrics
from robust_mnist.attacks import ATTACKS
from robust_mnist.certify import CERTIFIERS, rounding
from robust_mnist.certify._backward import hidden_layers
from robust_mnist.data.pixels import to_float
from robust_mnist.models import ACTIVATIONS
from robust_mnist.sweep import attack_batch, certify_batch
from robust_mnist.sweep._driver import widened
from robust_mnist.sweep._proofs import _bound, least_bound
from robust_mnist.threat import BALLS


# One of every run, and not the one that `test_certify.py` asks of float32 each time.
OFTEN = {("linf", "relu"), ("l2", "tanh")}
MEETINGS = [
    case(*meeting.values, long=tuple(meeting.values) not in OFTEN) for meeting in meetings(*NORMS)
]


@eqx.filter_jit
def answers(attack, model, x, y, eps, key):
    return attack_batch(attack, model, x, y, ids=jnp.arange(len(x)), eps=eps, key=key)


def moved_inside(norm, z, x, eps):
    """Images in float64 that are in ball and box for certain: the change is shortened."""
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    change = z.astype(np.float64) - x
    size = np.linalg.norm(change, ord=order, axis=1)
    share = np.minimum(1.0, eps * (1 - 1e-9) / np.maximum(size, 1e-300))
    return np.clip(x + share[:, None] * change, 0.0, 1.0)


@pytest.mark.parametrize(("norm", "activation"), MEETINGS)
def test_no_attack_gets_below_a_margin_that_is_certified_in_float64(norm, activation, getkey):
    known = {
        name: certifier for name, certifier in CERTIFIERS.items()
        if certifier.ball.name == norm and activation in certifier.activations
    }  # fmt: skip
    images = grey_images(getkey(), 8)
    images[4:] = np.where(images[4:] > 127, 255, 0)
    x, certified = to_float(images).astype(np.float64), 0
    for gain in (0.7, 1.5, 3.0):
        model = network(getkey(), sizes=(64, 24, 24, 10), activation=activation, gain=gain)
        y = predicted(model, images)
        for eps in (0.0, 0.003, 0.1, 1.0, 1000.0):
            radius = np.full(8, eps)
            z = answers(
                ATTACKS[f"pgd40-{norm}"], model, to_float(images), y.astype(np.int32),
                radius.astype(np.float32), getkey(),
            )  # fmt: skip
            inside = moved_inside(norm, np.asarray(z), x, eps)
            with jax.enable_x64(True):
                wide, labels = widened(model), y.astype(np.int32)
                margins = np.asarray(
                    jax.vmap(lambda z, y, m=wide: metrics.margin(m(z), y))(inside, labels)
                )
                found = {
                    name: np.asarray(_bound(certifier, wide, x, labels, radius))
                    for name, certifier in known.items()
                }
            for name, bound in found.items():
                assert bound.dtype == margins.dtype == np.float64
                assert np.all(bound <= margins + rounding(model)), (name, gain, eps)
                holds = certify_batch(known[name], model, images, y, eps=eps, chunk=8)
                assert np.array_equal(holds, bound > least_bound(model)), (name, gain, eps)
                assert not np.any(holds & (margins <= 0)), (name, gain, eps)
                certified += int(holds.sum())
    assert certified > 0


@pytest.mark.parametrize("refine", [False, True], ids=["intervals", "backwards"])
@pytest.mark.parametrize(
    ("norm", "eps", "activation"),
    [
        ("linf", 0.1, "tanh"), ("l2", 0.7, "relu"), case("linf", 0.1, "relu", long=True),
        case("l1", 2.0, "sigmoid", long=True), case("l1", 1.0, "relu", long=True),
    ],
)  # fmt: skip
def test_hidden_neurons_stay_within_their_intervals(norm, eps, activation, refine, getkey):
    """At 10,000 images of ball and box, and where each neuron alone is driven to its ends."""
    ball = BALLS[norm]
    narrow = network(getkey(), sizes=(64, 24, 24, 24, 10), activation=activation, gain=1.5)
    images = grey_images(getkey(), 4)
    images[2:] = np.where(images[2:] > 127, 255, 0)
    bound = jax.jit(lambda x, e: hidden_layers(narrow, ball, x, e, refine=refine))
    with jax.enable_x64(True):
        model, radius = widened(narrow), jnp.asarray(eps, jnp.float64)

    def inputs(z):
        found = []
        for layer in model.layers[:-1]:
            found.append(layer(z))
            z = ACTIVATIONS[activation](found[-1])
        return jnp.concatenate(found)

    @jax.jit
    def reached(x, key):
        keys = jax.random.split(key, 10_000)
        inner = x[None] + jax.vmap(lambda key: ball.sample(key, 64, radius))(keys[:5_000])
        ways = jax.vmap(lambda key: jax.random.normal(key, (64,), x.dtype))(keys[5_000:])
        slopes = jax.jacrev(inputs)(x)
        ways = jnp.concatenate([ways, slopes, -slopes])
        ends = x[None] + jax.vmap(lambda way: ball.ascend(x, way, radius))(ways)
        found = jax.vmap(inputs)(jnp.clip(jnp.concatenate([inner, ends]), 0.0, 1.0))
        return jnp.min(found, axis=0), jnp.max(found, axis=0)

    for image in to_float(images):
        layers = bound(jnp.asarray(image), jnp.asarray(eps, jnp.float32))
        low, high = (
            np.concatenate([np.asarray(getattr(layer, end), np.float64) for layer in layers])
            for end in ("low", "high")
        )
        with jax.enable_x64(True):
            least, most = map(np.asarray, reached(jnp.asarray(image, jnp.float64), getkey()))
        assert np.all(low <= least)
        assert np.all(most <= high)
        # The first layer is bounded closely in every norm, so that nothing wrong could hide.
        assert np.all((most - least)[:24] >= 0.9 * (high - low)[:24])
