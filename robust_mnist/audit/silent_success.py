"""G12: no success is lost on the way."""

import itertools

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding, counted
from robust_mnist.sweep import CLOSE


def silent_success(evidence: Evidence) -> Finding | None:
    """Images that PGD had broken after 30 or 40 steps and reports as failures after more.

    Runs of 30, 40 and 80 steps share their draws, so each is the beginning of the next, and what an
    earlier one found the later one has seen. An attack that returns its last image instead of its
    best loses such finds. It is a bug in the attack, or a network that answers differently when it
    is asked again.

    The usual limit: no image (Pintor et al. 2022). Measured: false alarms on 0 of 8 sound networks,
    0 of 58 variants of fakes noticed, by the usual limit 0 and 0; reports/data/audit-rates.md.

    Reference:
        Pintor et al., "Indicators of attack failure", NeurIPS 2022.
    """
    probe = evidence.probe
    if probe is None:
        return None
    runs = [probe.pgd(share) for share in (0.75, 1.0, 2.0)]
    # Wrong by more than rounding, and later clearly right.
    lost = [
        (before.margins < -CLOSE) & (after.margins > CLOSE)
        for before, after in itertools.pairwise(runs)
    ]
    count = int(np.any(lost, axis=0).sum())
    return counted(
        "no wrong image is lost on the way",
        count, probe.count, look=0.0, fail=0.0, chance=False,
        meaning=f"{count} of {probe.where} were broken after fewer steps and not after more.",
    )  # fmt: skip
