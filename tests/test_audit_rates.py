"""Rates of the trust checks: how they are counted, and that the code keeps to those measured."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import grey_images, network

from benchmarks.audit_rates import MEASURED, NAME, USUAL, summary, variants
from benchmarks.process import ROOT
from robust_mnist.audit import CHECKS
from robust_mnist.audit.fakes import FAKES
from robust_mnist.data.pixels import to_float


CHECK, OTHER = "G7-black-box", "G5-grey-guessing"


def trial(verdict, number, fake=None, *, rises=True, caught=False, by=(), usual=None):
    """What is kept of one network; a fake without a verdict has ended in a contradiction."""
    checks = {} if verdict is None else {CHECK: [verdict, number], OTHER: ["ok", 0.0]}
    return {
        "fake": fake, "network": "lab-0", "about": "of 3 levels", "checks": checks,
        "usual": usual or {}, "accuracy": 0.5, "rises": rises, "rise": 0.25 if rises else None,
        "caught": caught, "caught_by": list(by),
    }  # fmt: skip


TRIALS = [
    trial("ok", 0.0),
    trial("ok", 0.005),
    trial("look", 0.03),
    trial("ok", 0.0, "k-winners", rises=False),
    trial("look", 0.01, "k-winners", by=[CHECK]),
    trial("fail", 0.4, "k-winners", caught=True, by=[CHECK, OTHER]),
    trial("ok", 0.0, "k-winners"),
    trial(None, 0.0, "noise", caught=True, by=["contradiction"]),
]


def rates(trials=TRIALS):
    return {row["check"]: row for row in summary.rates(trials, {CHECK: "ours"})}


def test_alarms_are_those_of_sound_networks_and_finds_those_of_fakes_that_were_checked():
    row = rates()[CHECK]
    assert row["ours"] == "ours"
    assert row["usual"] == USUAL[CHECK].words
    assert row["alarms"] == {"networks": 3, "look": 1, "fail": 0}
    assert row["usual_alarms"] == {"networks": 3, "look": 2, "fail": 0}
    assert row["noticed"] == {"networks": 4, "look": 2, "fail": 1}
    assert row["rising"] == {"networks": 3, "look": 2, "fail": 1}
    assert "usual_alarms" not in rates()[OTHER]
    assert rates()["G6-plausible-l2"]["alarms"]["networks"] == 0
    assert list(rates()) == MEASURED


def test_the_usual_limit_takes_its_own_number_where_there_is_one():
    assert rates([trial("ok", 0.0, usual={CHECK: 0.1})])[CHECK]["usual_alarms"]["look"] == 1


@pytest.mark.parametrize(
    ("check", "number", "verdict"),
    [
        (CHECK, 0.002, "ok"),
        (CHECK, 0.0021, "look"),
        (CHECK, np.nan, "look"),
        ("G4-raw-monotone", 0.005, "look"),
        ("G4-raw-monotone", 0.006, "fail"),
        ("G22-optimality", -0.9, "ok"),
        ("G22-optimality", -0.89, "look"),
        ("G24-seeds", 9.0, "ok"),
    ],
)
def test_the_usual_limit_is_above_which(check, number, verdict):
    assert USUAL[check].said(number) == verdict


def test_a_variant_that_nobody_catches_is_harmless_only_if_it_misleads_nobody():
    [winners, noise] = summary.caught(TRIALS)
    assert (winners["variants"], winners["caught"], winners["harmless"]) == (4, 1, 1)
    assert winners["by"] == {CHECK: 2, OTHER: 1}
    assert (noise["caught"], noise["harmless"]) == (1, 0)


def test_the_page_tells_missed_variants_from_harmless_ones():
    about = {
        "command": "nox", "images": 60, "trials": TRIALS,
        "rates": summary.rates(TRIALS, {CHECK: "ours"}), "fakes": summary.caught(TRIALS),
    }  # fmt: skip
    page = summary.page(about)
    assert "3 sound networks, 5 fakes, 60 test images" in page
    assert page.count("| MISSED |") == 2
    assert page.count("| harmless |") == 2  # a variant, and the head of a column
    assert "| k-winners | 1 of 4 | 1 | G7-black-box 2, G5-grey-guessing 1 |" in page
    assert (
        f"| {CHECK} | 0.2 % (AutoAttack's flags) | ours | 1 of 3, 0 fail | 2 of 3, 0 fail |" in page
    )


def test_variants_are_others_than_those_the_limits_were_chosen_on_and_others_by_seed():
    model = network(jax.random.key(0), (4, 3, 10))
    for name, planted in FAKES.items():
        drawn = [[wrap(model) for wrap in variants.variants(name, seed)] for seed in (0, 0, 1)]
        numbers = [[_numbers(fake) for fake in fakes] for fakes in drawn]
        assert numbers[0] == numbers[1] != numbers[2]
        tuned = _numbers(planted.wrap(model))
        for own in numbers:
            assert len(own) == variants.COUNT
            assert tuned not in own
            assert len(set(own)) == len(own)


def _numbers(fake):
    return type(fake), *(leaf for leaf in jax.tree.leaves(fake) if np.isscalar(leaf))


def test_a_variant_answers_alike_in_the_one_program_that_all_share():
    model = network(jax.random.key(0), (64, 8, 10))
    images = to_float(grey_images(jax.random.key(1), 3))
    traces = []

    @eqx.filter_jit
    def shared(program):
        traces.append(program)
        return jax.vmap(program)(images)

    plain = jax.vmap(model)(images)
    assert jnp.allclose(shared(variants.program(model)), plain, atol=1e-5)
    for name in FAKES:
        fake = variants.variants(name, 0)[-1](model)
        found = shared(variants.program(model, fake))
        if name in {"logits-x1000", "input-2-levels", "k-winners", "softmax"}:
            assert jnp.allclose(found, jax.vmap(fake)(images), rtol=1e-4, atol=1e-5)
            assert not jnp.allclose(found, plain, atol=1e-3)
    assert len(traces) == 1


@pytest.fixture(scope="module")
def published():
    path = ROOT / "reports" / "data" / f"{NAME}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_published_page_is_that_of_the_published_numbers(published):
    page = (ROOT / "reports" / "data" / f"{NAME}.md").read_text(encoding="utf-8")
    assert page == summary.page(published)
    thresholds = {row["check"]: row["ours"] for row in published["rates"] if row["ours"]}
    assert published["rates"] == summary.rates(published["trials"], thresholds)
    assert published["fakes"] == summary.caught(published["trials"])


def test_every_check_was_measured_on_enough_networks_and_fakes(published):
    assert [row["check"] for row in published["rates"]] == MEASURED
    sound = [one for one in published["trials"] if one["fake"] is None]
    assert len(sound) >= 6
    assert [row["fake"] for row in published["fakes"]] == list(FAKES)
    assert all(row["variants"] - row["harmless"] >= 5 for row in published["fakes"])


def test_the_limits_of_a_run_are_those_whose_rates_were_measured(finished, published):
    measured = {row["check"]: row["ours"] for row in published["rates"] if row["ours"]}
    findings = json.loads((finished / "run.json").read_text(encoding="utf-8"))["audit"]
    known = {one["check"]: one["threshold"] for one in findings if one["check"] in measured}
    assert len(known) >= 20
    assert known == {check: measured[check] for check in known}


@pytest.mark.parametrize("check", USUAL)
def test_a_limit_that_is_not_the_usual_one_has_its_rates_beside_it(published, check):
    [row] = [row for row in published["rates"] if row["check"] == check]
    assert summary.sentence(row) in " ".join(CHECKS[check].__doc__.split())
