import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import bounds, case, grey_images, network, predicted, reached

from robust_mnist.attacks import ATTACKS
from robust_mnist.certify import CERTIFIERS, GlobalLipschitz, LocalLipschitz, lipschitz
from robust_mnist.certify._lines import CURVES
from robust_mnist.certify._norms import spectral_norm
from robust_mnist.certify.lipschitz import STEEPEST
from robust_mnist.models import ACTIVATIONS, MLP
from robust_mnist.models.mlp import Dense
from robust_mnist.sweep import certify_batch
from robust_mnist.threat import L1, L2, Linf


both_norms = pytest.mark.parametrize("norm", ["l2", "linf"])


def matrices():
    """Of all shapes and spectra: those with equal singular values are the hardest to bound."""
    rng = np.random.default_rng(0)
    left, right = (
        np.linalg.qr(rng.normal(size=(60, 60)))[0],
        np.linalg.qr(rng.normal(size=(60, 60)))[0],
    )
    yield from (
        rng.normal(size=shape) for shape in ((50, 784), (784, 50), (10, 50), (1, 7), (7, 1))
    )
    yield left
    yield np.outer(left[0], right[0])
    yield left @ np.diag(np.linspace(0.99, 1, 60)) @ right
    yield left @ np.diag(0.8 ** np.arange(60)) @ right
    yield rng.normal(size=(20, 30)) * 1e-12
    yield rng.normal(size=(20, 30)) * 1e9


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_a_spectral_norm_is_at_least_the_largest_singular_value_and_hardly_more(wide):
    with jax.enable_x64(wide):
        compiled = jax.jit(spectral_norm)
        for matrix in matrices():
            stored = jnp.asarray(matrix, jnp.float64 if wide else jnp.float32)
            scale = jnp.linspace(0.5, 2.0, matrix.shape[0], dtype=stored.dtype)
            scaled = np.asarray(scale, np.float64)[:, None] * np.asarray(stored, np.float64)
            exact = np.linalg.svd(scaled, compute_uv=False)[0]
            assert exact <= float(compiled(stored, scale)) <= exact * (1.0005 if wide else 1.01)
        assert float(compiled(jnp.zeros((3, 4)), jnp.ones(3))) < 1e-17


def test_no_slope_is_steeper_than_it_is_said_to_be():
    with jax.enable_x64(True):
        points = jnp.linspace(-20, 20, 400_001)
        for name, most in STEEPEST.items():
            slopes = np.abs(np.asarray(jax.vmap(jax.grad(ACTIVATIONS[name]))(points)))
            assert 0.999 * most < slopes.max() <= most + 1e-15, name


def test_bounds_match_a_network_worked_by_hand():
    """margin = 3 relu(2x - 1) + 0.1 falls by up to 6 per unit at 0.5, and not at all at 0.4."""
    layers = (
        Dense(jnp.array([[2.0]]), jnp.array([-1.0])),
        Dense(jnp.array([[3.0], [0.0]]), jnp.array([0.1, 0.0])),
    )
    model = MLP((1, 1, 2), "relu", key=jax.random.key(0))
    model = jax.tree.unflatten(jax.tree.structure(model), jax.tree.leaves(layers))
    for ball in (L2(), Linf()):
        bound = lambda kind, x, ball=ball: float(
            jax.jit(kind(ball))(model, jnp.array([x]), jnp.array(0), eps=jnp.array(0.05))
        )
        assert bound(GlobalLipschitz, 0.5) == pytest.approx(0.1 - 0.3, abs=1e-3)
        assert bound(LocalLipschitz, 0.5) == pytest.approx(0.1 - 0.3, abs=1e-3)
        assert bound(GlobalLipschitz, 0.4) == pytest.approx(0.1 - 0.3, abs=1e-3)
        assert bound(LocalLipschitz, 0.4) == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("norm", "activation"),
    [
        case(norm, activation, long=(norm, activation) != ("linf", "gelu"))
        for norm in ("l2", "linf")
        for activation in sorted(set(STEEPEST) - set(CURVES))
    ],
)
def test_activations_that_no_other_certifier_knows_are_bounded_soundly(norm, activation, getkey):
    model, images = network(getkey(), activation=activation, gain=1.0), grey_images(getkey(), 8)
    x, y = jnp.asarray(images, jnp.float32) / 255, jnp.asarray(predicted(model, images), jnp.int32)
    certifier, eps = CERTIFIERS[f"lipschitz-global-{norm}"], 0.02
    lowest = reached(ATTACKS[f"pgd40-{norm}"], model, x, y, eps, getkey())
    assert jnp.all(bounds(certifier, model, x, y, eps) <= lowest)
    assert certify_batch(certifier, model, images, np.asarray(y), eps=1e-4).any()


def aligned():
    """A ReLU network whose units are all on and whose layers pull one way: the bound is exact."""
    up, across = np.full(8, 8**-0.5), np.where(np.arange(64) % 2, 0.125, -0.125)
    arrays = [
        np.outer(up, across) * 2, np.full(8, 10.0), np.outer(up, up) * 3, np.zeros(8),
        np.stack([up, -up]), np.zeros(2),
    ]  # fmt: skip
    model = MLP((64, 8, 8, 2), "relu", key=jax.random.key(0))
    stored = [jnp.asarray(array, jnp.float32) for array in arrays]
    return jax.tree.unflatten(jax.tree.structure(model), stored)


@pytest.mark.parametrize("norm", [case("l2"), case("linf", long=True)])
@pytest.mark.parametrize("kind", ["global", "local"])
@pytest.mark.parametrize("short", [1.0, 0.9])
def test_a_constant_that_is_a_tenth_too_small_would_be_caught(norm, kind, short, monkeypatch):
    model, certifier = aligned(), CERTIFIERS[f"lipschitz-{kind}-{norm}"]
    real, derivatives = lipschitz.spectral_norm, lipschitz._derivatives
    monkeypatch.setattr(lipschitz, "spectral_norm", lambda *args: short * real(*args))
    monkeypatch.setattr(lipschitz, "_derivatives", lambda *args: short * derivatives(*args))
    x, y, eps = jnp.full((1, 64), 0.5), jnp.zeros(1, jnp.int32), jnp.array([0.1])
    bound = jax.jit(jax.vmap(lambda x, y, e: certifier(model, x, y, eps=e)))(x, y, eps)
    lowest = reached(ATTACKS[f"pgd40-{norm}"], model, x, y, eps, jax.random.key(0))
    assert bool(bound[0] > lowest[0]) == (short < 1)


def test_norms_without_a_bound_are_refused():
    for kind in (GlobalLipschitz, LocalLipschitz):
        with pytest.raises(TypeError, match="for L2 and Linf, got L1; use CROWN"):
            kind(L1())
