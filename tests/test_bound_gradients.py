"""Gradients by which bounds are optimised, against differences of the bounds themselves.

All in float64, and at random choices: no difference of the length taken here meets a kink.
"""

import contextlib

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax.test_util import check_grads
from problems import case, grey_images, network, predicted

from robust_mnist.certify._backward import hidden_layers, lowest, margin_rows
from robust_mnist.certify._domains import Problem
from robust_mnist.certify.alpha_crown import _moved
from robust_mnist.certify.quadratic import _Region
from robust_mnist.threat import BALLS


AGREE = {"order": 1, "modes": ["rev"], "eps": 1e-6, "atol": 1e-6, "rtol": 1e-5}
EPS = {"linf": 0.1, "l2": 0.8, "l1": 2.0}
every_meeting = pytest.mark.parametrize(
    ("norm", "activation"),
    [
        case("linf", "tanh"), case("l2", "relu"), case("linf", "relu", long=True),
        case("l1", "tanh", long=True),
    ],
)  # fmt: skip


@contextlib.contextmanager
def bounded(norm, activation, key):
    """In float64: a network, an image, its radius and hidden layers, and the margin to a class."""
    with jax.enable_x64(True):
        narrow = network(key, sizes=(64, 12, 12, 10), activation=activation)
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), narrow)
        images = grey_images(key, 1)
        y = int(predicted(narrow, images)[0])
        x, eps = jnp.asarray(images[0] / 255), jnp.asarray(EPS[norm], jnp.float64)
        find = eqx.filter_jit(lambda m, x, e: hidden_layers(m, BALLS[norm], x, e, refine=True))
        rows, offsets = margin_rows(model, jnp.asarray(y, jnp.int32))
        other = (y + 1) % 10
        yield model, x, eps, find(model, x, eps), rows[other], offsets[other]


def shifted(key, tree, scale):
    """The numbers of a tree, each moved at random."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    move = lambda key, leaf: leaf + scale * jax.random.normal(key, leaf.shape, leaf.dtype)
    return jax.tree.unflatten(structure, list(map(move, keys, leaves)))


@every_meeting
def test_alpha_crown_climbs_along_its_gradient(norm, activation, getkey):
    with bounded(norm, activation, getkey()) as (_, x, eps, layers, row, offset):

        @jax.jit
        def bound(moves):
            moved = [_moved(activation, *pair) for pair in zip(layers, moves, strict=True)]
            return lowest(row[None], offset[None], moved, BALLS[norm], x, eps)[0]

        none = [jnp.zeros((2, 1, layer.bias.size)) for layer in layers]
        # In L1 a price is found by a few halvings, and counts as if it never changed.
        near = {"rtol": 0.05} if norm == "l1" else {}
        check_grads(bound, (shifted(getkey(), none, 0.1),), **(AGREE | near))


@every_meeting
def test_the_quadratic_bound_climbs_along_its_gradient(norm, activation, getkey):
    """With eigenvectors that have settled: by how they would turn, an eigenvalue changes little."""
    with bounded(norm, activation, getkey()) as (_, x, eps, layers, row, offset):
        problem = _Region(BALLS[norm], layers, x, eps, activation)
        estimate = eqx.filter_jit(problem.estimate)
        bends = shifted(getkey(), problem.start(row), 0.1)
        vectors = shifted(getkey(), [jnp.zeros_like(layer.bias) for layer in layers], 1.0)
        for _ in range(500):
            _, vectors = estimate(row, offset, bends, vectors)
        check_grads(lambda bends: estimate(row, offset, bends, vectors)[0], (bends,), **AGREE)


@every_meeting
def test_the_search_in_a_domain_climbs_along_its_gradient(norm, activation, getkey):
    """Written out by hand, from the minimisers."""
    with bounded(norm, activation, getkey()) as (model, x, eps, layers, row, offset):
        low, high = (jnp.concatenate([getattr(a, end) for a in layers]) for end in ("low", "high"))
        # Some neurons were cut off above, as in a domain.
        high = jnp.where(jnp.arange(high.size) % 3 == 0, (low + high) / 2, high)
        problem = Problem(model, BALLS[norm], row, offset, x, eps)
        slope = jax.random.uniform(getkey(), low.shape, low.dtype)

        @jax.jit
        def solved(slope):
            found = problem.minimise(low, high, slope)
            return found.bound, problem.ascent(slope, found)[0]

        _, rise = solved(slope)
        for key in jax.random.split(getkey(), 8):
            along = jax.random.normal(key, slope.shape, slope.dtype)
            above, below = (float(solved(slope + step * along)[0]) for step in (1e-6, -1e-6))
            expected = pytest.approx(float(rise @ along), rel=1e-5, abs=1e-6)
            assert (above - below) / 2e-6 == expected
