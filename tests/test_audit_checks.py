"""Every check that attacks again: quiet on an affine network, whose radii are known exactly, and
loud on a network, an attack or a run that has the defect it is there for."""

import dataclasses
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jaxtyping import Array, Float
from problems import Affine, Scaled, case, exact_radius, grey_images, predicted

from robust_mnist.attacks import ATTACKS, PGD
from robust_mnist.audit import CHECKS, Evidence, audit
from robust_mnist.audit.precision import _points
from robust_mnist.certify import CERTIFIERS
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.models.mlp import Dense
from robust_mnist.records import Radii, Row, table
from robust_mnist.sweep import certified_radii, judge_batch, puller, sizes
from robust_mnist.threat import BALLS, L2, Linf


COUNT = 60


class Wrapped(AbstractClassifier):
    """Another network, spoilt."""

    model: AbstractClassifier


class Killed(Wrapped):
    """No gradient reaches the pixels."""

    def __call__(self, x):
        return self.model(jax.lax.stop_gradient(x))


class Quantised(Wrapped):
    """Eight grey levels, between which nothing changes."""

    def __call__(self, x):
        return self.model(jnp.round(x * 7) / 7)


class Softmax(Wrapped):
    """Probabilities."""

    def __call__(self, x):
        return jax.nn.softmax(self.model(x))


class Noisy(Wrapped):
    """Logits that differ each time."""

    def __call__(self, x):
        noise = jax.pure_callback(
            lambda z: np.random.default_rng().normal(size=(*z.shape[:-1], 10)).astype(np.float32),
            jax.ShapeDtypeStruct((10,), jnp.float32),
            jax.lax.stop_gradient(x),
            vmap_method="broadcast_all",
        )
        return self.model(x) + noise.astype(x.dtype)


class Decoy(Wrapped):
    """The likeliest wrong class moves with the true one and is never reached."""

    label: Array

    def __call__(self, x):
        logits = self.model(x)
        classes = jnp.arange(10, dtype=self.label.dtype)
        true = jnp.max(jnp.where(classes == self.label, logits, -jnp.inf))
        return jnp.where(classes == (self.label + 1) % 10, true - 1e-4, logits)


class WinnersTakeAll(AbstractClassifier):
    """Only the largest few of many hidden units pass, and who they are changes all the time."""

    first: Float[Array, "hidden pixels"]
    last: Float[Array, "10 hidden"]

    def __call__(self, x):
        hidden = self.first @ x
        return self.last @ jnp.where(hidden >= jax.lax.top_k(hidden, 3)[0][-1], hidden, 0.0)


class Wandering(PGD):
    """Returns its last image, which is a random one."""

    def __call__(self, model, x, y, *, eps, key):
        del model, y
        number = self.steps + (eps * 1e6).astype(jnp.int32)
        draw = self.ball.sample(jax.random.fold_in(key, number), x.size, 1000 * eps)
        return jnp.clip(x + jnp.clip(draw, -eps, eps), 0.0, 1.0)


class Timid(PGD):
    """Does nothing where there is much room."""

    def __call__(self, model, x, y, *, eps, key):
        return jnp.where(eps < 1.75, super().__call__(model, x, y, eps=eps, key=key), x)


SHORT = PGD(Linf(), steps=3, rel_step_size=0.05)
STUCK = PGD(Linf(), steps=1, rel_step_size=1e-6)
WANDERING = Wandering(Linf(), steps=40, rel_step_size=0.1)


def evidence_of(model, part, upper, *, method="pgd40-linf", grid=None, **fields):
    """What a run would leave behind that knows these upper bounds."""
    upper = np.asarray(upper, np.float64)
    grid = np.quantile(upper, [0.2, 0.35, 0.5, 0.65, 0.8]) if grid is None else grid
    rows = [
        Row(
            dataset="toy", split="test", model="mlp", objective="none", seed=0, norm="linf",
            eps=float(eps), step=None, method="all", kind="worst", images=len(upper),
            correct=int(np.sum(upper > eps)), seconds=None, accelerator="cpu",
        )
        for eps in grid
    ]  # fmt: skip
    found = np.where(np.isfinite(upper), method, "")
    radii = Radii(
        norm="linf", lower=np.zeros(len(upper)), upper=upper, certifier=np.full(len(upper), ""),
        method=found, reached=np.zeros(len(upper), np.int64),
    )  # fmt: skip
    return Evidence(
        model=model, part=part, rows=table(rows), radii={"linf": radii},
        witnesses={"linf": to_float(part.images)}, cells={}, **fields,
    )  # fmt: skip


@pytest.fixture(scope="module")
def affine():
    keys = jax.random.split(jax.random.key(1))
    return Affine(jax.random.normal(keys[0], (10, 64)), jax.random.normal(keys[1], (10,)))


@pytest.fixture(scope="module")
def part(affine):
    images = grey_images(jax.random.key(2), COUNT)
    return Part(images, predicted(affine, images), np.arange(COUNT))


@pytest.fixture(scope="module")
def exact(affine, part):
    pixels = to_float(part.images)
    radius = lambda x, y: exact_radius("linf", affine, x, int(y))
    return np.array([radius(x, y) for x, y in zip(pixels, part.labels, strict=True)])


@pytest.fixture(scope="module")
def sound(affine, part, exact):
    # A little above the truth, as found by an attack.
    upper = exact * 1.001
    own = {"linf": {"fgsm-linf": upper * 1.1, "pgd40-linf": upper, "fmn100-linf": upper * 1.01}}
    return evidence_of(affine, part, upper, own=own, seeds=2, siblings=(affine,))


AGAIN = [
    "G2-logit-scale", "G4-raw-monotone", "G5-grey-guessing", "G7-black-box", "G8-noise",
    "G9-doubled-steps", "G10-restarts", "G11-unfinished", "G12-silent-success", "G13-unstable",
    "G14-transfer", "G15-targeted", "G18-batch-split", "G19-logits", "G20-planted",
    "G22-optimality", "G24-seeds",
]  # fmt: skip


@pytest.mark.parametrize("name", AGAIN)
def test_a_network_whose_radii_are_known_passes(sound, name):
    finding = CHECKS[name](sound)
    assert finding.verdict == "ok", finding
    assert "nan" not in finding.meaning


def blind(model, part, grid=(0.01, 0.05, 0.1), **fields):
    """A run of an attack that found nothing, up to a radius at which everything can be broken."""
    return evidence_of(model, part, np.full(len(part.labels), np.inf), grid=grid, **fields)


@pytest.mark.parametrize(
    ("defect", "name"),
    [
        (Quantised, "G1-input-gradients"),
        (Quantised, "G5-grey-guessing"),
        (Quantised, "G7-black-box"),
        case(Killed, "G7-black-box", long=True),
        (Killed, "G20-planted"),
    ],
)
def test_a_hidden_gradient_is_found_out(affine, part, defect, name):
    assert CHECKS[name](blind(defect(affine), part)).verdict == "fail"


def test_a_gradient_that_is_gone_where_a_search_starts_is_found_out(sound):
    class Grey(Wrapped):
        """Slopes at grey levels alone, where all clean images are."""

        def __call__(self, x):
            near = jnp.all(jnp.abs(x * 255 - jnp.round(x * 255)) < 1e-3)
            return self.model(jnp.where(near, x, jax.lax.stop_gradient(x)))

    found = CHECKS["G1-input-gradients"](dataclasses.replace(sound, model=Grey(sound.model)))
    assert (found.verdict, found.number) == ("fail", 1.0)


def test_a_sibling_shows_what_a_hidden_gradient_hides(affine, part):
    evidence = blind(Killed(affine), part, siblings=(affine,))
    assert CHECKS["G14-transfer"](evidence).verdict == "fail"


def test_cross_entropy_on_a_confident_network_is_found_out(affine, part):
    confident = Scaled(affine, jnp.array(100.0), jnp.array(0.0))
    own = lambda method: {"linf": {method: np.full(COUNT, np.inf)}}
    finding = CHECKS["G2-logit-scale"](blind(confident, part, own=own("bim10-linf")))
    assert finding.verdict == "fail"
    assert "bim10-linf" in finding.meaning
    # The margin has the same gradient at any scale.
    assert CHECKS["G2-logit-scale"](blind(confident, part, own=own("pgd40-linf"))).number == 0


@pytest.mark.parametrize(
    ("name", "attack", "grid"),
    [
        ("G4-raw-monotone", WANDERING, [0.3, 0.4, 0.5]),
        ("G5-grey-guessing", SHORT, [0.1]),
        ("G9-doubled-steps", SHORT, [0.1]),
        ("G10-restarts", STUCK, [0.5]),
        ("G11-unfinished", SHORT, [0.1]),
        ("G12-silent-success", WANDERING, [0.5]),
    ],
)
def test_an_attack_with_a_defect_is_found_out(affine, part, monkeypatch, name, attack, grid):
    monkeypatch.setitem(ATTACKS, "pgd40-linf", attack)
    assert CHECKS[name](blind(affine, part, grid=grid)).verdict in {"look", "fail"}


@pytest.mark.parametrize(
    ("name", "attack", "eps"),
    [
        ("G4-raw-monotone", Timid(L2(), steps=40, rel_step_size=0.1), [1.0, 1.5, 2.0]),
        ("G7-black-box", PGD(L2(), steps=1, rel_step_size=1e-6), [2.0]),
        ("G9-doubled-steps", PGD(L2(), steps=3, rel_step_size=0.05), [1.0]),
        ("G10-restarts", PGD(L2(), steps=1, rel_step_size=1e-6), [6.0]),
        ("G11-unfinished", PGD(L2(), steps=3, rel_step_size=0.05), [1.0]),
        ("G15-targeted", PGD(L2(), steps=1, rel_step_size=1e-6), [2.0]),
        ("G20-planted", PGD(L2(), steps=1, rel_step_size=1e-6), [2.0]),
    ],
)
def test_a_defect_in_another_norm_is_found_out(affine, part, monkeypatch, name, attack, eps):
    both = blind(affine, part, grid=[0.1])
    l2 = blind(affine, part, grid=eps)
    both = dataclasses.replace(
        both,
        rows=pd.concat([both.rows, l2.rows.assign(norm="l2")]),
        radii=both.radii | {"l2": dataclasses.replace(l2.radii["linf"], norm="l2")},
    )
    assert CHECKS[name](both).verdict == "ok"
    monkeypatch.setitem(ATTACKS, "pgd40-l2", attack)
    both = dataclasses.replace(both)  # nothing remembered
    found = CHECKS[name](both)
    assert found.verdict in {"look", "fail"}
    assert "in L2" in found.meaning


def test_a_run_that_chance_beats_is_found_out(affine, part):
    assert CHECKS["G8-noise"](blind(affine, part)).verdict == "fail"


def test_a_class_that_draws_all_attention_is_found_out(affine, part):
    same = part.labels == np.bincount(part.labels).argmax()
    label = part.labels[same][0]
    some = part.take(np.flatnonzero(same))
    decoy = Decoy(affine, jnp.asarray(label, jnp.int32))
    assert CHECKS["G15-targeted"](blind(decoy, some)).verdict == "fail"


def test_units_that_switch_all_the_time_make_the_margin_unstable(part):
    keys = jax.random.split(jax.random.key(5))
    switching = WinnersTakeAll(
        jax.random.normal(keys[0], (300, 64)), jax.random.normal(keys[1], (10, 300))
    )
    own = Part(part.images, predicted(switching, part.images), part.ids)
    assert CHECKS["G13-unstable"](blind(switching, own)).verdict in {"look", "fail"}


@pytest.mark.parametrize("name", ["G18-batch-split", "G19-logits"])
def test_a_network_that_draws_at_random_is_found_out(affine, part, exact, name):
    evidence = evidence_of(Noisy(affine), part, exact)
    assert CHECKS[name](evidence).verdict in {"look", "fail"}


def test_probabilities_are_no_logits(affine, part, exact):
    finding = CHECKS["G19-logits"](evidence_of(Softmax(affine), part, exact))
    assert finding.verdict == "fail"
    assert "probabilities" in finding.meaning


def test_a_network_that_float32_cannot_evaluate_is_found_out(affine, part):
    # Next to 1e9, float32 counts in steps of 64: every class is tied.
    shifted = Scaled(affine, jnp.array(1.0), jnp.array(1e9))
    margins, _ = judge_batch(shifted, to_float(part.images), part.labels)
    assert (margins > 0).mean() > 0.9
    evidence = evidence_of(shifted, part, np.full(len(margins), np.inf), grid=[0.1])
    assert CHECKS["G17-precision"](evidence).verdict == "fail"
    assert CHECKS["G17-precision"](evidence).number > 0.9


class Cancelling(Wrapped):
    """A pixel that is dark in every image feeds two large terms that cancel."""

    def __call__(self, x):
        large = 1e9 * x[0]
        return (self.model(x) + large) - large


@pytest.mark.parametrize("share", [0.9, 0.0])
def test_float32_that_fails_inside_certified_balls_alone_is_found_out(affine, part, share):
    """All clean and stored images are decided alike; the certificates hold in exact arithmetic."""
    fed = jnp.arange(64) > 0
    blind_to_it = Affine(jnp.where(fed[None], affine.weight, 0.0), affine.bias)
    images = part.images.copy()
    images[:, 0] = 0
    part = Part(images, predicted(blind_to_it, images), part.ids)
    radius = np.array([
        exact_radius("linf", blind_to_it, x, int(y))
        for x, y in zip(to_float(images), part.labels, strict=True)
    ])  # fmt: skip
    for model, verdict in ((blind_to_it, "ok"), (Cancelling(blind_to_it), "fail")):
        evidence = evidence_of(model, part, np.full(COUNT, np.inf), grid=[0.1])
        certified = dataclasses.replace(evidence.radii["linf"], lower=share * radius)
        evidence = dataclasses.replace(evidence, radii={"linf": certified})
        finding = CHECKS["G17-precision"](evidence)
        assert finding.verdict == (verdict if share else "ok"), finding
        assert ("certified in linf" in finding.meaning) == (share > 0 and verdict == "fail")


def test_neurons_that_cancel_in_a_batch_and_not_for_a_single_image_are_found_out(getkey):
    """A product of matrices may add the two large terms one after the other, which cancels them."""
    small = MLP((64, 20, 10), "relu", key=getkey())
    first, last = small.layers
    fed = jnp.tile(jnp.where(jnp.arange(64) == 0, 1e12, 0.0), (2, 1))
    factor = jnp.linspace(1.0, 2.0, 10)[:, None]
    layers = (
        Dense(jnp.concatenate([first.weight, fed]), jnp.zeros(22)),
        Dense(jnp.concatenate([last.weight, factor, -factor], axis=1), last.bias),
    )
    model = eqx.tree_at(lambda m: m.layers, small, layers)
    images = grey_images(getkey(), COUNT)
    images[:, 0] = 0
    own = Part(images, predicted(small, images), np.arange(COUNT))
    evidence = evidence_of(model, own, np.full(COUNT, np.inf), grid=[0.1])
    # In exact arithmetic the two add nothing, and the small network decides.
    certified = certified_radii(
        CERTIFIERS["crown-linf"], small, images, own.labels, largest=0.1, gap=1e-3
    )
    assert np.mean(certified > 0) > 0.9
    radii = dataclasses.replace(evidence.radii["linf"], lower=certified)
    finding = CHECKS["G17-precision"](dataclasses.replace(evidence, radii={"linf": radii}))
    assert finding.verdict == "fail", finding


@pytest.mark.parametrize("norm", BALLS)
def test_points_inside_certified_balls_stay_there(norm, part):
    radius = np.full(COUNT, 3.0 if norm == "l0" else 0.05)
    clean = to_float(part.images)
    pull, seen = puller(norm, clean, radius), 0
    for points in _points(BALLS[norm], clean, part.ids, radius):
        inside = pull(points)
        assert np.all(sizes(norm, clean, inside) <= radius)
        seen += 1
        assert np.any(inside != clean)
        # Hardly shortened: what is drawn is in the ball already, but for rounding.
        assert np.max(np.abs(inside - np.clip(points, 0, 1))) <= 1e-5
    assert seen == 26


def test_attacks_that_disagree_are_looked_at_and_the_weak_one_is_named(sound):
    upper = sound.radii["linf"].upper
    half = np.arange(COUNT) < COUNT // 2
    split = {
        "pgd40-linf": np.where(half, upper, np.inf),
        "fmn100-linf": np.where(half, np.inf, upper),
    }
    finding = CHECKS["G22-optimality"](dataclasses.replace(sound, own={"linf": split}))
    assert finding.verdict in {"look", "fail"}
    assert "fmn100-linf, pgd40-linf" in finding.meaning
    alone = {"linf": {"pgd40-linf": upper, "fgsm-linf": upper * 2}}
    assert CHECKS["G22-optimality"](dataclasses.replace(sound, own=alone)) is None


def test_optimality_is_the_share_of_the_area_that_an_attack_could_have_left(sound):
    upper = np.array([0.0, 0.5, 1.0, 2.0])
    radii = dataclasses.replace(
        sound.radii["linf"], upper=upper, lower=np.zeros(4), method=np.full(4, "x"),
        certifier=np.full(4, ""), reached=np.zeros(4, np.int64),
    )  # fmt: skip
    # Of 3 right images none is farther than 2: areas are 3.5, and 4.5 where one is 1 farther.
    own = {"pgd40-linf": np.array([0.0, 0.5, 2.0, 2.0]), "fmn100-linf": np.array([0.0, 2, 2, 2])}
    changed = dataclasses.replace(sound, radii={"linf": radii}, own={"linf": own})
    assert CHECKS["G22-optimality"](changed).number == pytest.approx(1 - 1 / 2.5)


def test_a_certificate_in_one_norm_contradicts_an_attack_in_another(sound):
    linf = dataclasses.replace(sound.radii["linf"], lower=sound.radii["linf"].upper / 2)
    l2 = dataclasses.replace(linf, norm="l2", lower=np.zeros(COUNT), upper=linf.upper * 3)
    check = CHECKS["G23-sandwich"]
    assert check(dataclasses.replace(sound, radii={"linf": linf, "l2": l2})).verdict == "ok"
    closer = dataclasses.replace(l2, upper=np.where(np.arange(COUNT) == 7, linf.lower, l2.upper))
    finding = check(dataclasses.replace(sound, radii={"linf": linf, "l2": closer}))
    assert (finding.verdict, finding.number) == ("fail", 1)


def test_seeds_that_differ_by_more_than_chance_are_looked_at(sound):
    fragile = Affine(-sound.model.weight, sound.model.bias)
    finding = CHECKS["G24-seeds"](dataclasses.replace(sound, siblings=(fragile,)))
    assert finding.verdict == "look"
    assert CHECKS["G24-seeds"](dataclasses.replace(sound, siblings=())) is None


def test_a_probe_takes_the_control_images_at_the_radius_that_breaks_half(sound):
    probe = sound.probe
    assert probe.eps == probe.grid[2]
    ran = np.where(np.arange(COUNT) % 3 == 0, sound.radii["linf"].upper, np.nan)
    some = dataclasses.replace(sound, own={"linf": {"pgd40-linf": ran}}).probe
    assert (some.part.ids % 3 == 0).all()
    assert some.count == COUNT / 3
    assert blind(sound.model, sound.part).probe.eps == 0.1
    broken = evidence_of(sound.model, sound.part, np.zeros(COUNT), grid=[0.01, 0.1])
    assert broken.probe.eps == 0.01


def test_one_image_in_a_small_sample_is_no_alarm():
    from robust_mnist.statistics import exceeds

    assert not exceeds(1, 60, 0.002)
    assert exceeds(3, 60, 0.002)
    assert exceeds(1, 60, 0.0)
    assert not exceeds(0, 60, 0.0)
    # One in a hundred samples that lie at the limit, by definition.
    draws = np.random.default_rng(0).binomial(1000, 0.05, 20_000)
    alarms = np.mean([exceeds(int(count), 1000, 0.05) for count in draws[:2000]])
    assert alarms < 0.02


@pytest.mark.parametrize(
    ("count", "chance", "verdict"),
    [(0, False, "ok"), (1, True, "ok"), (1, False, "look"), (6, False, "look"), (7, False, "fail"),
     (7, True, "look"), (12, True, "look"), (13, True, "fail")],
)  # fmt: skip
def test_a_limit_allows_for_chance_where_it_says_so_and_there_alone(count, chance, verdict):
    from robust_mnist.audit._evidence import counted

    found = counted("t", count, 60, look=0.002, fail=0.1, meaning="m", chance=chance)
    assert found.verdict == verdict
    assert ("chance allowed for" in found.threshold) == chance


@pytest.mark.parametrize("name", ["G14-transfer", "G22-optimality", "G24-seeds"])
def test_limits_of_checks_that_few_runs_have_are_those_whose_rates_were_measured(sound, name):
    path = Path(__file__).parent.parent / "reports" / "data" / "audit-rates.json"
    rates = json.loads(path.read_text(encoding="utf-8"))["rates"]
    measured = {row["check"]: row["ours"] for row in rates}
    assert CHECKS[name](sound).threshold == measured[name]


def test_a_run_without_radii_is_not_attacked_again(affine, part, exact):
    evidence = evidence_of(affine, part, exact, grid=[])
    assert evidence.probe is None
    assert not {finding["check"] for finding in audit(evidence)} & set(AGAIN)
