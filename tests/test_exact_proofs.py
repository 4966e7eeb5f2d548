"""Each step of a proof in exact fractions: what rounding takes is covered, and nothing else is cut.

The numbers cancel, so that a step without room for rounding would be wrong about half of the time.
"""

import itertools
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case, network
from test_branch import ball_of

from robust_mnist.certify import SEARCHES, Search, contraction
from robust_mnist.certify._backward import (
    Carried,
    Hidden,
    over_ball,
    through_activation,
    through_layer,
)
from robust_mnist.certify._domains import Ends, Proven
from robust_mnist.certify._lines import Lines
from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.sweep import BranchAndBound, Budget, _branch
from robust_mnist.threat import Linf


TURNS = 60


def exact(array):
    """Floats as fractions."""
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, np.float64))


def wide(rng, *shape):
    """Numbers of both signs and of sizes from 1e-4 to 1e4."""
    return rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 4, shape)


def cancelling(rng, *rows):
    """Numbers whose products with `rows` add up to nearly nothing."""
    values = wide(rng, len(rows[0]))
    values[-1] = -sum(values[:-1] * rows[0][:-1]) / rows[0][-1]
    return values


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def hidden(rng, neurons, below, values):
    """A layer that is bounded at some values below, with no lines yet."""
    weight, bias = wide(rng, neurons, below), wide(rng, neurons)
    size = np.abs(weight) @ np.abs(values) + np.abs(bias)
    none = jnp.zeros((1, neurons))
    return Hidden(
        jnp.asarray(weight), jnp.asarray(bias), jnp.asarray(-size), jnp.asarray(size),
        jnp.asarray(size), Lines(none, none, none, none),
    )  # fmt: skip


def value_of(carried, at):
    """`rows @ at + offset - slack`, exactly."""
    rows, offset, slack = map(exact, carried)
    return rows @ at + offset - slack


def test_a_layer_is_passed_with_room_for_its_rounding():
    rng, tight = np.random.default_rng(0), 0
    step = jax.jit(through_layer)
    for _ in range(TURNS):
        values = wide(rng, 7)
        layer = hidden(rng, 9, 7, values)
        inputs = exact(layer.weight) @ exact(values) + exact(layer.bias)
        rows = cancelling(rng, np.asarray([float(z) for z in inputs]))
        before = Carried(jnp.asarray(rows)[None], jnp.asarray(wide(rng, 1)), jnp.zeros(1))
        after = step(before, layer)
        below, above = value_of(after, exact(values))[0], value_of(before, inputs)[0]
        assert below <= above
        bare = value_of(after._replace(slack=jnp.zeros(1)), exact(values))[0]
        tight += bare > above
    assert tight > TURNS / 4  # without room it would often be wrong


def test_an_activation_is_passed_with_room_for_its_rounding():
    """One that is its own line, so that nothing but rounding lies between both sides."""
    rng, tight = np.random.default_rng(1), 0
    step = jax.jit(through_activation)
    for _ in range(TURNS):
        layer = hidden(rng, 9, 7, wide(rng, 7))
        slope, at = np.abs(wide(rng, 9)), wide(rng, 9)
        line = [jnp.asarray(part)[None] for part in (slope, at, slope, at)]
        layer = layer._replace(lines=Lines(*line))
        inputs = np.asarray(layer.size) * rng.uniform(-1, 1, 9)
        outputs = exact(slope) * exact(inputs) + exact(at)
        rows = cancelling(rng, np.asarray([float(a) for a in outputs]))
        before = Carried(jnp.asarray(rows)[None], jnp.asarray(wide(rng, 1)), jnp.zeros(1))
        after = step(before, layer)
        below, above = value_of(after, exact(inputs))[0], value_of(before, outputs)[0]
        assert below <= above + Fraction(2) ** -52 * sum(
            abs(exact(rows) * exact(slope) * exact(inputs))
        )
        # The rows themselves are rounded, for which the next layer has room: what is left is that
        # of the offset, the sum of many terms.
        moved = exact(after.rows[0]) @ exact(inputs) - (exact(rows) * exact(slope)) @ exact(inputs)
        assert below - moved <= above
        bare = below + exact(after.slack)[0] - moved
        tight += bare > above
    assert tight > TURNS / 4


def test_the_least_over_a_ball_has_room_for_its_rounding():
    """The offset is much larger than what pixels add, which is rounded down by itself."""
    rng, tight = np.random.default_rng(2), 0
    step = jax.jit(lambda carried, x, eps: over_ball(carried, Linf(), x, eps))
    for _ in range(TURNS):
        rows, x, eps = wide(rng, 8), rng.random(8), rng.uniform(0.01, 0.2)
        low = [max(p - Fraction(eps), Fraction(0)) for p in exact(x)]
        high = [min(p + Fraction(eps), Fraction(1)) for p in exact(x)]
        least = sum(min(w * a, w * b) for w, a, b in zip(exact(rows), low, high, strict=True))
        offset = 1e3 * abs(float(least)) * rng.uniform(1, 2)
        value, slack = step(
            Carried(jnp.asarray(rows)[None], jnp.asarray([offset]), jnp.zeros(1)),
            jnp.asarray(x), jnp.asarray(eps),
        )  # fmt: skip
        above = least + Fraction(offset)
        assert exact(value)[0] - exact(slack)[0] <= above
        tight += exact(value)[0] > above
    assert tight > TURNS / 8  # without room it would often be wrong


class Straight:
    """A network that does not bend in the ball, whose least margin is 0 or hardly less.

    Its neurons are at work everywhere, so that it is linear there and its least margin, in exact
    fractions, is that of a corner.
    """

    def __init__(self, rng, far=0.25, constant=False):
        """Neurons have inputs of at least `far`, whose sums nearly cancel in the margin."""
        self.x, self.eps = rng.random(4), 0.1
        first = rng.normal(size=(3, 4))
        first[0] *= not constant
        shift = np.abs(first).sum(axis=1) + far * rng.uniform(1, 2, 3)
        last, bias = rng.normal(size=(2, 3)), np.zeros(2)
        slope = exact(last[0] - last[1]) @ exact(first)
        ends = [
            (max(p - Fraction(self.eps), Fraction(0)), min(p + Fraction(self.eps), Fraction(1)))
            for p in exact(self.x)
        ]  # fmt: skip
        self.corner = np.array(
            [low if w > 0 else high for w, (low, high) in zip(slope, ends, strict=True)]
        )
        self.inputs = exact(first) @ self.corner + exact(shift)
        rows = exact(last)
        least = lambda: (rows[0] - rows[1]) @ self.inputs + Fraction(bias[0]) - Fraction(bias[1])
        bias[0] = -float(least())
        while least() > 0:
            bias[0] = np.nextafter(bias[0], -np.inf)
        assert -Fraction(1, 10**6) < least() <= 0  # next to nothing
        self.least = least()
        like = MLP((4, 3, 2), "relu", key=jax.random.key(0))
        leaves = [jnp.asarray(array) for array in (first, shift, last, bias)]
        self.model = jax.tree.unflatten(jax.tree.structure(like), leaves)
        ends = ball_of(self.model, Linf(), jnp.asarray(self.x), jnp.asarray(self.eps))
        self.whole = Ends(*ends, jnp.zeros(()))

    def proven(self, search, low, high, choices):
        return _proven(search, self.model, self.x, self.eps, self.whole, low, high, choices)

    def first(self, search):
        none, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
        x, eps = jnp.asarray(self.x), jnp.asarray(self.eps)
        return search.first(self.model, x, none, one, eps, self.whole)

    def holds(self, low, high):
        """Whether the corner that is wrong lies between these ends of the neurons' inputs."""
        return np.all((exact(low) <= self.inputs) & (self.inputs <= exact(high)))


@eqx.filter_jit
def _proven(search, model, x, eps, whole, low, high, choices):
    none, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
    x, eps = jnp.asarray(x), jnp.asarray(eps)
    return search.proven(model, x, none, one, eps, whole, low, high, choices)


@pytest.mark.parametrize("constant", [False, True], ids=["live", "constant"])
def test_contracting_keeps_a_wrong_image_to_the_last_digit(constant):
    """Large weights beta multiply what a half-space is off by rounding."""
    rng, search, narrowed = np.random.default_rng(3), SEARCHES["linf"], 0
    for _ in range(TURNS):
        one = Straight(rng, far=1e6, constant=constant)
        low, high = one.whole.low, one.whole.high
        slope = one.first(search)[:3]
        for weight in rng.uniform(-4, 12, 6):
            choices = jnp.concatenate([slope, jnp.full(6, weight)])
            found = one.proven(search, low, high, choices)
            assert Fraction(float(found.bound)) <= one.least  # an infinite one is none
            assert one.holds(found.low, found.high)
            narrowed += bool(jnp.sum(found.high - found.low) < 0.9 * jnp.sum(high - low))
    assert narrowed > TURNS


def test_a_domain_of_no_width_is_not_an_empty_one():
    """A constant neuron's input is one number, and so is one that was cut off from both sides."""
    rng = np.random.default_rng(4)
    for search in (SEARCHES["linf"], Search()):
        for _ in range(10):
            one = Straight(rng, constant=True)
            at = one.model.layers[0].bias[0]
            one.whole = one.whole._replace(
                low=one.whole.low.at[0].set(at), high=one.whole.high.at[0].set(at)
            )
            found = one.proven(search, one.whole.low, one.whole.high, one.first(search))
            assert Fraction(float(found.bound)) <= one.least
            assert one.holds(found.low, found.high)


def test_the_slack_of_a_half_space_is_multiplied_with_it():
    """What is known of wrong images is that `rows @ z + offset - slack` is at most 0."""
    rng = np.random.default_rng(5)
    for _ in range(TURNS):
        one = Straight(rng)
        none, other = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
        x, eps = jnp.asarray(one.x), jnp.asarray(one.eps)
        domain = contraction._Domain.of(
            one.model, Linf(), x, none, other, eps, one.whole, one.whole.low, one.whole.high
        )
        layer = domain.layer(0, domain.low[0], domain.high[0])
        rows, offset, slack = rng.normal(size=3), rng.normal(), rng.uniform(0.1, 1)
        cut = Carried(jnp.asarray(rows)[None], jnp.asarray([offset]), jnp.asarray([slack]))
        weight = rng.uniform(-2, 2)
        value, room = domain.ends(jnp.full(6, weight), cut, layer, [])
        beta = Fraction(float(jnp.exp(weight)))
        for at, sign in itertools.product(range(3), (1, -1)):
            bound = Fraction(float(value[at if sign > 0 else 3 + at])) - Fraction(
                float(room[at if sign > 0 else 3 + at])
            )
            weights = sign * np.eye(3, dtype=int)[at] + beta * exact(rows)
            at_corner = weights @ one.inputs + beta * (Fraction(offset) - Fraction(slack))
            assert bound <= at_corner


def test_narrowed_ends_are_kept_rounded_outwards(getkey, monkeypatch):
    """They are kept in float32, and what lies between that and float64 may be wrong."""
    rng, images = np.random.default_rng(6), 4
    low = rng.normal(size=(images, 5)) - 2
    high = low + rng.uniform(1, 2, low.shape)
    with jax.enable_x64(False):
        model = network(getkey(), sizes=(6, 5, 3))
    none = jnp.zeros((images, 5), jnp.float64)
    balls = _branch.Balls(
        jnp.zeros((images, 6)), jnp.zeros(images, jnp.int32), jnp.asarray(0.1),
        none - 9, none + 9, none + 9, jnp.zeros(()),
    )  # fmt: skip
    nowhere = jnp.full((images, 5), jnp.inf, jnp.float32)
    cuts = _branch.Cuts(-nowhere, nowhere, jnp.zeros((images, 5), jnp.float32))
    image, other = jnp.arange(images, dtype=jnp.int32), jnp.ones(images, jnp.int32)
    for at in range(images):
        told = Proven(jnp.zeros(()), jnp.asarray(low[at]), jnp.asarray(high[at]))
        monkeypatch.setattr(Search, "proven", lambda *_, told=told: told)
        search = Search(steps=1 + at)  # traced anew
        found = _branch._proven(search, model, balls, image, other, cuts, np.array([at]))
        assert found.low.dtype == found.high.dtype == np.float32
        assert np.all(exact(found.low[0]) <= exact(low[at]))
        assert np.all(exact(found.high[0]) >= exact(high[at]))
        np.testing.assert_allclose(np.asarray(found.low[0]), low[at], rtol=1e-6)
        np.testing.assert_allclose(np.asarray(found.high[0]), high[at], rtol=1e-6)


def least_exactly(layers, x, eps, label):
    """The least margin of a ReLU network of one hidden layer on two pixels, in exact fractions.

    It is straight between the lines where a neuron bends, so that it is least where two of them, or
    of the ball's and the box's edges, cross.
    """
    (first, shift), (last, bias) = [tuple(map(exact, pair)) for pair in layers]
    low = [max(p - eps, Fraction(0)) for p in x]
    high = [min(p + eps, Fraction(1)) for p in x]
    lines = [(row[0], row[1], -b) for row, b in zip(first, shift, strict=True)]
    lines += [(Fraction(1), Fraction(0), end) for end in (low[0], high[0])]
    lines += [(Fraction(0), Fraction(1), end) for end in (low[1], high[1])]
    least = None
    for (a, b, e), (c, d, f) in itertools.combinations(lines, 2):
        if not (over := a * d - b * c):
            continue
        z = np.array([(e * d - b * f) / over, (a * f - e * c) / over])
        if not all(lo <= p <= hi for lo, p, hi in zip(low, z, high, strict=True)):
            continue
        logits = last @ np.maximum(first @ z + shift, Fraction(0)) + bias
        margin = min(logits[label] - logits[k] for k in range(len(logits)) if k != label)
        least = margin if least is None else min(least, margin)
    return least


@pytest.mark.parametrize("search", [case(Search(), name="lines"), SEARCHES["linf"]])
@pytest.mark.parametrize("gain", [1.0, case(1e4, long=True)])
def test_branch_and_bound_certifies_up_to_the_exact_radius_and_not_beyond(search, gain):
    rng, decided = np.random.default_rng(7), 0
    for _ in range(6):
        first = (gain * rng.normal(size=(4, 2))).astype(np.float32)
        shift = (-first.sum(axis=1) * rng.uniform(0, 1, 4)).astype(np.float32)
        layers = [(first, shift), (rng.normal(size=(3, 4)).astype(np.float32), np.zeros(3))]
        with jax.enable_x64(False):
            like = MLP((2, 4, 3), "relu", key=jax.random.key(0))
            leaves = [jnp.asarray(array, jnp.float32) for pair in layers for array in pair]
            model = jax.tree.unflatten(jax.tree.structure(like), leaves)
        images = rng.integers(0, 256, (1, 2)).astype(np.uint8)
        x = exact(images[0].astype(np.float32) * np.float32(1 / 255))
        label = int(np.argmax(exact_logits(layers, x)))
        inner, outer = Fraction(0), Fraction(1)
        if least_exactly(layers, x, outer, label) > 0:
            continue
        for _ in range(60):
            middle = (inner + outer) / 2
            safe = least_exactly(layers, x, middle, label) > 0
            inner, outer = (middle, outer) if safe else (inner, middle)
        radius = float(outer)
        wrong = radius if Fraction(radius) >= outer else np.nextafter(radius, 1)
        part = Part(images, np.array([label], np.uint8), np.arange(1))
        with jax.enable_x64(False):
            for eps, right in ((wrong, False), (radius * (1 - 1e-5), True)):
                work = BranchAndBound(search, model, part, eps, batch=8)
                list(work.run(Budget(seconds=60.0, domains=200)))
                assert bool(work.certified[0]) == right, (eps, radius)
        decided += 1
    assert decided >= 3


def exact_logits(layers, z):
    (first, shift), (last, bias) = [tuple(map(exact, pair)) for pair in layers]
    return last @ np.maximum(first @ z + shift, Fraction(0)) + bias
