"""Intervals of what a wrong image would have to be."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case, grey_images, network, predicted
from scipy.optimize import linprog
from test_branch import ball_of, inputs_of

from robust_mnist.certify import CURVES, SEARCHES, ContractionSearch, Search, contraction
from robust_mnist.certify._backward import Carried
from robust_mnist.certify._domains import Ends
from robust_mnist.data import Part
from robust_mnist.sweep import BranchAndBound, Budget, _branch, _resume
from robust_mnist.threat import BALLS, Linf


NORMS = {"linf": 0.1, "l2": 0.4}


class Asked:
    """A ball in which some images are wrong, in float64, and thousands of its images."""

    def __init__(self, getkey, activation, norm="linf", judged=None, wrong=0.5, eps=None):
        single = network(getkey(), sizes=(12, 6, 5, 3), activation=activation)
        self.model = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), single)
        self.ball, self.search = BALLS[norm], SEARCHES[norm]
        self.eps = jnp.asarray(eps or NORMS[norm], jnp.float64)
        self.x = jax.random.uniform(getkey(), (12,), jnp.float64)
        logits = self.model(self.x)
        order = jnp.argsort(-logits).astype(jnp.int32)
        self.y, self.other = order[0], order[1]
        keys = jax.random.split(getkey(), 4000)
        delta = jax.vmap(lambda key: self.ball.sample(key, 12, self.eps))(keys)
        images = self.x[None] + delta.astype(jnp.float64)
        if norm == "linf":
            # All corners, where the margin is least, or nearly so.
            signs = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=12)), jnp.float64)
            images = jnp.concatenate([images, self.x[None] + self.eps * signs])
        self.images = jnp.clip(images, 0.0, 1.0)
        bias, margins = self.model.layers[-1].bias, self.margins_of(self.images)
        # Such a share of the sample is wrong; below 0 the other way, so that none is.
        shift = jnp.quantile(margins, abs(wrong))
        shift = shift if wrong >= 0 else 2 * jnp.min(margins) - shift
        self.model = eqx.tree_at(
            lambda model: model.layers[-1].bias, self.model, bias.at[self.other].add(shift)
        )
        self.margins = self.margins_of(self.images)
        self.inputs = jax.jit(jax.vmap(lambda z: inputs_of(self.model, z)))(self.images)
        ends = ball_of(self.model, self.ball, self.x, self.eps)
        # Such a share of the sample is judged wrong.
        near = 0.0 if judged is None else jnp.quantile(self.margins, judged)
        self.whole = Ends(*ends, jnp.asarray(near, jnp.float64))
        args = self.model, self.x, self.y, self.other, self.eps, self.whole
        self.first = jax.jit(lambda: self.search.first(*args))()
        self.proven = jax.jit(functools.partial(self.search.proven, *args))
        self.lines = jax.jit(functools.partial(self.search.lines.proven, *args))
        # Traced anew by each, for what a test puts in the place of a part.
        self.explored = jax.jit(functools.partial(self.search, *jax.tree.map(_single, args)))

    def margins_of(self, images):
        return jax.jit(jax.vmap(lambda z: self.model(z)[self.y] - self.model(z)[self.other]))(
            images
        )

    def domain(self, getkey):
        """Around a real image."""
        low, high = self.whole.low, self.whole.high
        at = self.inputs[jax.random.randint(getkey(), (), 0, len(self.images))]
        reach = jax.random.uniform(getkey(), at.shape, jnp.float64) * (high - low)
        cut = jax.random.bernoulli(getkey(), 0.3, at.shape)
        low = jnp.where(cut, jnp.maximum(low, at - reach), low)
        return low, jnp.where(cut, jnp.minimum(high, at + reach), high)

    def within(self, low, high):
        return jnp.all((self.inputs >= low[None]) & (self.inputs <= high[None]), axis=1)

    def choose(self, *domain):
        """What the search chooses, in its own precision."""
        with jax.enable_x64(False):
            found = self.explored(*jax.tree.map(_single, domain)).choices
        return found.astype(jnp.float64)

    def lost(self, low, high, choices):
        """Images that are wrong and in the domain, yet outside of what is left; and the outcome."""
        found = self.proven(low, high, choices)
        wrong = self.within(low, high) & (self.margins <= self.whole.judged)
        gone = wrong & (~self.within(found.low, found.high) | (self.margins < found.bound))
        return int(jnp.sum(gone)), found


def _single(array):
    """Where 64 bits are on, without."""
    kind = jnp.float32 if jnp.issubdtype(array.dtype, jnp.floating) else jnp.int32
    return array.astype(kind)


@pytest.fixture
def asked(getkey):
    def make(*args, **kwargs):
        return Asked(getkey, *args, **kwargs)

    with jax.enable_x64(True):
        yield make


@pytest.mark.parametrize(
    ("activation", "norm"),
    [
        case(activation, norm, long=(activation, norm) not in {("tanh", "linf"), ("relu", "l2")})
        for activation in CURVES
        for norm in NORMS
    ],
)
def test_no_choices_cut_a_wrong_image_off(activation, norm, asked, getkey):
    one, shares = asked(activation, norm), []
    assert 0.4 < float(jnp.mean(one.margins <= 0)) < 0.6
    for turn in range(30):
        low, high = one.domain(getkey) if turn else (one.whole.low, one.whole.high)
        # And such as no search would choose.
        choices = one.first + 0.3 * turn * jax.random.normal(getkey(), one.first.shape, jnp.float64)
        gone, found = one.lost(low, high, choices)
        assert gone == 0
        assert jnp.all((found.low >= low) & (found.high <= high))
        if jnp.isfinite(found.bound):
            shares.append(float(jnp.sum(found.high - found.low) / jnp.sum(high - low)))
    assert min(shares) < 0.98  # they say something


def rounds(one, count):
    """Contract the whole ball again and again."""
    low, high, choices = one.whole.low, one.whole.high, one.first
    for _ in range(count):
        choices = one.choose(low, high, choices)
        gone, found = one.lost(low, high, choices)
        yield gone, found
        low, high = found.low, found.high


@pytest.mark.parametrize(("activation", "eps", "wrong"), [("tanh", 0.08, -0.01)])
def test_where_nothing_is_wrong_nothing_is_left(activation, eps, wrong, asked):
    one = asked(activation, wrong=wrong, eps=eps)
    slope = one.choose(one.whole.low, one.whole.high, one.first)[:11]
    lines = one.lines(one.whole.low, one.whole.high, slope).bound
    *_, (_, found) = rounds(one, 12)
    assert lines < 0 < found.bound


@pytest.mark.parametrize("share", [None, 0.1])
def test_who_is_judged_wrong_stays(share, asked):
    """A margin that float64 may take for 0 counts as one."""
    one = asked("tanh", wrong=-0.1, judged=share)
    near = one.margins <= jnp.quantile(one.margins, 0.1)
    assert jnp.all(one.margins > 0)
    lost, found = zip(*rounds(one, 12), strict=True)
    assert not any(lost)
    left = one.within(found[-1].low, found[-1].high)
    assert bool(jnp.all(left[near])) == (share is not None)


@pytest.mark.parametrize("fault", ["too deep", "beta below 0", "no room"])
def test_a_cut_that_takes_too_much_is_noticed(fault, asked, monkeypatch):
    """The checks above can fail."""
    one = asked("relu")
    cuts, ends = contraction._Domain.cuts, contraction._Domain.ends

    def false_cuts(domain, slope):
        found = cuts(domain, slope)
        if fault == "too deep":
            return [cut._replace(offset=cut.offset + 1.0) for cut in found]
        return found

    def false_ends(domain, weights, cut, layer, under):
        if fault == "beta below 0":
            cut = cut._replace(rows=-cut.rows, offset=-cut.offset)
        value, slack = ends(domain, weights, cut, layer, under)
        return (value + 1.0, slack) if fault == "no room" else (value, slack)

    monkeypatch.setattr(contraction._Domain, "cuts", false_cuts)
    monkeypatch.setattr(contraction._Domain, "ends", false_ends)
    assert any(gone for gone, _ in rounds(one, 8))


def test_the_best_weight_gives_the_least_input_of_a_half_space(asked):
    """Of the first layer the bound is a linear program's dual, so that some weight attains it."""
    one = asked("tanh")
    domain = contraction._Domain.of(
        one.model, one.ball, one.x, one.y, one.other, one.eps, one.whole, one.whole.low,
        one.whole.high,
    )  # fmt: skip
    cut = domain.cuts(one.first[:11])[0]
    layer = domain.layer(0, domain.low[0], domain.high[0])
    ends = jax.jit(lambda weights: domain.ends(weights, cut, layer, []))
    tried = np.stack([ends(jnp.full(12, at))[0] for at in np.linspace(-8, 8, 4001)])
    weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
    row = np.asarray(cut.rows)[0]
    most = -(float(cut.offset[0]) + row @ bias)
    box = np.stack([np.maximum(one.x - one.eps, 0), np.minimum(one.x + one.eps, 1)], axis=1)
    for at, sign in [(at, sign) for sign in (1, -1) for at in range(6)]:
        solved = linprog(sign * weight[at], A_ub=(row @ weight)[None], b_ub=[most], bounds=box)
        least = solved.fun + sign * bias[at]
        reached = tried[:, at + (0 if sign > 0 else 6)]
        assert np.all(reached <= least + 1e-9)
        assert reached.max() == pytest.approx(least, abs=5e-3)


def test_rounding_has_room_where_a_neuron_cancels(getkey):
    """Beta times its weight is about minus one, so that nothing but the room for that is left."""
    single = network(getkey(), sizes=(2, 1, 3))
    x, eps = jnp.asarray([0.5, 0.5]), jnp.asarray(0.1, jnp.float32)
    model = eqx.tree_at(lambda m: m.layers[0].weight, single, jnp.asarray([[1e3, -3e3]]))
    low, high, size = ball_of(model, Linf(), x, eps)
    whole = Ends(low, high, size, jnp.zeros_like(eps))
    y, other = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
    domain = contraction._Domain.of(model, Linf(), x, y, other, eps, whole, low, high)
    layer, worst = domain.layer(0, low, high), 0.0
    layer = layer._replace(bias=jnp.zeros(1))
    for weight in np.random.default_rng(0).uniform(-9, 2, 300).astype(np.float32):
        beta = np.float32(jnp.exp(weight))
        row, none = np.float32(-1 / beta), jnp.zeros(1)
        cut = Carried(jnp.asarray([[row]]), none, none)
        value, slack = domain.ends(jnp.full(2, weight), cut, layer, [])
        # Of the two sides the one that cancels, in float64: over a box of 0.1 to either side.
        exact = 1 + np.float64(beta) * np.float64(row)
        at = np.array([1e3, -3e3]) * exact
        least = at @ np.asarray(x, np.float64) - np.abs(at).sum() * float(eps)
        off = abs(float(value[0]) - least)
        assert off <= float(slack[0])
        worst = max(worst, off)
    assert worst > 1e-5


@pytest.mark.parametrize("side", [-1, 1])
def test_ends_are_rounded_away_from_the_domain(side):
    rng = np.random.default_rng(0)
    ends = np.concatenate([
        rng.normal(size=1000) * 10.0 ** rng.uniform(-6, 6, 1000), [0.5, -3.0], [1e-40, -1e-40, 0.0],
    ])  # fmt: skip
    with jax.enable_x64(True):
        like = jnp.zeros(ends.size, jnp.float32)
        found = np.asarray(jax.jit(lambda e: _branch._rounded(e, like, side))(jnp.asarray(ends)))
    assert found.dtype == np.float32
    assert np.all(side * (found.astype(np.float64) - ends) >= 0)
    assert np.all(np.abs(found - ends) <= 1.2e-7 * np.abs(ends) + 1.2e-38)
    assert found[1000:1002].tolist() == [0.5, -3.0]
    # Above what a device may take for 0.
    assert np.all(np.abs(found[1002:]) >= np.finfo(np.float32).tiny)


def test_what_has_stopped_shrinking_keeps_all(getkey):
    """Else it would come back for ever, and never be split."""
    model = network(getkey(), sizes=(12, 6, 5, 3))
    images = grey_images(getkey(), 4, pixels=12)
    part = Part(images, predicted(model, images), np.arange(4))
    work = BranchAndBound(SEARCHES["linf"], model, part, 0.3, batch=32)
    work._add_more()
    domains, cuts = work.frontier.pop(work.spent)
    at, mask = work._batched(domains), np.ones(len(domains.image), bool)
    for _ in range(200):
        _, kept, after = work._prove(domains, at, cuts, mask)
        same = np.asarray(after.low == cuts.low).all() and np.asarray(after.high == cuts.high).all()
        if same:
            break
        cuts = after
    assert same
    assert np.all((kept == 1) | np.isnan(kept))


def test_judging_leaves_room_in_all_that_is_certified(getkey, monkeypatch):
    """As if images with margins of up to 0.5 could be judged wrong."""
    model = network(getkey(), sizes=(8, 10, 10, 4), gain=2.0)
    images = grey_images(getkey(), 32, pixels=8)
    labels, eps = predicted(model, images), 0.1
    clean = images.astype(np.float32)[:, None] / 255
    corners = np.array(list(itertools.product((-eps, eps), repeat=8)), np.float32)
    logits = np.asarray(jax.jit(jax.vmap(jax.vmap(model)))(np.clip(clean + corners, 0, 1)))
    own = np.take_along_axis(logits, labels[:, None, None].astype(int), axis=2)
    margins = own - np.where(np.arange(4) == labels[:, None, None], -np.inf, logits)
    least, part = margins.min(axis=(1, 2)), Part(images, labels, np.arange(32))

    def certified():
        work = BranchAndBound(SEARCHES["linf"], model, part, eps, batch=32)
        list(work.run(Budget(seconds=60.0, domains=100)))
        return work.certified

    honest = certified()
    assert np.any(honest & (least <= 0.5))
    monkeypatch.setattr(_branch, "least_bound", lambda _: 0.5)
    careful = certified()
    assert careful.any()
    assert np.all(least[careful] > 0.5)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_prove_nothing(wrong, getkey):
    model = network(getkey(), sizes=(8, 10, 10, 4), activation="relu")
    images = grey_images(getkey(), 4, pixels=8)
    labels = predicted(model, images)
    weight = model.layers[0].weight.at[0, 0].set(wrong)
    model = eqx.tree_at(lambda m: m.layers[0].weight, model, weight)
    work = BranchAndBound(
        SEARCHES["linf"], model, Part(images, labels, np.arange(4)), 1e-3, batch=32
    )
    list(work.run(Budget(seconds=60.0, domains=50)))
    assert not work.certified.any()


def test_what_is_left_of_contracted_domains_holds_all_that_is_wrong(getkey):
    model = network(getkey(), sizes=(8, 10, 10, 4), gain=2.0)
    images, eps = grey_images(getkey(), 32, pixels=8), 0.25
    labels = predicted(model, images)
    part = Part(images, labels, np.arange(32))
    begin = lambda **left: BranchAndBound(SEARCHES["linf"], model, part, eps, batch=32, **left)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BranchAndBound, "_attack", lambda *_: None)  # which would end it
        some = begin()
        list(some.run(Budget(60.0, domains=12)))
    left = some.left()
    assert left.image.size > 20
    assert np.mean(left.cuts) > 10  # of 40 sides
    low, high = _resume.rows(left, 20)
    corners = np.array(list(itertools.product((-eps, eps), repeat=8)), np.float32)
    points = np.clip(images.astype(np.float32)[:, None] / 255 + corners, 0, 1)
    logits = np.asarray(jax.jit(jax.vmap(jax.vmap(model)))(points))
    inputs = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda z: inputs_of(model, z))))(points))
    wrong = 0
    for image in np.unique(left.image):
        for other in set(range(4)) - {int(labels[image])}:
            margins = logits[image, :, labels[image]] - logits[image, :, other]
            mine = (left.image == image) & (left.other == other)
            for z in inputs[image, margins < -1e-4]:
                inside = (z >= low[mine] - 1e-4) & (z <= high[mine] + 1e-4)
                assert inside.all(axis=1).any()
                wrong += 1
    assert wrong > 20
    whole, rest = begin(), begin(left=left)
    for work in (whole, rest):
        list(work.run(Budget(60.0)))
        assert not work.open.any()
    assert np.array_equal(rest.certified | some.certified, whole.certified)


def test_it_decides_with_fewer_domains_what_lines_decide(getkey):
    model = network(getkey(), sizes=(16, 10, 10, 4), gain=2.0)
    images = grey_images(getkey(), 32, pixels=16)
    part = Part(images, predicted(model, images), np.arange(32))
    explored = {}
    for search in (Search(), SEARCHES["linf"]):
        work = BranchAndBound(search, model, part, 0.1, batch=32)
        list(work.run(Budget(seconds=120.0)))
        assert not work.open.any()
        explored[search.name] = work.explored, work.certified.tolist()
    (lines, first), (mine, second) = explored.values()
    assert first == second
    assert mine < 0.5 * lines


def test_classes_that_linear_bounds_rule_out_are_not_searched(getkey):
    model = network(getkey(), sizes=(16, 10, 10, 4), gain=2.0)
    images = grey_images(getkey(), 32, pixels=16)
    labels = predicted(model, images)
    part = Part(images, labels, np.arange(32))
    work = BranchAndBound(Search(), model, part, 1e-4, batch=32)
    certain = work.certified.copy()
    assert certain.sum() > 20
    assert not certain[work.waiting > 0].any()
    list(work.run(Budget(seconds=60.0)))
    assert np.all(work.spent[certain] == 0)
    # Those of a ball that holds everything are all searched, but for the true one.
    work = BranchAndBound(Search(), model, part, 1.0, batch=32)
    assert work.waiting.tolist() == [3] * 32
    assert not work._possible[np.arange(32), labels].any()


@pytest.mark.parametrize("tried", [0, 1, 4])
def test_a_search_tries_its_own_weights_and_others(tried):
    with pytest.raises(ValueError, match=f"in all 3, 5 or more, got tried={tried}"):
        ContractionSearch(tried=tried)
