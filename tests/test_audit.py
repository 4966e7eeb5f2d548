import dataclasses

import numpy as np
import pytest
from problems import Scaled, grey_images, network, predicted

from robust_mnist.attacks import CrossEntropy
from robust_mnist.audit import CHECKS, Evidence, audit, unchecked
from robust_mnist.config import SweepSettings
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.records import RunFolder
from robust_mnist.sweep import Task, plan, sweep_run


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """A sound sweep of a small network, far enough to break everything."""
    import jax

    model = network(jax.random.key(3))
    images = grey_images(jax.random.key(4), 30)
    labels = predicted(model, images)
    labels[:2] = (labels[:2] + 1) % 10
    part = Part(images, labels, np.arange(30))
    folder = RunFolder(tmp_path_factory.mktemp("audit") / "run")
    folder.update({"settings": {"seed": 0, "seeds": 1}})
    about = {"dataset": "toy", "model": "mlp", "objective": "none", "accelerator": "cpu"}
    for norm, eps in (("linf", (0.001, 0.02, 0.1, 0.5)), ("l2", (0.1, 1.0, 4.0))):
        settings = SweepSettings(norm=(norm,), eps=eps, preset="grid")
        task = Task(folder, part, plan(settings, "tanh"), 0, about)
        sweep_run(task, {0: model}, Console(quiet=True))
    records = folder.load()
    witnesses = folder.arrays("witnesses")
    return Evidence(
        model=model,
        part=part,
        rows=records.rows,
        radii={norm: records.radii_of(norm)[0] for norm in records.norms},
        witnesses={norm: witnesses[f"witness/{norm}"] for norm in records.norms},
        cells=records.info["cells"],
        own={
            norm: {name: sizes[0] for name, sizes in records.upper_by_method(norm).items()}
            for norm in records.norms
        },
    )


def verdict(name, evidence):
    return CHECKS[name](evidence).verdict


@pytest.mark.long
def test_every_check_passes_a_sound_sweep_and_explains_itself(evidence):
    told = []
    findings = audit(evidence, told.append)
    assert told == list(CHECKS)
    # These need several networks, or several strong attacks.
    several = {"G14-transfer", "G22-optimality", "G24-seeds"}
    assert {finding["check"] for finding in findings} == set(CHECKS) - several
    for finding in findings:
        assert finding["verdict"] == "ok", finding
        assert all(finding[part] for part in ("title", "threshold", "meaning"))


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_says_what_it_means(check):
    assert len(CHECKS[check].__doc__.split()) > 20


def test_a_curve_that_counts_other_clean_images_fails(evidence):
    rows = evidence.rows.copy()
    rows.loc[(rows.kind == "worst") & (rows.eps == 0), "correct"] += 1
    assert verdict("G25-clean-count", dataclasses.replace(evidence, rows=rows)) == "fail"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda z: z + np.float32(1e-7),  # a size other than claimed
        lambda z: z * 3,  # outside the box
        lambda z: np.roll(z, 1, axis=0),  # the witness of another image
    ],
    ids=["other-size", "outside-the-box", "other-image"],
)
def test_a_witness_that_is_not_what_it_claims_fails(evidence, spoil):
    spoiled = {norm: spoil(witness) for norm, witness in evidence.witnesses.items()}
    assert verdict("G16-feasibility", dataclasses.replace(evidence, witnesses=spoiled)) == "fail"


def test_a_network_whose_gradient_is_gone_fails(evidence):
    import equinox as eqx
    import jax
    from problems import Affine

    class Killed(Affine):
        """Gradients stop at the input."""

        def __call__(self, x):
            return self.weight @ jax.lax.stop_gradient(x) + self.bias

    weight = jax.random.normal(jax.random.key(0), (10, 64))
    killed = Killed(weight, jax.numpy.zeros(10))
    found = CHECKS["G1-input-gradients"](dataclasses.replace(evidence, model=killed))
    assert (found.verdict, found.number) == ("fail", 1.0)
    assert eqx.is_array(killed.weight)


def test_cross_entropy_that_underflows_is_told_from_a_sound_margin(evidence):
    import jax.numpy as jnp

    confident = Scaled(evidence.model, jnp.array(1e4), jnp.array(0.0))
    found = CHECKS["G1-input-gradients"](dataclasses.replace(evidence, model=confident))
    assert found.verdict == "fail"
    assert "0.00% of images for the margin" in found.meaning
    assert "0.00% for cross-entropy" not in found.meaning
    assert CrossEntropy()


@pytest.mark.parametrize(
    ("single", "expected"), [(700, "ok"), (801, "ok"), (807, "look"), (820, "fail")]
)
def test_one_step_that_beats_many_is_noticed(evidence, single, expected):
    broken = lambda count: np.where(np.arange(1000) < count, 0.1, np.inf)
    own = {"linf": {"fgsm-linf": broken(single), "pgd40-linf": broken(800)}}
    changed = dataclasses.replace(evidence, own=own)
    assert verdict("G3-iterative-beats-single", changed) == expected


def test_methods_are_compared_on_the_images_that_all_of_them_ran_on(evidence):
    everywhere = np.full(1000, 0.1)
    own = {"linf": {"fgsm-linf": everywhere, "pgd40-linf": np.full(1000, np.nan)}}
    assert CHECKS["G3-iterative-beats-single"](dataclasses.replace(evidence, own=own)) is None
    own["linf"]["pgd40-linf"][:100] = 0.1
    assert verdict("G3-iterative-beats-single", dataclasses.replace(evidence, own=own)) == "ok"


def test_an_impossible_median_fails_and_an_early_end_is_only_looked_at(evidence):
    radii = evidence.radii["l2"]

    def with_upper(size):
        upper = np.where(radii.upper > 0, size, 0.0)
        return dataclasses.replace(evidence, radii={"l2": dataclasses.replace(radii, upper=upper)})

    assert verdict("G6-plausible-l2", with_upper(8.0)) == "ok"
    assert verdict("G6-plausible-l2", with_upper(9.5)) == "fail"
    assert verdict("G6-plausible-l2", with_upper(np.inf)) == "look"


def test_a_curve_that_levels_off_is_looked_at(evidence):
    rows = evidence.rows[evidence.rows.eps.fillna(0) <= 0.1]
    assert verdict("G26-reaches-zero", dataclasses.replace(evidence, rows=rows)) == "look"


def test_numbers_that_are_not_finite_fail(evidence):
    cells = {"linf/pgd40-linf": {"nonfinite": 3.0, "close": 2.0}}
    found = CHECKS["nonfinite"](dataclasses.replace(evidence, cells=cells))
    assert (found.verdict, found.number) == ("fail", 3)
    assert "2 of all decisions" in found.meaning


def test_a_check_without_evidence_says_nothing(evidence):
    empty = dataclasses.replace(
        evidence, rows=evidence.rows.iloc[:0], radii={}, witnesses={}, cells={}, own={}
    )
    findings = audit(empty)
    assert {finding["check"] for finding in findings} == {"G1-input-gradients"}
    missing = {one["check"]: one["needs"] for one in unchecked(findings)}
    assert list(missing) == [name for name in CHECKS if name != "G1-input-gradients"]
    assert missing["G24-seeds"] == "several seeds"
    assert missing["G9-doubled-steps"] == "radii above 0 in a norm with PGD"
    assert "what this run does not hold" not in missing.values()


def test_a_need_is_told_of_checks_that_there_are():
    from robust_mnist.audit import _NEEDS

    assert {name for names in _NEEDS.values() for name in names} <= set(CHECKS)
