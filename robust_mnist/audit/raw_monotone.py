"""G4: a larger radius does not undo a break."""

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding, counted, worst
from robust_mnist.audit._probe import Probe


LADDER = 5


def raw_monotone(evidence: Evidence) -> Finding | None:
    """Images that PGD breaks at some radius of the sweep and misses at a larger one, in any norm.

    The larger ball holds the smaller one, so each miss is the attack's. The curve hides them, for a
    break settles all larger radii; here every radius is attacked afresh. Many say that the attack
    is too weak for its radius, or that the network's surface is broken up.

    The usual limit: no image, fail above 0.5 % (after Carlini et al. 2019). Measured: false alarms
    on 2 of 8 sound networks, 24 of 58 variants of fakes noticed, by the usual limit 2 and 24;
    reports/data/audit-rates.md.

    Reference:
        Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    return worst(map(_in_norm, evidence.probes.values()))


def _in_norm(probe: Probe) -> Finding:
    middle = probe.grid.index(probe.eps)
    start = max(0, min(middle - LADDER // 2, len(probe.grid) - LADDER))
    ladder = probe.grid[start : start + LADDER]
    broken = np.array([probe.pgd(eps=eps).broken for eps in ladder])
    undone = np.any(np.maximum.accumulate(broken, axis=0) & ~broken, axis=0)
    return counted(
        "PGD alone is monotone in eps",
        int(undone.sum()), probe.count, look=0.0, fail=0.005, chance=False,
        meaning=(
            f"{undone.sum()} of {probe.count} images were broken at one of {len(ladder)} radii "
            f"in {probe.ball.title} from {ladder[0]:g} to {ladder[-1]:g} and not at a larger one."
        ),
    )  # fmt: skip
