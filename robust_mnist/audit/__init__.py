"""Trust checks: can the numbers of a run be believed?

To add one, write `audit/<name>.py` with a function from `Evidence` to a `Finding`, and name it in
`CHECKS`. Its docstring says what it means and what to do; where its limit is not the usual one,
also how often it accuses sound networks and notices fakes, as `nox -s audit-rates` finds. G21, that
the checks notice networks which are made to deceive, says nothing of a single run: `selftest`
answers it.
"""

from collections.abc import Callable, Iterable, Mapping

from robust_mnist.audit._evidence import (
    Evidence as Evidence,
    Finding as Finding,
    Verdict as Verdict,
)
from robust_mnist.audit._gather import of_run as of_run
from robust_mnist.audit.batch_split import batch_split
from robust_mnist.audit.black_box import black_box
from robust_mnist.audit.clean_count import clean_count
from robust_mnist.audit.doubled_steps import doubled_steps
from robust_mnist.audit.feasibility import feasibility
from robust_mnist.audit.grey_guessing import grey_guessing
from robust_mnist.audit.input_gradients import input_gradients
from robust_mnist.audit.iterative_beats_single import iterative_beats_single
from robust_mnist.audit.logit_scale import logit_scale
from robust_mnist.audit.logits import logits
from robust_mnist.audit.noise import noise
from robust_mnist.audit.nonfinite import nonfinite
from robust_mnist.audit.optimality import optimality
from robust_mnist.audit.planted import planted
from robust_mnist.audit.plausible_l2 import plausible_l2
from robust_mnist.audit.precision import precision
from robust_mnist.audit.raw_monotone import raw_monotone
from robust_mnist.audit.reaches_zero import reaches_zero
from robust_mnist.audit.restarts import restarts
from robust_mnist.audit.run_counts import run_counts
from robust_mnist.audit.sandwich import sandwich
from robust_mnist.audit.seeds import seeds
from robust_mnist.audit.silent_success import silent_success
from robust_mnist.audit.targeted import targeted
from robust_mnist.audit.transfer import transfer
from robust_mnist.audit.unfinished import unfinished
from robust_mnist.audit.unstable import unstable
from robust_mnist.plugins import with_plugins


CHECKS: dict[str, Callable[[Evidence], Finding | None]] = with_plugins(
    "checks",
    {
        "G1-input-gradients": input_gradients,
        "G2-logit-scale": logit_scale,
        "G3-iterative-beats-single": iterative_beats_single,
        "G4-raw-monotone": raw_monotone,
        "G5-grey-guessing": grey_guessing,
        "G6-plausible-l2": plausible_l2,
        "G7-black-box": black_box,
        "G8-noise": noise,
        "G9-doubled-steps": doubled_steps,
        "G10-restarts": restarts,
        "G11-unfinished": unfinished,
        "G12-silent-success": silent_success,
        "G13-unstable": unstable,
        "G14-transfer": transfer,
        "G15-targeted": targeted,
        "G16-feasibility": feasibility,
        "nonfinite": nonfinite,
        "G17-precision": precision,
        "G18-batch-split": batch_split,
        "G19-logits": logits,
        "G20-planted": planted,
        "G22-optimality": optimality,
        "G23-sandwich": sandwich,
        "G24-seeds": seeds,
        "G25-clean-count": clean_count,
        "G26-reaches-zero": reaches_zero,
        "G27-run-counts": run_counts,
    },
)


# What checks look at that not every run has.
_NEEDS: dict[str, tuple[str, ...]] = {
    "radii above 0 in a norm with PGD": (
        "G2-logit-scale", "G4-raw-monotone", "G5-grey-guessing", "G9-doubled-steps",
        "G10-restarts", "G11-unfinished", "G12-silent-success", "G13-unstable",
        "G18-batch-split", "G19-logits",
    ),
    "a one-step and an iterative attack in one norm": ("G3-iterative-beats-single",),
    "an attack in L2": ("G6-plausible-l2",),
    "radii above 0 in a norm with PGD and Square": ("G7-black-box",),
    "radii above 0 in a norm with PGD and noise": ("G8-noise",),
    "several seeds": ("G14-transfer", "G24-seeds"),
    "radii above 0 in a norm with targeted PGD": ("G15-targeted",),
    "a wrong image": ("G16-feasibility",),
    "an attack": ("nonfinite", "G17-precision", "G25-clean-count", "G26-reaches-zero"),
    "an attack on single radii, with its runs counted": ("G27-run-counts",),
    "a radius at which wrong images can be planted": ("G20-planted",),
    "two attacks of many steps in one norm": ("G22-optimality",),
    "a certificate": ("G23-sandwich",),
}  # fmt: skip


def unchecked(findings: Iterable[Mapping[str, object]]) -> list[dict[str, str]]:
    """The checks that had nothing to look at, each with what it needs, for `run.json`.

    Args:
        findings: What `audit` has given.
    """
    needs = {name: need for need, names in _NEEDS.items() for name in names}
    ran = {finding["check"] for finding in findings}
    return [
        {"check": name, "needs": needs.get(name, "what this run does not hold")}
        for name in CHECKS
        if name not in ran
    ]


def audit(evidence: Evidence, told: Callable[[str], None] | None = None) -> list[dict[str, object]]:
    """Every check that applies, as JSON values for `run.json`.

    Args:
        evidence: What is checked.
        told: Called with the name of each check before it runs.
    """
    findings = []
    for name, check in CHECKS.items():
        if told is not None:
            told(name)
        finding = check(evidence)
        if finding is not None:
            findings.append({"check": name, **finding.as_dict()})
    return findings
