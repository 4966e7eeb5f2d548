import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import grey_images

from robust_mnist import checkpoint, training
from robust_mnist.certify import CERTIFIERS
from robust_mnist.config import TrainSettings
from robust_mnist.data import Part
from robust_mnist.models import MLP, Orthonormal, kept
from robust_mnist.models.orthonormal import orthonormal
from robust_mnist.sweep import certified_radii


SHAPES = [(50, 784), (784, 50), (50, 50), (10, 50), (1, 5)]


def spectrum(weight):
    """Exact singular values: a decomposition in float64."""
    return np.linalg.svd(np.asarray(weight, np.float64), compute_uv=False)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-6, 0.05, 1.0, 30.0, 1e3])
def test_whatever_the_variables_are_all_singular_values_are_one(shape, scale, getkey):
    found = spectrum(jax.jit(orthonormal)(scale * jax.random.normal(getkey(), shape)))
    assert found.max() <= 1 + 1e-6
    assert found.min() >= 1 - 1e-5


def test_an_orthonormal_matrix_can_be_any_rotation_near_it(getkey):
    """Variables of a small turn give that turn: the map is no constant, and has a gradient."""
    turn = jax.random.normal(getkey(), (6, 6)) * 1e-3
    found = jax.jit(orthonormal)(turn)
    # (I + A)^-1 (I - A) = I - 2 A + O(A^2) for A = U - U^T.
    assert jnp.allclose(found, jnp.eye(6) - 2 * (turn - turn.T), atol=1e-4)
    slope = jax.jit(jax.grad(lambda free: jnp.sum(orthonormal(free) * turn)))(jnp.zeros((6, 6)))
    assert jnp.allclose(slope, -2 * (turn - turn.T), atol=1e-4)


@pytest.fixture(scope="module")
def trained():
    """Two small networks after steps so long that nothing is left of the initial weights."""
    images, labels = grey_images(jax.random.key(1), 200, 784), np.arange(200) % 10
    part = Part(images, labels.astype(np.uint8), np.arange(200))
    settings = TrainSettings(
        model="orthonormal", activation="abs", sizes=(784, 20, 16, 10), epochs=40, batch_size=50,
        record_every=40, learning_rate=0.05, seeds=2,
    )  # fmt: skip
    return settings, training.train(settings, part, part), part


@pytest.mark.long
def test_trained_networks_stay_1_lipschitz_and_learn(trained):
    settings, found, _ = trained
    (start,) = jax.tree.leaves(
        eqx.filter(training.initialise(settings).model.free.layers[1].weight, eqx.is_array)
    )
    for index, model in enumerate(found.models):
        assert isinstance(model, MLP)
        for layer in model.layers:
            assert spectrum(layer.weight).max() <= 1 + 1e-6
        assert not np.allclose(orthonormal(start[index]), model.layers[1].weight, atol=0.1)
    # Noise with random labels, learnt as far as slopes of 1 allow.
    assert found.history[-1]["train_cross_entropy"] < 2.2


def test_a_saved_network_is_the_trained_one_bit_by_bit(trained, tmp_path):
    settings, found, _ = trained
    about = dataclasses.asdict(settings)
    checkpoint.save_model(tmp_path / "net.safetensors", found.models[0], about)
    loaded = checkpoint.load_model(tmp_path / "net.safetensors")
    assert eqx.tree_equal(loaded, found.models[0])
    assert max(spectrum(layer.weight).max() for layer in loaded.layers) <= 1 + 1e-6


def test_a_model_and_what_is_kept_of_it_give_the_same_logits(getkey):
    model, x = Orthonormal((784, 20, 10), key=getkey()), jax.random.uniform(getkey(), (784,))
    assert jnp.allclose(model(x), kept(model)(x), atol=1e-5)
    plain = MLP((784, 10), key=getkey())
    assert kept(plain) is plain


def test_the_certificate_is_the_margin_over_the_square_root_of_two(trained):
    _, found, part = trained
    model = found.models[0]
    logits = np.asarray(jax.vmap(model)(jnp.asarray(part.images, jnp.float32) / 255), np.float64)
    labels = logits.argmax(axis=1)
    ordered = np.sort(logits, axis=1)
    expected = (ordered[:, -1] - ordered[:, -2]) / np.sqrt(2)
    certifier = CERTIFIERS["lipschitz-global-l2"]
    radii = certified_radii(certifier, model, part.images, labels, largest=4.0, gap=0.01)
    clear = expected > 0.01
    assert clear.any()
    assert np.allclose(radii[clear], expected[clear], rtol=0.01, atol=5e-3)
    assert np.all(radii <= expected * (1 + 1e-5))


def test_no_pair_of_images_moves_the_logits_farther_than_they_lie_apart(trained, getkey):
    _, found, _ = trained
    x, z = jax.random.uniform(getkey(), (2, 500, 784))
    z = x + (z - x) * jnp.logspace(-3, 0, 500)[:, None]
    apart = lambda ours, theirs: jnp.linalg.norm(ours - theirs, axis=1)
    moved = apart(jax.vmap(found.models[1])(x), jax.vmap(found.models[1])(z))
    assert jnp.all(moved <= apart(x, z) * (1 + 1e-5) + 1e-5)
