"""Known fakes of robustness are told from a sound network, and a self-test that cannot says so."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import grey_images, network, predicted


CAUGHT_BY = {
    "logits-x1000": "G1-input-gradients",
    "gradient-killed": "G1-input-gradients",
    "gradient-reversed": "G20-planted",
    "gradient-shattered": "G20-planted",
    "input-2-levels": "G1-input-gradients",
    "input-8-levels": "G1-input-gradients",
    "k-winners": "G20-planted",
    "softmax": "G19-logits",
    "softmax-cold": "G19-logits",
    "noise": "contradiction",
    "noise-faint": "G19-logits",
}
COUNT = 60


@pytest.fixture(scope="module")
def model():
    return network(jax.random.key(3), sizes=(64, 32, 10))


@pytest.fixture(scope="module")
def part(model):
    from robust_mnist.data import Part
    from robust_mnist.data.pixels import to_float

    images = grey_images(jax.random.key(4), 2 * COUNT)
    # A lead of seven deviations of faint noise: one that it turns over, by luck, ends the sweep
    # before any check has looked.
    logits = np.sort(np.asarray(jax.vmap(model)(to_float(images))), axis=1)
    images = images[logits[:, -1] - logits[:, -2] > 0.1][:COUNT]
    return Part(images, predicted(model, images), np.arange(COUNT))


@pytest.fixture(scope="module")
def tested(model, part):
    """Run the self-test in one norm, with as few checks as tell all the fakes from the network."""
    from robust_mnist import audit
    from robust_mnist.audit import selftest
    from robust_mnist.config import SweepSettings
    from robust_mnist.console import Console

    few = {name: audit.CHECKS[name] for name in {*CAUGHT_BY.values()} - {"contradiction"}}
    sweep = SweepSettings(norm=("linf",), methods=("pgd40-linf",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "CHECKS", few)
        patch.setattr(selftest, "SWEEP", sweep)
        yield lambda: selftest.selftest(model, part, console=Console(quiet=True))


@pytest.fixture(scope="module")
def outcome(tested):
    return tested()


def test_every_fake_is_caught_by_a_check_that_leaves_the_sound_network_alone(outcome):
    from robust_mnist.audit.fakes import FAKES

    assert outcome.sound.said("look", "fail") == []
    assert [fake.name for fake in outcome.fakes] == list(FAKES) == list(CAUGHT_BY)
    for fake in outcome.fakes:
        assert CAUGHT_BY[fake.name] in outcome.caught_by(fake), fake
        assert CAUGHT_BY[fake.name] in fake.due
    assert outcome.found
    assert outcome.ok
    assert (outcome.passed, outcome.accused) == ([], [])


def test_masked_gradients_make_the_attacks_of_a_run_fail(outcome):
    seems = {trial.name: trial.seems for trial in [outcome.sound, *outcome.fakes]}
    for name in ("gradient-killed", "gradient-reversed", "gradient-shattered", "k-winners"):
        assert seems[name] > seems["sound"] + 0.3
    assert seems["noise"] is None


def test_the_answers_are_the_same_in_every_run_but_for_networks_that_draw(outcome, tested):
    again = tested()
    for first, second in zip(
        [outcome.sound, *outcome.fakes], [again.sound, *again.fakes], strict=True
    ):
        if not first.name.startswith("noise"):
            assert first == second


@pytest.mark.parametrize(
    "name",
    ["logits-x1000", "gradient-killed", "gradient-reversed", "softmax", "softmax-cold"],
)
def test_a_fake_answers_as_the_network_inside_does(model, part, name):
    from robust_mnist.audit.fakes import FAKES

    assert np.array_equal(predicted(FAKES[name].wrap(model), part.images), part.labels)


def test_what_is_due_is_the_name_of_a_check_and_a_complaint():
    from robust_mnist.audit import CHECKS
    from robust_mnist.audit.fakes import CONTRADICTION, FAKES

    for planted in FAKES.values():
        assert planted.due
        assert {*planted.due} <= {*CHECKS, CONTRADICTION}
        assert {*planted.due.values()} <= {"look", "fail"}


def test_fakes_do_to_an_image_what_they_say():
    from problems import Affine

    from robust_mnist.audit import fakes

    same = Affine(jnp.eye(4), jnp.zeros(4))
    x = jnp.array([0.0, 0.3, 0.6, 1.0])
    slope = lambda fake: jnp.diag(jax.jacobian(fake)(x))
    assert np.array_equal(fakes.QuantisedInput(same, 2)(x), [0, 0, 1, 1])
    assert np.allclose(fakes.QuantisedInput(same, 11)(x), x)
    assert np.array_equal(slope(fakes.BentGradient(same, 0.0)), jnp.zeros(4))
    assert np.array_equal(slope(fakes.BentGradient(same, -1.0)), -jnp.ones(4))
    assert np.allclose(fakes.SoftmaxOutput(same, 1.0)(x).sum(), 1.0)
    rippled = fakes.ShatteredGradient(same, height=0.01, waves=100.0)
    assert np.all(np.abs(rippled(x) - x) <= 0.01 + 1e-6)
    assert np.allclose(np.abs(slope(rippled) - 1), 4.0)
    winners = fakes.KWinners(same, 3)
    # Levels 0, 1/2 and 1; the answer of the winner is its level times its excitement.
    assert np.allclose(winners(x), [0.0, 0.5 * (1 - 0.04), 0.5 * (1 - 0.01), 1.0])
    noisy = fakes.NoisyOutput(same, 0.1)
    assert not np.array_equal(noisy(x), noisy(x))
    assert np.allclose(noisy(x), x, atol=1.0)


def trial(name, **verdicts):
    from robust_mnist.audit.selftest import Trial

    findings = [
        {"check": check, "verdict": verdict, "title": "t", "number": 0.5, "threshold": "0",
         "meaning": "m"}
        for check, verdict in verdicts.items()
    ]  # fmt: skip
    return Trial(name, f"about {name}", 0.5, findings, due={} if name == "sound" else DUE)


DUE = {"G1": "look", "G3": "fail", "G4": "fail"}


def judged(sound, *fakes):
    from robust_mnist.audit.selftest import Outcome

    return Outcome(sound, list(fakes))


FOUND = {"G20-planted": "ok"}
SOUND = {"G1": "ok", "G2": "look", "G3": "ok", "G4": "look", "G5": "ok", **FOUND}
MISSED = {**SOUND, "G20-planted": "look"}


@pytest.mark.parametrize(
    ("outcome", "expected", "planted"),
    [
        (lambda: judged(trial("sound", **SOUND), trial("a", G1="look")), ([], []), "found"),
        (lambda: judged(trial("sound", **SOUND), trial("a", G1="fail")), ([], []), "found"),
        # What complains about the sound network catches nobody, due or not.
        (lambda: judged(trial("sound", **SOUND), trial("a", G2="fail")), (["a"], []), "found"),
        (lambda: judged(trial("sound", **SOUND), trial("a", G4="fail")), (["a"], []), "found"),
        (lambda: judged(trial("sound", **SOUND), trial("a", G1="ok")), (["a"], []), "found"),
        # Another check, or one that is too mild, may complain of something else.
        (lambda: judged(trial("sound", **SOUND), trial("a", G5="fail")), (["a"], []), "found"),
        (lambda: judged(trial("sound", **SOUND), trial("a", G3="look")), (["a"], []), "found"),
        (
            lambda: judged(trial("sound", G1="ok", G2="fail", **FOUND), trial("a", G1="fail")),
            ([], ["G2"]), "found",
        ),
        (lambda: judged(trial("sound", **MISSED), trial("a", G1="look")), ([], []), "MISSED"),
        (lambda: judged(trial("sound", G1="ok"), trial("a", G1="look")), ([], []), "NOT RUN"),
    ],
    ids=["caught", "harder", "by-noise-alone", "by-noise-that-is-due", "by-nobody", "by-another",
         "too-mildly", "accused", "planted-in-vain", "nothing-planted"],
)  # fmt: skip
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_the_command_fails_and_names_what_passed(
    outcome, expected, planted, as_json, monkeypatch, capsys, tmp_path
):
    from robust_mnist import cli
    from robust_mnist.audit import selftest
    from robust_mnist.checkpoint import save_model
    from robust_mnist.models import MLP

    made = outcome()
    passed, accused = expected
    assert (made.passed, made.accused) == expected
    seen = []
    monkeypatch.setattr(selftest, "selftest", lambda _, part, **__: seen.append(part) or made)
    path = tmp_path / "network.safetensors"
    about = {"model": "mlp", "sizes": [784, 10], "activation": "tanh"}
    save_model(path, MLP((784, 10), key=jax.random.key(0)), about)
    words = ["selftest", "--model", str(path), "--images", "70", *(["--json"] if as_json else [])]
    code = cli.main(words)
    assert made.found == (planted == "found")
    assert code == int(bool(passed or accused or planted != "found"))
    assert len(seen[0].labels) == 70
    out = capsys.readouterr().out
    if as_json:
        told = json.loads(out)
        assert told["passed"] == (code == 0)
        assert told["sound"]["accused_by"] == accused
        assert [f["name"] for f in told["fakes"] if not f["caught"]] == passed
        assert told["fakes"][0]["due"] == DUE
        assert told["planted"]["found"] == (planted == "found")
    else:
        assert ("selftest failed: no check that is due caught a" in out) == bool(passed)
        assert "G1 (look) or G3 or G4" in out
        (line,) = [line for line in out.splitlines() if line.startswith("planted")]
        assert planted in line
        assert ("selftest failed: of planted wrong images m" in out) == (planted == "MISSED")
        assert ("selftest failed: no wrong image could be planted" in out) == (planted == "NOT RUN")
        assert ("selftest failed: G2 failed the sound network" in out) == bool(accused)
        assert ("selftest passed: 1 fakes caught" in out) == (code == 0)


def test_a_contradiction_of_the_sound_network_accuses_it():
    stopped = dataclasses.replace(trial("sound"), stopped="image 3: one of the two is wrong")
    assert judged(stopped, trial("a", G1="fail")).accused == ["contradiction"]
