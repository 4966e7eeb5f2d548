"""G8: random noise breaks nothing new."""

import numpy as np

from robust_mnist.attacks import ATTACKS, Noise
from robust_mnist.audit._evidence import Evidence, Finding, counted, worst
from robust_mnist.audit._probe import Probe


DRAWS = 3


def noise(evidence: Evidence) -> Finding | None:
    """Images that random points of the ball break and the run has not broken, in any norm.

    A search that loses to chance has not searched. Add attacks, and see what G1 and G7 say of the
    gradients. Each image gets 300 points of every kind of noise in the registry, not 10,000 as is
    recommended: what chance finds grows with the logarithm of their number.

    The usual limit: no image of 10,000 draws each (after Carlini et al. 2019). Measured: false
    alarms on 0 of 8 sound networks, 39 of 58 variants of fakes noticed, by the usual limit 0 and
    39; reports/data/audit-rates.md.

    Reference:
        Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    return worst(filter(None, map(_in_norm, evidence.probes.values())))


def kinds_of(norm: str) -> list[Noise]:
    """Every kind of noise in a norm's ball."""
    return [a for a in ATTACKS.values() if isinstance(a, Noise) and a.ball.name == norm]


def _in_norm(probe: Probe) -> Finding | None:
    kinds = kinds_of(probe.norm)
    if not kinds:
        return None
    tries = [probe.attack(kind, restart=draw).broken for kind in kinds for draw in range(DRAWS)]
    new = np.any(tries, axis=0) & ~probe.known
    return counted(
        "random noise breaks nothing new",
        int(new.sum()), probe.count, look=0.0, fail=0.01, chance=False,
        meaning=f"Noise broke {new.sum()} of {probe.where} that the run has not broken.",
    )  # fmt: skip
