"""G10: another random start finds nothing new."""

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding, counted


RESTARTS = 5


def restarts(evidence: Evidence) -> Finding | None:
    """What the last of five random starts of PGD adds to the others and to the run.

    Each start counts as the last in turn: a break that only one of them found is what that one
    adds. The number of images no start has found is estimated from those that one or two found. If
    it is large, add restarts or other attacks.

    Reference:
        Chao, "Nonparametric estimation of the number of classes in a population", 1984, in the form
        without bias.
    """
    probe = evidence.probe
    if probe is None:
        return None
    found = np.sum([probe.pgd(restart=i).broken for i in range(RESTARTS)], axis=0)
    found = np.where(probe.known, RESTARTS, found)
    once, twice = int(np.sum(found == 1)), int(np.sum(found == 2))
    unseen = once * (once - 1) * (RESTARTS - 1) / RESTARTS / (2 * (twice + 1))
    return counted(
        "random starts have found what there is",
        once, probe.count * RESTARTS, look=0.001, fail=0.01,
        meaning=(
            f"{once} new breaks were found by one of {RESTARTS} starts alone; about {unseen:.0f} "
            f"more are unseen, of {probe.where}."
        ),
    )  # fmt: skip
