import functools
import itertools
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case, grey_images, network, predicted

from robust_mnist.attacks import ATTACKS
from robust_mnist.certify import CERTIFIERS, CURVES, SEARCHES, Search
from robust_mnist.certify._backward import hidden_layers
from robust_mnist.certify._domains import Problem, first_slopes, proven
from robust_mnist.certify._linear import Least, least_margin
from robust_mnist.certify.milp import exact_margin
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.sweep import (
    Bounds,
    BranchAndBound,
    Budget,
    _branch,
    _certify,
    break_batch,
    judge_batch,
    sizes,
)
from robust_mnist.sweep._branch import Balls
from robust_mnist.sweep._driver import padded
from robust_mnist.sweep._frontier import Cuts, Domains, Frontier
from robust_mnist.threat import BALLS, Linf


@eqx.filter_jit
def ball_of(model, ball, x, eps):
    layers = hidden_layers(model, ball, x, eps, refine=True)
    return tuple(
        jnp.concatenate([getattr(layer, name) for layer in layers])
        for name in ("low", "high", "size")
    )


def problem(getkey, activation, sizes=(12, 6, 5, 3), norm="linf", eps=0.05):
    model = network(getkey(), sizes=sizes, activation=activation)
    x = jax.random.uniform(getkey(), (sizes[0],))
    y = jnp.argmax(model(x)).astype(jnp.int32)
    other = (y + 1) % sizes[-1]
    ball, eps = BALLS[norm], jnp.asarray(eps, jnp.float32)
    low, high, size = ball_of(model, ball, x, eps)
    last = model.layers[-1]
    row, offset = last.weight[y] - last.weight[other], last.bias[y] - last.bias[other]
    return model, ball, x, y, other, eps, low, high, size, row, offset


def inputs_of(model, z):
    """The inputs of all hidden neurons."""
    found = []
    for layer in model.layers[:-1]:
        found.append(layer(z))
        z = CURVES[model.activation].value(found[-1])
    return jnp.concatenate(found)


@pytest.mark.parametrize(
    ("activation", "norm"),
    [
        case(activation, norm, long=(activation, norm) not in {("relu", "linf"), ("tanh", "l2")})
        for activation in CURVES
        for norm in ("linf", "l2")
    ],
)
def test_no_slopes_lift_a_bound_above_the_network_in_any_domain(activation, norm, getkey):
    model, ball, x, y, other, eps, low, high, size, _, _ = problem(getkey, activation, norm=norm)
    delta = jax.vmap(lambda k: ball.sample(k, x.size, eps))(jax.random.split(getkey(), 4000))
    images = jnp.clip(x[None] + delta, 0.0, 1.0)
    margins = jax.jit(jax.vmap(lambda z: model(z)[y] - model(z)[other]))(images)
    inputs = jax.jit(jax.vmap(lambda z: inputs_of(model, z)))(images)
    assert jnp.all((inputs >= low[None]) & (inputs <= high[None]))
    bound = jax.jit(
        lambda low, high, slope: proven(model, ball, x, y, other, eps, low, high, size, slope)
    )
    first = jax.jit(lambda low, high: first_slopes(model, y, other, low, high))
    tightest = -jnp.inf
    for _ in range(30):
        # A domain around a real image, and slopes that no rule would choose.
        at = inputs[jax.random.randint(getkey(), (), 0, len(images))]
        reach = jax.random.uniform(getkey(), at.shape) * (high - low)
        cut = jax.random.bernoulli(getkey(), 0.3, at.shape)
        least = jnp.where(cut, jnp.maximum(low, at - reach), low)
        most = jnp.where(cut, jnp.minimum(high, at + reach), high)
        slope = first(least, most)
        slope = slope + 0.3 * jax.random.normal(getkey(), slope.shape)
        within = jnp.all((inputs >= least[None]) & (inputs <= most[None]), axis=1)
        lowest = jnp.min(jnp.where(within, margins, jnp.inf))
        found = bound(least, most, slope)
        assert found <= lowest
        tightest = jnp.maximum(tightest, found - lowest)
    assert tightest > -100  # they say something


@pytest.mark.parametrize("activation", [case(name, long=name != "tanh") for name in CURVES])
def test_the_search_and_the_proof_agree_on_the_bound(activation, getkey):
    model, ball, x, y, other, eps, low, high, size, row, offset = problem(getkey, activation)
    asked = Problem(model, ball, row, offset, x, eps)
    search = jax.jit(lambda slope: asked.minimise(low, high, slope).bound)
    proof = jax.jit(lambda c, slope: proven(model, ball, x, y, c, eps, low, high, size, slope))
    begin = jax.jit(lambda c: first_slopes(model, y, c, low, high))
    first = slope = begin(other)
    for _ in range(5):
        mine, theirs = search(slope), proof(other, slope)
        assert mine == pytest.approx(float(theirs), abs=2e-3)
        assert theirs <= mine + 1e-5
        slope = slope + 0.05 * jax.random.normal(getkey(), slope.shape)
    crown = jax.jit(lambda x: CERTIFIERS["crown-linf"](model, x, y, eps=eps))(x)
    others = [jnp.asarray(c, jnp.int32) for c in range(3) if c != int(y)]
    assert min(float(proof(c, begin(c))) for c in others) == pytest.approx(float(crown), abs=1e-4)
    assert jnp.all(jnp.isfinite(first))


@pytest.mark.parametrize(
    "activation", ["tanh", case("relu", long=True), case("softplus", long=True)]
)
def test_the_ascent_is_the_slope_of_the_bound(activation, getkey):
    """Against differences in float64; the bound has kinks, so most directions have to agree."""
    model, ball, x, y, other, eps, low, high, _, row, offset = problem(getkey, activation)
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
        asked = Problem(wide(model), ball, *(wide(a) for a in (row, offset, x, eps)))
        low, high = wide(low), wide(high)
        slope = jax.jit(lambda: first_slopes(wide(model), y, other, low, high))()
        slope = slope + 0.02 * jax.random.normal(getkey(), slope.shape, jnp.float64)
        minimise = jax.jit(lambda s: asked.minimise(low, high, s))
        value = lambda s: minimise(s).bound
        rise, margin = jax.jit(lambda s: asked.ascent(s, asked.minimise(low, high, s)))(slope)
        agree = 0
        for at in range(slope.size):
            step = 1e-7 * (jnp.arange(slope.size) == at).astype(slope.dtype)
            numeric = (value(slope + step) - value(slope - step)) / 2e-7
            agree += bool(jnp.abs(numeric - rise[at]) <= 1e-5 * (1 + jnp.abs(rise[at])))
        assert agree >= 0.9 * slope.size
        image = minimise(slope).image
        logits = wide(model)(image)
        assert margin == pytest.approx(float(logits[y] - logits[other]), rel=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_looseness_adds_up_to_the_gap(activation, getkey):
    model, ball, x, y, other, eps, low, high, _, row, offset = problem(getkey, activation)
    asked = Problem(model, ball, row, offset, x, eps)
    solved = asked.minimise(low, high, first_slopes(model, y, other, low, high))
    loose, point = asked.looseness(CURVES[activation], solved, low, high)
    logits = model(solved.image)
    gap = logits[y] - logits[other] - solved.bound
    assert jnp.all(loose >= -1e-5)
    assert float(jnp.sum(loose)) == pytest.approx(float(gap), rel=1e-3, abs=1e-4)
    split = loose > 0
    assert jnp.all(~split | ((point > low) & (point < high)))


def searches(norm):
    """How a test may search: by lines alone, which compile in less time, or as `close` does."""
    return {"lines": Search(BALLS[norm]), "contraction": SEARCHES[norm]}


def decide(model, images, labels, eps, norm="linf", search="lines", **budget):
    part = Part(images, labels, np.arange(len(labels)))
    work = BranchAndBound(searches(norm)[search], model, part, eps, batch=32)
    for _ in work.run(Budget(**{"seconds": 120.0} | budget)):
        pass
    return work


@pytest.mark.parametrize(
    ("activation", "search"), [case("tanh", "lines"), case("relu", "contraction", long=True)]
)
def test_a_half_that_is_lost_is_noticed(activation, search, getkey, monkeypatch):
    """The check of `certified_stands` can fail: of every split one half counts as proven."""
    model = network(getkey(), sizes=(16, 10, 10, 4), activation=activation, gain=2.0)
    images = grey_images(getkey(), 16, pixels=16)
    labels = predicted(model, images)

    def lossy(work, domains, cuts, mask):
        half = mask & (np.cumsum(mask) % 2 == 0)
        np.subtract.at(work.waiting, domains.image[half], 1)
        work.certified[domains.image[half]] |= work.waiting[domains.image[half]] == 0
        push(work, domains, cuts, mask & ~half)

    push = BranchAndBound._push
    monkeypatch.setattr(BranchAndBound, "_push", lossy)
    # What is found wrong on the way would hide it.
    monkeypatch.setattr(BranchAndBound, "_judge", lambda *_: None)
    work = decide(model, images, labels, 0.1, search=search, domains=2000)
    assert not certified_stands(work, model, images, labels, 0.1)


def certified_stands(work, model, images, labels, eps, norm="linf"):
    """Whether no attack at the same radius breaks an image that was certified."""
    at = np.flatnonzero(work.certified)
    for name in (f"fab10-targeted-{norm}", f"pgd40-{norm}", f"apgd100-ce-{norm}"):
        found = break_batch(
            ATTACKS[name], model, images, labels, ids=np.arange(len(labels)),
            eps=np.inf if name.startswith("fab") else eps, key=jax.random.key(1),
        )  # fmt: skip
        if np.any(found.size[at] <= eps):
            return False
    return True


@pytest.mark.long
@pytest.mark.parametrize("search", ["lines", "contraction"])
def test_verdicts_are_those_of_integer_programming(search, getkey):
    model = network(getkey(), sizes=(6, 8, 8, 3), activation="relu")
    images = grey_images(getkey(), 10, pixels=6)
    labels, certified, broken = predicted(model, images), 0, 0
    for eps in (0.1, 0.4):
        work = decide(model, images, labels, eps, search=search)
        assert not work.open.any()
        pairs = zip(to_float(images), labels, strict=True)
        exact = np.array([exact_margin(model, x, int(y), eps=eps) for x, y in pairs])
        assert np.all(exact[work.certified] > 0)
        assert np.all(exact[list(work.found)] <= 1e-5)
        certified, broken = certified + work.certified.sum(), broken + len(work.found)
    assert certified > 0
    assert broken > 0


@pytest.mark.parametrize(
    ("activation", "norm", "search"),
    [
        case("tanh", "linf", "lines"),
        case("tanh", "l2", "lines", long=True),
        case("elu", "linf", "lines", long=True),
        case("tanh", "linf", "contraction"),
        case("relu", "linf", "contraction", long=True),
        case("tanh", "l2", "contraction", long=True),
    ],
)
def test_every_image_is_decided_and_what_is_found_is_wrong(activation, norm, search, getkey):
    model = network(getkey(), sizes=(16, 10, 10, 4), activation=activation, gain=2.0)
    images = grey_images(getkey(), 16, pixels=16)
    labels, most = predicted(model, images), 0
    linf = {"relu": (0.01, 0.04, 0.1, 0.2)}.get(activation, (0.01, 0.04, 0.1))
    radii = {"linf": linf, "l2": (0.15, 0.17)}[norm]
    for eps in radii:
        work = decide(model, images, labels, eps, norm, search)
        assert not work.open.any()
        for place, found in work.found.items():
            margin, _ = judge_batch(model, found.witness, labels[[place]])
            clean = to_float(images[[place]])
            assert margin[0] <= 0
            assert sizes(norm, clean, found.witness)[0] <= eps
        radius, crown = jnp.asarray(eps, jnp.float32), CERTIFIERS[f"crown-{norm}"]
        prove = lambda x, y, crown=crown, radius=radius: crown(model, x, y, eps=radius)
        plain = jax.jit(jax.vmap(prove))(to_float(images), labels.astype(np.int32))
        assert np.all(work.certified[np.asarray(plain) > 1e-3])
        assert certified_stands(work, model, images, labels, eps, norm)
        most = max(most, work.spent.max())
    assert most > 3  # more than the whole ball for each other class: some had to be cut up


def leaf(model, point, low, high):
    """Cuts at every kink that the ball straddles, on the sides where a point lies."""
    inputs = []
    for layer in model.layers[:-1]:
        inputs.append(np.asarray(layer(point)))
        point = CURVES[model.activation].value(jnp.asarray(inputs[-1]))
    bends = (low < 0) & (high > 0)
    above = np.concatenate(inputs) > 0
    return np.where(bends & above, 0.0, -np.inf), np.where(bends & ~above, 0.0, np.inf)


@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
def test_where_nothing_bends_a_linear_program_finds_the_least_margin(activation, getkey):
    model = network(getkey(), sizes=(6, 8, 8, 3), activation=activation)
    rng, eps, empty, carried = np.random.default_rng(0), 0.3, 0, 0
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model)
        bounded = jax.jit(lambda x: hidden_layers(wide, Linf(), x, jnp.asarray(eps), refine=True))
        prove = jax.jit(functools.partial(proven, wide, Linf()))
        margin = jax.jit(jax.vmap(lambda z: wide(z)[0] - wide(z)[1]))
        for _ in range(40):
            x = rng.uniform(0, 1, 6)
            layers = bounded(jnp.asarray(x))
            low, high, size = (
                np.concatenate([getattr(layer, name) for layer in layers])
                for name in ("low", "high", "size")
            )
            ends = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
            cuts = leaf(wide, jnp.asarray(rng.uniform(*ends)), low, high)
            args = [jnp.asarray(array) for array in (x, 0, 1, eps)]

            def bound(found, cuts, args=args, low=low, high=high, size=size):
                inner = np.maximum(low, cuts[0]), np.minimum(high, cuts[1])
                return float(prove(*args, *inner, size, jnp.asarray(found.slopes)))

            least = least_margin(wide, 0, 1, x, eps, low, high, *cuts)
            assert np.isfinite(least.margin)
            reached = float(margin(jnp.asarray(least.image)[None])[0])
            assert reached == pytest.approx(least.margin, abs=1e-6)
            # Nothing in the same domain lies below.
            points = rng.uniform(*ends, (20, 6))
            same = [
                all(map(np.array_equal, leaf(wide, jnp.asarray(point), low, high), cuts))
                for point in points
            ]
            assert np.all(np.asarray(margin(jnp.asarray(points)))[same] >= least.margin - 1e-6)
            # The multipliers of neurons that weigh nothing are lost, hardly ever here.
            carried += bound(least, cuts) == pytest.approx(least.margin, abs=1e-5)
            assert bound(least, cuts) <= least.margin + 1e-9
            # On the wrong side of one kink is another domain, or none.
            turned = [cut.copy() for cut in cuts]
            at = rng.choice(np.flatnonzero(np.isfinite(cuts[0]) | np.isfinite(cuts[1])))
            turned[0][at], turned[1][at] = -cuts[1][at], -cuts[0][at]
            other = least_margin(wide, 0, 1, x, eps, low, high, *turned)
            empty += np.isinf(other.margin)
            if np.isinf(other.margin):
                carried += bound(other, turned) > 0
            else:
                carried += bound(other, turned) == pytest.approx(other.margin, abs=1e-5)
    assert empty > 3
    assert carried >= 70


def test_linear_programs_settle_what_they_prove_and_give_up_ties(getkey, monkeypatch):
    model = network(getkey(), sizes=(6, 8, 8, 3), activation="relu")
    images, eps = grey_images(getkey(), 4, pixels=6), 0.5
    labels = predicted(model, images)
    work = BranchAndBound(Search(), model, Part(images, labels, np.arange(4)), eps, batch=64)
    rng, image, other, lows, highs, margins = np.random.default_rng(0), [], [], [], [], []
    for _ in range(40):
        at = int(rng.integers(4))
        x = to_float(images[at]).astype(np.float64)
        point = jnp.asarray(
            rng.uniform(np.maximum(x - eps, 0), np.minimum(x + eps, 1)), jnp.float32
        )
        low, high = np.asarray(work.wide.low)[at], np.asarray(work.wide.high)[at]
        cuts = leaf(model, point, low, high)
        image.append(at)
        other.append((int(labels[at]) + 1 + int(rng.integers(2))) % 3)
        lows.append(cuts[0])
        highs.append(cuts[1])
        found = least_margin(work.wide_model, int(labels[at]), other[-1], x, eps, low, high, *cuts)
        margins.append(found.margin)
    fill = lambda rows: jnp.asarray(padded(np.asarray(rows, np.float32), 64))
    cuts = Cuts(fill(lows), fill(highs), fill(lows) * 0)
    domains = Domains(
        np.asarray(image, np.int32), np.asarray(other, np.int32), np.zeros(40, np.float32)
    )
    margins, mask = np.array(margins), np.arange(40) % 5 != 0
    waiting = work.waiting.copy()
    monkeypatch.setattr(_branch, "PATIENCE", np.inf)
    done = work._solve(domains, cuts, mask)
    tried = np.flatnonzero(mask)[: _branch.PROGRAMS]
    assert 0 < done.sum() < len(tried)
    assert not done[np.setdiff1d(np.arange(40), tried)].any()
    assert np.all(margins[done] > 0)
    broken = np.isin(domains.image, list(work.found))
    assert np.all(done[tried] | (margins[tried] < 1e-3) | broken[tried])
    assert np.array_equal(waiting - work.waiting, np.bincount(domains.image[done], minlength=4))
    assert work.found
    for place in work.found:
        assert margins[domains.image == place].min() <= 1e-6

    # Nothing is proven, and nothing found wrong: a tie, which is not tried for ever.
    monkeypatch.setattr(
        _branch, "least_margin", lambda *args: Least(np.zeros(16), 0.0, np.asarray(args[3]))
    )
    assert not work._solve(domains, cuts, mask & ~broken).any()
    assert np.all(work.tied[domains.image[mask & ~broken]])
    assert work.open[work.tied].any()
    list(work.run(Budget(seconds=60.0)))
    assert not len(work.frontier)

    monkeypatch.setattr(_branch, "least_margin", lambda *_: None)
    assert not work._solve(domains, cuts, mask).any()


def test_intervals_that_are_too_narrow_would_be_caught(getkey, monkeypatch):
    """What an unsound cut does: images count as certified that are broken."""
    model = network(getkey(), sizes=(16, 10, 10, 4), gain=2.0)
    images = grey_images(getkey(), 16, pixels=16)
    labels, eps = predicted(model, images), 0.1
    honest = decide(model, images, labels, eps)
    assert honest.found
    assert not honest.certified[list(honest.found)].any()

    class Narrow(Balls):  # a class of its own, so that no other test meets its programs
        def ends(self, *domain):
            low, high = super().ends(*domain)
            return low + (high - low) * 0.45, high - (high - low) * 0.45

    monkeypatch.setattr(_branch, "Balls", Narrow)
    lying = decide(model, images, labels, eps)
    assert lying.certified[list(honest.found)].any()


def test_a_budget_stops_and_what_was_decided_stays(getkey):
    model = network(getkey(), sizes=(16, 10, 10, 4), gain=3.0)
    images = grey_images(getkey(), 32, pixels=16)
    labels = predicted(model, images)
    full = decide(model, images, labels, 0.06, domains=1000)
    short = decide(model, images, labels, 0.06, domains=1)
    assert short.open.sum() > full.open.sum()
    # A step explores at most the three other classes of an image, and proves two halves of each.
    assert np.all(short.spent <= 3 + 6)
    assert not np.any(short.certified & ~full.certified)
    part = Part(images, labels, np.arange(32))
    work = BranchAndBound(Search(), model, part, 0.06, batch=32)
    assert list(work.run(Budget(seconds=0.0))) == []
    assert work.explored == 0
    assert np.array_equal(work.open, work.waiting > 0)
    assert work.open.any()


def test_a_run_goes_on_with_what_had_spent_its_domains(getkey):
    model = network(getkey(), sizes=(16, 10, 10, 4), gain=2.0)
    images = grey_images(getkey(), 32, pixels=16)
    labels = predicted(model, images)
    whole = decide(model, images, labels, 0.04, domains=1000)
    assert not whole.open.any()
    work = decide(model, images, labels, 0.04, domains=1)
    before, left = work.spent.copy(), work.open.copy()
    assert left.any()
    # As much again is nothing, and leaves what waits where it is.
    assert list(work.run(Budget(120.0, domains=1))) == []
    list(work.run(Budget(120.0, domains=1000)))
    assert not work.open.any()
    assert not (work.certified & ~whole.certified).any()
    # From where it was: nothing is explored again, neither of these images nor of the others.
    assert np.all((work.spent > before) == left)
    assert work.explored < 1.3 * whole.explored


def test_the_budget_counts_from_the_first_method_on(getkey, monkeypatch):
    model, images = network(getkey(), sizes=(6, 8, 3)), grey_images(getkey(), 2, pixels=6)
    part, given, now = Part(images, predicted(model, images), np.arange(2)), [], [0.0]

    def prove(*_, **__):
        now[0] += 10
        return np.zeros(2, bool)

    class Slow(BranchAndBound):  # to begin
        def __init__(self, *_, **__):
            now[0] += 4
            self.certified, self.found, self.eps = np.zeros(2, bool), {}, 0.1
            self.spent, self.explored = np.zeros(2, np.int64), 0

        def run(self, budget):
            given.append(budget)
            yield from ()

    monkeypatch.setattr(_certify, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(_certify, "certify_batch", prove)
    monkeypatch.setattr(_certify, "BranchAndBound", Slow)
    monkeypatch.setattr(_certify, "_enclose", lambda *_: iter(()))

    def settle(seconds):
        bounds = Bounds.clean(model, part, "linf")
        methods, budget = ("ibp-linf", "crown-linf"), Budget(seconds, 40)
        settled = _certify.settle_at(
            model, part, bounds, methods, 0.1, jax.random.key(0), budget=budget
        )
        return [(one.method, one.images, one.late) for one in settled]

    # Branch and bound begins, and does nothing.
    nothing = (f"{SEARCHES['linf'].name}-linf", 0, 2)
    assert settle(100) == [("ibp-linf", 2, 0), ("crown-linf", 2, 0), nothing]
    # What two methods left, but for the beginning.
    assert given == [Budget(100 - 20 - 4, 40)]
    assert settle(5) == [("ibp-linf", 2, 0), ("crown-linf", 0, 2), nothing]
    assert len(given) == 1


def test_what_a_certifier_of_a_sweep_proves_of_open_images_is_its_own(getkey):
    model, images = (
        network(getkey(), sizes=(6, 8, 3), gain=2.0),
        grey_images(getkey(), 23, pixels=6),
    )
    part = Part(images, predicted(model, images), np.arange(23))
    bounds = Bounds.clean(model, part, "linf")
    bounds.lower["crown-linf"] = np.full(23, -np.inf)
    list(_certify.settle_at(model, part, bounds, ["crown-linf"], 0.1, jax.random.key(0)))
    proven = bounds.radii.lower >= 0.1
    assert 0 < proven.sum() < 23
    assert np.array_equal(bounds.lower["crown-linf"], np.where(proven, 0.1, -np.inf))
    # One that saw open images alone says nothing of all.
    list(_certify.settle_at(model, part, bounds, ["alpha-crown20-linf"], 0.1, jax.random.key(0)))
    assert list(bounds.lower) == ["crown-linf"]


@pytest.mark.parametrize("method", ["crown-linf", "pgd40-linf"])
def test_a_method_runs_in_slices_and_ends_between_two_when_its_time_is_over(
    method, getkey, monkeypatch
):
    model, images = (
        network(getkey(), sizes=(6, 8, 3), gain=2.0),
        grey_images(getkey(), 23, pixels=6),
    )
    part, now, seen = Part(images, predicted(model, images), np.arange(23)), [0.0], []
    key = jax.random.key(0)

    def settle(seconds):
        bounds = Bounds.clean(model, part, "linf")
        budget = None if seconds is None else Budget(seconds)
        work = _certify.settle_at(model, part, bounds, [method], 0.1, key, budget=budget)
        return bounds, list(work)

    whole, (tried,) = settle(None)
    assert (tried.images, tried.late) == (23, 0)
    settled = ~_certify.open_at(whole, 0.1)
    assert 0 < tried.settled < 23

    def slow(of):
        real = getattr(_certify, of)

        def run(*args, **rest):
            now[0] += 3
            # Places of an attack, of which the last fills up a program, or images of a certifier.
            seen.append(len(rest["at"] if "at" in rest else args[2]))
            return real(*args, **rest)

        return run

    monkeypatch.setattr(_certify, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(_certify, "_program", lambda _: 5)
    monkeypatch.setattr(_certify, "_branch", lambda *_: iter(()))
    monkeypatch.setattr(_certify, "_enclose", lambda *_: iter(()))
    for name in ("certify_batch", "run_cell"):
        monkeypatch.setattr(_certify, name, slow(name))
    again, told = settle(1000)
    assert told[:-1] == [_certify.Running(method, 23, done) for done in (5, 10, 15, 20)]
    assert (told[-1].images, told[-1].settled, told[-1].late) == (23, tried.settled, 0)
    assert seen == [5, 5, 5, 5, 5]
    assert again.radii.lower.tolist() == whole.radii.lower.tolist()
    assert again.radii.upper.tolist() == whole.radii.upper.tolist()
    # Half of the budget is for methods: the third slice begins before it is over and is the last.
    some, told = settle(14)
    assert (told[-1].images, told[-1].late) == (15, 8)
    assert told[-1].settled == settled[:15].sum()
    assert not settled[np.flatnonzero(_certify.open_at(some, 0.1)[:15])].any()
    _, told = settle(0)
    assert [(one.images, one.late) for one in told] == [(0, 23)]
    # What takes no time runs on twice as many images the next time.
    seen.clear()
    monkeypatch.setattr(_certify, "BRIEF", 4.0)
    settle(1000)
    assert seen == [5, 10, 10]


@pytest.mark.parametrize("place", ["_explore", "_halves", "_proven"])
def test_what_an_interrupted_step_left_undone_is_done_by_the_next_run(place, getkey, monkeypatch):
    model = network(getkey(), sizes=(16, 10, 10, 4), gain=2.0)
    images = grey_images(getkey(), 16, pixels=16)
    labels = predicted(model, images)
    whole = decide(model, images, labels, 0.1, search="contraction")
    part = Part(images, labels, np.arange(16))
    work = BranchAndBound(SEARCHES["linf"], model, part, 0.1, batch=32)
    real, calls = getattr(_branch, place), itertools.count()

    def interrupted(*args):
        if next(calls) == 0:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(_branch, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(work.run(Budget(seconds=120.0)))
    assert work.open.any()
    list(work.run(Budget(seconds=120.0)))
    assert np.array_equal(work.certified, whole.certified)
    assert work.found.keys() == whole.found.keys()
    assert not work.open.any()


def test_programs_are_compiled_once_whatever_is_left(getkey):
    from robust_mnist.clock import stopwatch

    model = network(getkey(), sizes=(16, 10, 10, 4), gain=2.0)
    images = grey_images(getkey(), 16, pixels=16)
    labels = predicted(model, images)
    decide(model, images, labels, 0.06)
    with stopwatch() as elapsed:
        decide(model, images[:5], labels[:5], 0.05)
    assert elapsed.compilations == 0


def test_a_frontier_gives_back_what_it_was_given():
    rng, batch, last = np.random.default_rng(0), 11, [0]

    def make(count, size):
        """Domains whose rows repeat what they are known by, and rows that are not meant."""
        number = np.arange(last[0], last[0] + count)
        last[0] += count
        rows = rng.normal(size=(size, 3)).astype(np.float32)
        at = np.sort(rng.choice(size, count, replace=False))
        rows[at] = number[:, None] + np.array([0.0, 0.25, 0.5], np.float32)
        domains = Domains(
            rng.integers(0, 5, count).astype(np.int32), number.astype(np.int32),
            rng.normal(size=count).astype(np.float32),
        )  # fmt: skip
        return domains, Cuts(*(jnp.asarray(rows + shift) for shift in (0, 1000, 2000))), at

    def check(domains, cuts):
        for shift, array in zip((0, 1000, 2000), cuts, strict=True):
            mine = np.asarray(array)[: len(domains.other)]
            expected = domains.other[:, None] + np.array([0.0, 0.25, 0.5]) + shift
            np.testing.assert_allclose(mine, expected)

    pool, held = Frontier(3, 3, batch), []
    for _ in range(300):  # it grows through several sizes
        for size in (11, 3, 1):
            more = make(size, batch)
            pool.push(*more)
            held = sorted(held + more[0].other.tolist())
        out, cuts = pool.pop(np.zeros(5, np.int64))
        check(out, cuts)
        for number in out.other.tolist():
            held.remove(number)
        assert sorted(pool.all().other.tolist()) == held
    gone, all_of_them = np.array([True, False, False, True, False]), pool.all()
    pool.drop(gone)
    held = sorted(all_of_them.other[~gone[all_of_them.image]].tolist())
    assert sorted(pool.all().other.tolist()) == held
    assert 0 < len(held) < len(all_of_them.other)
    while len(pool):
        out, cuts = pool.pop(np.zeros(5, np.int64))
        check(out, cuts)
        for number in out.other.tolist():
            held.remove(number)
    assert not held
    # Of images that took little, the nearest to done; the others wait.
    pool = Frontier(3, 3, batch)
    for _ in range(20):
        pool.push(*make(10, batch))
    out, _ = pool.pop(np.array([0, 10_000, 10_000, 10_000, 10_000]))
    left = pool.all()
    others = left.bound[left.image == 0]
    assert np.all(out.image == 0)
    assert np.all(np.diff(out.bound) <= 0)
    assert others.size > 0
    assert out.bound.min() >= others.max()


def test_bounds_that_are_not_finite_have_their_place_in_the_frontier():
    pool, none = Frontier(1, 1, 4), jnp.zeros((4, 1))
    bound = np.array([-np.inf, 0.0, np.inf, -3.0], np.float32)
    four = np.arange(4, dtype=np.int32)
    pool.push(Domains(np.zeros(4, np.int32), four, bound), Cuts(none, none, none), four)
    assert pool.pop(np.zeros(1, np.int64))[0].other.tolist() == [2, 1, 3, 0]


def test_a_search_takes_a_step_and_tries_a_neuron():
    for wrong in ({"steps": 0}, {"candidates": 0}):
        with pytest.raises(ValueError, match="at least one step and tries at least one neuron"):
            Search(Linf(), **wrong)


def test_searches_cover_their_norm():
    for (name, search), activation in itertools.product(SEARCHES.items(), CURVES):
        assert search.ball.name == name
        assert activation in CERTIFIERS[f"crown-{name}"].activations
