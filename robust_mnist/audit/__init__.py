"""Trust checks: can the numbers of a run be believed?

To add one, write `audit/<name>.py` with a function from `Evidence` to a `Finding`, and name it in
`CHECKS`. Its docstring says what it means and what to do. G21, that the checks notice networks
which are made to deceive, says nothing of a single run and has no place here.
"""

from collections.abc import Callable

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
    },
)


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
