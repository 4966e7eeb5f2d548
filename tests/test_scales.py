"""Proofs about networks of any scale: no square, product or weight that underflows makes one false.

The truth comes from numpy's long double, whose exponents reach 4932 where those of float64 end at
308, on a dense grid of images of two pixels.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case

from robust_mnist.certify import CERTIFIERS, SEARCHES, exact_margin, rounding
from robust_mnist.certify._domains import Explored
from robust_mnist.certify._norms import length, spectral_norm
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.models import ACTIVATIONS, MLP
from robust_mnist.sweep import BranchAndBound, Budget, _branch, certify_batch, judge_batch
from robust_mnist.sweep._driver import widened
from robust_mnist.sweep._frontier import Cuts
from robust_mnist.threat import BALLS


pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).maxexp < 16384, reason="long double is float64 on this machine"
)

Exact = np.longdouble
NETWORKS, IMAGES, EPS = 48, 2, (1e-3, 0.15)
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
# Every norm meets every activation; depths and numbers of classes take turns.
CASES = [
    (norm, activation, 1 + (at + 4) % 5, 2 + (5 * at) % 11)
    for at, (norm, activation) in enumerate(itertools.product(ORDERS, ACTIVATIONS))
    if any(c.ball.name == norm and activation in c.activations for c in CERTIFIERS.values())
]
OFTEN = {("linf", "tanh"), ("l2", "relu")}


def exactly(name, z):
    """An activation in long double."""
    # No larger exponent is needed, and none overflows.
    sigmoid = lambda z: 1 / (1 + np.exp(np.minimum(-z, 11_000)))
    return {
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0),
        "sigmoid": sigmoid,
        # 1 + tanh(u), without cancellation, is 2 sigmoid(2 u).
        "gelu": lambda z: z * sigmoid(
            np.sqrt(8 / Exact(np.pi)) * (z + Exact(0.044715) * z**3)
        ),
        "silu": lambda z: z * sigmoid(z),
        "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
        "leaky-relu": lambda z: np.where(z > 0, z, Exact(0.01) * z),
        "abs": np.abs,
    }[name](z)  # fmt: skip


def logits_of(activation, layers, images):
    """Logits in long double of the float32 weights `layers`."""
    z = images
    for number, (weight, bias) in enumerate(layers, start=1):
        z = z @ weight.astype(Exact).T + bias.astype(Exact)
        z = exactly(activation, z) if number < len(layers) else z
    return z


def scaled(rng, sizes):
    """Layers of float32, each of a scale of its own, with what real networks have besides."""
    kind = rng.integers(5)
    powers = rng.uniform(-30, 30, len(sizes) - 1)
    if kind < 2:  # all tiny, or all huge
        powers = np.full(len(sizes) - 1, (-30.0, 30.0)[kind]) + rng.uniform(-1, 1)
    elif kind == 2:  # near 1, which most certificates are of
        powers = rng.uniform(-1, 1, len(sizes) - 1)
    layers = []
    for at, (below, above) in enumerate(itertools.pairwise(sizes)):
        weight = rng.normal(size=(above, below)) * 10.0 ** powers[at]
        bias = rng.normal(size=above) * 10.0 ** np.clip(powers[: at + 1].sum(), -37, 30)
        bias *= rng.integers(2) and kind > 0  # no float32 is as small as what tiny layers give
        if rng.random() < 0.3:
            weight[rng.integers(above)] = 0.0  # a neuron that is constant
        if rng.random() < 0.2:
            weight[-1], bias[-1] = weight[0], bias[0]  # two that are the same
        layers.append((weight.astype(np.float32), bias.astype(np.float32)))
    return layers


def model_of(layers, activation):
    like = MLP((*[weight.shape[1] for weight, _ in layers], layers[-1][1].size), activation,
               key=jax.random.key(0))  # fmt: skip
    leaves = [jnp.asarray(array) for pair in layers for array in pair]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def ball_points(norm, x, eps):
    """A dense grid of ball and box, and the ball's border, in long double."""
    side = np.linspace(-1, 1, 41, dtype=Exact)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    size = np.linalg.norm(grid.astype(np.float64), ord=ORDERS[norm], axis=1)
    border = grid[size > 0] / size[size > 0, None].astype(Exact)
    inside = np.concatenate([grid[size <= 1], border]) * Exact(eps) * (1 - Exact(2) ** -50)
    return np.clip(x.astype(Exact) + inside, 0, 1)


class Stack:
    """Networks of one shape, with their own answers as labels."""

    def __init__(self, activation, depth, classes, seed):
        rng = np.random.default_rng(seed)
        sizes = (2, *rng.integers(3, 6, depth), classes)
        self.activation = activation
        self.layers = [scaled(rng, sizes) for _ in range(NETWORKS)]
        self.models = [model_of(layers, activation) for layers in self.layers]
        self.images = rng.integers(0, 256, (NETWORKS, IMAGES, 2)).astype(np.uint8)
        self.images[::3] = np.where(self.images[::3] > 127, 255, 0)
        self.pixels = np.asarray(to_float(self.images.reshape(-1, 2))).reshape(self.images.shape)
        logits = [
            logits_of(activation, layers, x.astype(Exact))
            for layers, x in zip(self.layers, self.pixels, strict=True)
        ]
        self.labels = np.argmax(logits, axis=2).astype(np.int32)

    def least(self, norm, eps):
        """The least margin that the grid of each ball holds."""
        found = np.zeros(self.labels.shape, Exact)
        for at, layers in enumerate(self.layers):
            for image, label in enumerate(self.labels[at]):
                points = ball_points(norm, self.pixels[at, image], eps)
                found[at, image] = margins(self.activation, layers, points, label).min()
        return found


def margins(activation, layers, points, label):
    logits = logits_of(activation, layers, points)
    others = np.where(np.arange(logits.shape[1]) == label, -np.inf, logits)
    return logits[:, label] - others.max(axis=1)


@eqx.filter_jit
def _bounds(certifiers, models, x, y, eps):
    each = lambda certifier: eqx.filter_vmap(
        lambda model, x, y: jax.vmap(lambda x, y: certifier(model, x, y, eps=eps))(x, y)
    )(models, x, y)
    return {name: each(certifier) for name, certifier in certifiers.items()}


@pytest.mark.parametrize(
    ("norm", "activation", "depth", "classes"),
    [case(*values, long=values[:2] not in OFTEN) for values in CASES],
)
def test_no_bound_is_above_the_truth_at_any_scale(norm, activation, depth, classes):
    stack, certified, broken = Stack(activation, depth, classes, seed=depth), 0, 0
    known = {
        name: certifier for name, certifier in CERTIFIERS.items()
        if certifier.ball.name == norm and activation in certifier.activations
    }  # fmt: skip
    with jax.enable_x64(True):
        models = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(widened, stack.models))
        x, y = stack.pixels.astype(np.float64), jnp.asarray(stack.labels)
    room = np.array([rounding(model) for model in stack.models])
    for eps in EPS:
        least = stack.least(norm, eps)
        with jax.enable_x64(True):
            found = _bounds(known, models, x, y, jnp.asarray(eps, jnp.float64))
        for name, bound in jax.device_get(found).items():
            assert bound.dtype == np.float64
            assert not np.any(bound.astype(Exact) > least), (name, eps)
            certified += int(np.sum(bound > room[:, None]))
        broken += int(np.sum(least <= 0))
    # The grid holds wrong images, and something is proven: neither is true of nothing.
    assert certified > 0
    assert broken > 0


@pytest.mark.parametrize("activation", [case(name, long=name != "relu") for name in ACTIVATIONS])
def test_a_judged_margin_is_as_near_to_the_exact_one_as_is_claimed(activation):
    """Of networks whose weights may be too small for normal float32 numbers."""
    rng = np.random.default_rng(7)
    for depth in (1, 3):
        for turn in range(6):
            layers = scaled(rng, (2, *[4] * depth, 3))
            if turn % 2:  # subnormal weights, then such as make up for them
                for at, size in enumerate((1e-39, 1e38)):
                    weight = layers[at][0] / np.abs(layers[at][0]).max()
                    layers[at] = weight * np.float32(size), np.zeros_like(layers[at][1])
            model = model_of(layers, activation)
            images = rng.random((16, 2)).astype(np.float32)
            images[:4] = np.float32(1e-40)  # subnormal pixels
            labels = rng.integers(0, 3, 16)
            found, _ = judge_batch(model, images, labels)
            logits = logits_of(activation, layers, images.astype(Exact))
            own = logits[np.arange(16), labels]
            exact = own - np.where(np.arange(3) == labels[:, None], -np.inf, logits).max(axis=1)
            assert np.all(np.abs(found - exact) <= rounding(model))


def test_the_network_of_the_file_is_judged_and_certified_not_one_without_subnormal_weights():
    """The first weight, 1e-40, is 0 for XLA on a CPU; then follows 2e38."""
    below, above, bias = np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(3)
    below[0, 0], above[1, 0], bias[:] = 1e-40, 2e38, [0.01, 0.0, -1.0]
    layers = [(below, np.zeros(2)), (above, bias)]
    layers = [tuple(array.astype(np.float32) for array in pair) for pair in layers]
    model = model_of(layers, "relu")
    wrong = np.array([[1.0, 0.0, 0.0]], np.float32)
    margin, reached = judge_batch(model, wrong, np.array([0]))
    exact = margins("relu", layers, wrong.astype(Exact), 0)
    assert exact[0] < -0.009
    assert margin[0] == pytest.approx(float(exact[0]), rel=1e-9)
    assert reached[0] == 1
    image, label = np.zeros((1, 3), np.uint8), np.zeros(1, np.int32)
    for name in ("ibp-linf", "crown-linf", "lipschitz-local-linf", "crown-l2", "crown-l1"):
        assert not certify_batch(CERTIFIERS[name], model, image, label, eps=0.99).any(), name
        # At half of the way there, it is right, and no bound is so loose as to miss that.
        assert certify_batch(CERTIFIERS[name], model, image, label, eps=0.45).all(), name


def test_an_image_is_judged_with_pixels_too_small_for_a_normal_float32():
    below, above = np.zeros((2, 3)), np.zeros((3, 2))
    below[0, 0], above[1, 0] = 1e38, 1.0
    layers = [(below, np.zeros(2)), (above, np.array([0.005, 0.0, -1.0]))]
    model = model_of([tuple(array.astype(np.float32) for array in pair) for pair in layers], "relu")
    images = np.array([[0.0, 0.5, 0.5], [1e-40, 0.5, 0.5]], np.float32)
    margin, reached = judge_batch(model, images, np.zeros(2, np.int32))
    assert reached.tolist() == [0, 1]
    assert margin[1] == pytest.approx(-0.005, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in CERTIFIERS if name.endswith("-l2")])
@pytest.mark.parametrize("power", [0, case(-30, name="tiny"), case(30, name="huge", long=True)])
def test_a_linear_network_behind_scaled_layers_is_certified_up_to_its_radius(name, power):
    """Every square of its rows underflows, and a fall of 0 would certify any radius."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 6))
    scale = np.float32(10.0**power)
    # Shifted, so that no neuron bends in the box: the network is linear there. And such that all
    # classes are alike near the images, whose radii then end within the box.
    shift = np.abs(weight).sum() + 1 - weight @ np.full(6, 0.6)
    layers = [(weight * scale, shift * scale)] + [(np.eye(3) * scale, np.zeros(3))] * 5
    layers = [tuple(array.astype(np.float32) for array in pair) for pair in layers]
    model = model_of(layers, "relu")
    images = np.full((4, 6), 128, np.uint8)
    images += rng.integers(0, 60, images.shape).astype(np.uint8)
    linear = layers[0][0].astype(np.float64) / float(scale)
    logits = to_float(images).astype(np.float64) @ linear.T + shift
    labels = np.argmax(logits, axis=1).astype(np.int32)
    rows = np.linalg.norm(linear[labels][:, None] - linear[None], axis=2)
    gaps = np.take_along_axis(logits, labels[:, None], 1) - logits
    with np.errstate(invalid="ignore"):
        radius = np.nanmin(np.where(rows > 0, gaps / rows, np.inf), axis=1)
    assert np.all(radius < 0.4)  # the box does not matter
    holds = certify_batch(CERTIFIERS[name], model, images, labels, eps=radius * 1.001)
    assert not holds.any()
    if name == "crown-l2":
        assert certify_batch(CERTIFIERS[name], model, images, labels, eps=radius * 0.999).all()


@pytest.mark.parametrize("order", [1, -1], ids=["tiny-first", "huge-first"])
@pytest.mark.parametrize(
    "name",
    [
        case(name, long=name not in {"ibp-linf", "crown-l2", "lipschitz-local-l2"})
        for name in CERTIFIERS
    ],
)
def test_products_that_underflow_on_the_way_prove_nothing_false(name, order):
    """Layers that come to 1e-311, and others to 1e304: what lies between is 0 one way or other."""
    powers = [-37] * 8 + [-15] + [38] * 8
    eye, none = np.eye(2), np.zeros(2)
    layers = [(eye * 10.0**power, none) for power in powers[::order]]
    layers.append((eye, np.array([0.0, 0.02e-7])))
    layers = [tuple(array.astype(np.float32) for array in pair) for pair in layers]
    model = model_of(layers, "relu")
    images, labels = np.array([[128, 102]], np.uint8), np.zeros(1, np.int32)
    x = to_float(images)
    gap = margins("relu", layers, x.astype(Exact), 0)[0]
    assert 0.05e-7 < gap < 0.1e-7
    # The least change in each norm that closes the gap of two pixels.
    radius = float(gap) * 1e7 / {"linf": 2, "l2": 2**0.5, "l1": 1}[CERTIFIERS[name].ball.name]
    for eps in (1.01 * radius, 0.4):
        assert not certify_batch(CERTIFIERS[name], model, images, labels, eps=eps).any()
    found, _ = judge_batch(model, x, labels)
    assert abs(Exact(found[0]) - gap) <= rounding(model)


def test_what_underflows_in_judging_is_within_the_rounding_that_is_claimed():
    layers = [(np.eye(2) * 1e-35, np.zeros(2))] * 8 + [(np.eye(2) * 1e-30, np.zeros(2))]
    layers = [tuple(array.astype(np.float32) for array in pair) for pair in layers]
    model, image = model_of(layers, "relu"), np.array([[1.0, 0.0]], np.float32)
    found, _ = judge_batch(model, image, np.zeros(1, np.int32))
    exact = margins("relu", layers, image.astype(Exact), 0)[0]
    assert found[0] == 0 < exact
    assert exact <= rounding(model)


@pytest.mark.parametrize("factor", [1.0, 1e-8, 1e-30, 1e8])
def test_exact_margins_do_not_depend_on_the_scale_of_hidden_layers(factor):
    first, last = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([[1.0, -1.0], [-0.5, 1.0]])
    layers = [
        (first * factor, np.array([0.1, 0.2]) * factor),
        (last / factor, np.array([0.0, 0.3])),
    ]
    layers = [tuple(array.astype(np.float32) for array in pair) for pair in layers]
    model, x = model_of(layers, "relu"), np.array([0.5, 0.25], np.float32)
    points = ball_points("linf", x, 0.1)
    least = margins("relu", layers, points, 0).min()
    assert exact_margin(model, x, 0, eps=0.1) == pytest.approx(float(least), abs=1e-5)


def test_halves_meet_at_a_point_that_every_device_takes_for_the_same_number():
    """Some devices take numbers below 1e-38 for 0; a half proven there must fit the other half."""
    point = np.array([1e-40, -1e-40, 0.5], np.float32)
    one, neurons = jnp.zeros(3), jnp.zeros(3, jnp.int32)
    explored = Explored(
        one, jnp.zeros((3, 2)), one, one, jnp.zeros((3, 2)), neurons, jnp.asarray(point), one, one,
        one, one, one,
    )  # fmt: skip
    cuts = Cuts(jnp.full((3, 2), -np.inf), jnp.full((3, 2), np.inf), jnp.zeros((3, 2)))
    below, above = _branch._halves(cuts, explored)
    assert np.asarray(below.high)[:, 0].tolist() == [0, 0, 0.5]
    assert np.asarray(above.low)[:, 0].tolist() == [0, 0, 0.5]


@pytest.mark.parametrize(
    ("norm", "activation"),
    [case("linf", "relu"), case("l2", "relu"), case("l2", "tanh", long=True),
     case("linf", "tanh", long=True)],
)  # fmt: skip
def test_branch_and_bound_proves_nothing_false_at_any_scale(norm, activation):
    rng, certified, eps = np.random.default_rng(3), 0, 0.1
    for turn in range(12):
        layers = scaled(rng, (2, 4, 4, 4, 4, 4, 3))
        if turn < 4:  # rows come to 1e-180, and their squares are 0
            layers = [
                (weight * np.float32(1e-30 / np.abs(weight).max()), bias * 0)
                for weight, bias in layers
            ]
        model = model_of(layers, activation)
        images = rng.integers(0, 256, (8, 2)).astype(np.uint8)
        logits = logits_of(activation, layers, to_float(images).astype(Exact))
        labels = np.argmax(logits, axis=1).astype(np.uint8)
        work = BranchAndBound(
            SEARCHES[norm], model, Part(images, labels, np.arange(8)), eps, batch=16
        )
        list(work.run(Budget(seconds=60.0, domains=60)))
        for at in np.flatnonzero(work.certified):
            points = ball_points(norm, to_float(images[at : at + 1])[0], eps)
            assert margins(activation, layers, points, labels[at]).min() > 0, turn
            certified += 1
    assert certified > 0


@pytest.mark.parametrize("power", [-320, -300, -160, -30, 0, 30, 160, 300])
def test_lengths_and_spectral_norms_hold_at_any_scale(power):
    rng = np.random.default_rng(5)
    with jax.enable_x64(True):
        for shape in ((1, 1), (3, 5), (7, 4)):
            rows = rng.normal(size=shape) * np.float64(10.0) ** max(power, -307)
            rows = rows * 10.0 ** min(0, power + 307)
            exact = np.sqrt(np.sum(rows.astype(Exact) ** 2, axis=1))
            normal = exact > 1e-300
            np.testing.assert_allclose(
                np.asarray(length(jnp.asarray(rows)))[normal],
                exact[normal].astype(float),
                rtol=1e-14,
            )
            if power < -150 or power > 150:
                continue  # weights are float32
            bound = float(spectral_norm(jnp.asarray(rows), jnp.ones(shape[0])))
            unit = 10.0**power
            assert np.linalg.norm(rows / unit, 2) * unit <= bound
            if power > -150:
                assert bound <= 1.01 * np.linalg.norm(rows / unit, 2) * unit


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("power", [-300, -200, -160, -100, 0, 100, 200])
def test_the_least_of_a_row_is_no_more_than_any_image_gives(norm, power):
    """Rows are products of weights, and squares of such products underflow first."""
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        least = jax.jit(jax.vmap(BALLS[norm].least))
        x = rng.integers(0, 256, (64, 2)) / 255
        weights = rng.normal(size=(64, 2)) * 10.0**power
        eps = 1.0 if norm == "l0" else 0.3
        found = np.asarray(least(jnp.asarray(x), jnp.asarray(weights), jnp.full(64, eps)))
    for at in range(64):
        if norm == "l0":
            points = np.concatenate(
                [np.stack([np.full(3, x[at, 0]), [0, x[at, 1], 1]], 1),
                 np.stack([[0, x[at, 0], 1], np.full(3, x[at, 1])], 1)]
            ).astype(Exact)  # fmt: skip
        else:
            points = ball_points(norm, x[at], eps)
        exact = (points @ weights[at].astype(Exact)).min()
        assert found[at] <= exact
        # And close to it: the grid ends at the border.
        room = np.abs(weights[at]).sum()
        assert found[at] >= float(exact) - 0.1 * room
