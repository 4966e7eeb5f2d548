import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case, grey_images, network, predicted

from robust_mnist.certify import CERTIFIERS, quadratic
from robust_mnist.certify._backward import hidden_layers, margin_rows
from robust_mnist.certify._lines import CURVES
from robust_mnist.certify.quadratic import Quadratic, _Region
from robust_mnist.models import MLP
from robust_mnist.models.mlp import Dense
from robust_mnist.threat import BALLS, L2, Linf


HEIGHT = 1.0


def two_tents(sizes=(2, 4, 2)):
    """A network of two pixels whose margin is 1 - |d1 + d2| - |d1 - d2|, d from the middle."""
    first = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]], np.float32)
    layers = (
        Dense(jnp.asarray(first), jnp.asarray(-first @ np.full(2, 0.5, np.float32))),
        Dense(
            jnp.asarray([[-1.0] * 4, [0.0] * 4], jnp.float32),
            jnp.asarray([HEIGHT, 0.0], jnp.float32),
        ),
    )
    blank = MLP(sizes, "relu", key=jax.random.key(0))
    return jax.tree.unflatten(jax.tree.structure(blank), jax.tree.leaves(layers))


@eqx.filter_jit
def reached(certifier, model, x, y, eps):
    return jax.vmap(lambda x, y: certifier(model, x, y, eps=jnp.asarray(eps, x.dtype)))(x, y)


def bound(certifier, model, x, y, eps):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        run = jax.jit(lambda x, y, eps: certifier(wide, x, y, eps=eps))
        return float(run(x.astype(np.float64), jnp.asarray(y, jnp.int32), np.float64(eps)))


@pytest.mark.parametrize(
    ("norm", "exact", "curved", "lines"),
    # In Linf the corners reach 2 eps; squares of 4 eps^2 in all allow for 2 sqrt(2) eps. In L2 the
    # ball reaches 2 eps, where the squares are 2 eps^2 and allow for the same.
    [("linf", 2.0, 2 * np.sqrt(2), 4.0), ("l2", 2.0, 2.0, 2 * np.sqrt(2))],
)
def test_neurons_that_exclude_each_other_are_bounded_together(norm, exact, curved, lines):
    model, x, eps = two_tents(), np.full(2, 0.5, np.float32), 0.1
    ends = np.linspace(-eps, eps, 201)
    grid = np.stack(np.meshgrid(ends, ends), -1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, axis=1) <= eps] if norm == "l2" else grid
    logits = np.asarray(jax.vmap(model)(jnp.asarray(x + grid, jnp.float32)))
    reached = float(np.min(logits[:, 0] - logits[:, 1]))
    assert reached == pytest.approx(HEIGHT - exact * eps, abs=2e-3)
    found = bound(Quadratic(BALLS[norm], steps=1000), model, x, 0, eps)
    assert found <= reached
    assert found == pytest.approx(HEIGHT - curved * eps, abs=0.015)
    assert bound(CERTIFIERS[f"crown-{norm}"], model, x, 0, eps) == pytest.approx(
        HEIGHT - lines * eps, abs=5e-3
    )


def test_an_eigenvalue_from_below_would_be_caught(monkeypatch):
    """In L2 the bound above is exact, so that nothing is left for a mistake to hide in."""
    real = quadratic.spectral_norm
    monkeypatch.setattr(quadratic, "spectral_norm", lambda *args: 0.9 * real(*args))
    found = bound(Quadratic(L2(), steps=1000), two_tents(), np.full(2, 0.5, np.float32), 0, 0.1)
    assert found > HEIGHT - 2 * 0.1


@pytest.mark.parametrize("activation", [case(a, long=a not in ("tanh", "relu")) for a in CURVES])
def test_what_a_bent_curve_leaves_is_bounded_from_below(activation, getkey):
    rng, count = np.random.default_rng(0), 400
    low = rng.uniform(-4, 3, count)
    high = low + rng.uniform(0, 4, count) * rng.choice([1.0, 0.01, 0.0], count)
    weight, multiplier = rng.normal(size=(2, count)) * 10.0 ** rng.uniform(-6, 6, count)
    bend = np.abs(weight) * rng.choice([0.0, 1e-3, 0.1, 1.0, 100.0], count)
    centre = rng.uniform(low, high)
    model = network(getkey(), sizes=(4, count, 2), activation=activation)
    x, eps = jnp.full(4, 0.5), jnp.asarray(0.1)
    [layer] = hidden_layers(model, Linf(), x, eps, refine=True)
    layer = layer._replace(low=jnp.asarray(low, jnp.float32), high=jnp.asarray(high, jnp.float32))
    problem = _Region(Linf(), [layer], x, eps, activation)
    given = [np.asarray(array, np.float32) for array in (weight, multiplier, bend, centre)]
    arrays = *map(jnp.asarray, given), layer.low, layer.high
    least = np.asarray(eqx.filter_jit(problem._least)(*arrays))
    weight, multiplier, bend, centre = (array.astype(np.float64) for array in given)
    shares = np.linspace(0, 1, 4001)[:, None]
    ends = (np.asarray(layer.low, np.float64), np.asarray(layer.high, np.float64))
    z = ends[0] + shares * (ends[1] - ends[0])
    with jax.enable_x64(True):
        value = np.asarray(CURVES[activation].value(jnp.asarray(z)))
    tried = weight * value - multiplier * z + bend / 2 * (z - centre) ** 2
    lowest = tried.min(axis=0)
    assert np.all(least <= lowest)
    size = np.abs(weight) + np.abs(multiplier) + bend
    assert np.all(lowest - least <= 2e-3 * size)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), case("l2", 0.5, long=True)])
def test_it_is_closer_than_lines_and_below_what_is_reached(norm, eps, getkey):
    model, images = network(getkey(), sizes=(64, 32, 32, 10)), grey_images(getkey(), 8)
    x = (images / 255).astype(np.float32)
    y = predicted(model, images).astype(np.int32)
    names = (f"alpha-crown20-{norm}", f"quadratic100-{norm}")
    found = [np.asarray(reached(CERTIFIERS[name], model, x, y, eps)) for name in names]
    assert np.all(found[1] >= found[0] - 1e-3)
    assert np.mean(found[1] - found[0]) > 0


def test_no_weights_of_what_lies_below_hide_an_eigenvalue():
    """Weights far from each other underflow in squares, and may take the eigenvalue with them.

    The second hidden neuron says nothing; the first weighs next to nothing beside it.
    """
    arrays = [
        np.array([[1.0], [0.0]]), np.array([0.0, -1.0]), np.array([[0.9, 0.0]]), np.array([-0.45]),
        np.array([[-1.0], [0.0]]), np.zeros(2),
    ]  # fmt: skip
    with jax.enable_x64(True):
        blank = MLP((1, 2, 1, 2), "relu", key=jax.random.key(0))
        leaves = [jnp.asarray(array, jnp.float64) for array in arrays]
        model = jax.tree.unflatten(jax.tree.structure(blank), leaves)
        x, eps = jnp.full(1, 0.5, jnp.float64), jnp.asarray(0.1, jnp.float64)
        layers = hidden_layers(model, Linf(), x, eps, refine=True)
        rows, offsets = margin_rows(model, jnp.zeros((), jnp.int32))
        region = _Region(Linf(), layers, x, eps, "relu")
        proven = jax.jit(lambda bends: region.proven(rows[1], offsets[1], bends))
        for apart in (0, 50, 300, 600, 700, 708, 709, 709.5, 720):
            for curved, slope in itertools.product((10, 1, 0.1, 0.01), (0, 0.5, 1)):
                chosen = [[0, 0], [-30, -30], [0]], [[slope], [np.log(curved)], [-apart, 0]]
                bends = [
                    quadratic._Bend(*(jnp.asarray(part, jnp.float64) for part in parts))
                    for parts in chosen
                ]
                # The least margin, at the end of the ball.
                assert proven(bends) <= -0.09


def test_a_layer_that_says_nothing_leaves_a_bound_that_is_none_the_worse(getkey):
    model = network(getkey(), sizes=(6, 5, 5, 3), activation="relu")
    model = eqx.tree_at(lambda m: m.layers[0].bias, model, jnp.full(5, -10.0))
    names = ("quadratic100-l2", "crown-l2")
    x = np.full(6, 0.5, np.float32)
    found, crown = (bound(CERTIFIERS[name], model, x, 0, 0.1) for name in names)
    assert np.isfinite(found)
    assert found >= crown - 1e-12


def test_a_norm_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="linf, l2 or l1, got l0"):
        Quadratic(BALLS["l0"])


def test_a_search_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="at least one step, got steps=0"):
        Quadratic(steps=0)
