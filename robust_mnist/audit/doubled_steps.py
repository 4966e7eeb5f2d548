"""G9: twice the steps, and ten times, change nothing."""

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding, counted, worst
from robust_mnist.audit._probe import Probe


LONGER = (2.0, 10.0)


def doubled_steps(evidence: Evidence) -> Finding | None:
    """Images that 80 or 400 steps of PGD break and neither 40 steps nor the run, in any norm.

    An attack that goes on finding is not at its end, and the curve would fall with a larger budget.
    Add an attack with more steps, or run a larger preset.

    The usual limit: 0.2 % (after Carlini et al. 2019). Measured: false alarms on 2 of 8 sound
    networks, 13 of 58 variants of fakes noticed, by the usual limit 2 and 16;
    reports/data/audit-rates.md.

    Reference:
        Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    return worst(map(_in_norm, evidence.probes.values()))


def _in_norm(probe: Probe) -> Finding:
    longer = np.any([probe.pgd(share).broken for share in LONGER], axis=0)
    new = longer & ~probe.pgd().broken & ~probe.known
    return counted(
        "more steps break nothing new",
        int(new.sum()), probe.count, look=0.002, fail=0.02,
        meaning=f"Two and ten times the steps of PGD broke {new.sum()} more of {probe.where}.",
    )  # fmt: skip
