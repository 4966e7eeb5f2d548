"""Trust checks: can the numbers of a run be believed?

To add one, write `audit/<name>.py` with a function from `Evidence` to a `Finding`, and name it in
`CHECKS`. Its docstring says what it means and what to do.
"""

from collections.abc import Callable

from robust_mnist.audit._evidence import (
    Evidence as Evidence,
    Finding as Finding,
    Verdict as Verdict,
)
from robust_mnist.audit.clean_count import clean_count
from robust_mnist.audit.feasibility import feasibility
from robust_mnist.audit.input_gradients import input_gradients
from robust_mnist.audit.iterative_beats_single import iterative_beats_single
from robust_mnist.audit.nonfinite import nonfinite
from robust_mnist.audit.plausible_l2 import plausible_l2
from robust_mnist.audit.reaches_zero import reaches_zero
from robust_mnist.plugins import with_plugins


CHECKS: dict[str, Callable[[Evidence], Finding | None]] = with_plugins(
    "checks",
    {
        "G1-input-gradients": input_gradients,
        "G3-iterative-beats-single": iterative_beats_single,
        "G6-plausible-l2": plausible_l2,
        "G16-feasibility": feasibility,
        "nonfinite": nonfinite,
        "G25-clean-count": clean_count,
        "G26-reaches-zero": reaches_zero,
    },
)


def audit(evidence: Evidence) -> list[dict[str, object]]:
    """Every check that applies, as JSON values for `run.json`."""
    findings = ((name, check(evidence)) for name, check in CHECKS.items())
    return [{"check": name, **finding.as_dict()} for name, finding in findings if finding]
