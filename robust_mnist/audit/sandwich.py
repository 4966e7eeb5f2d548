"""G23: no certificate contradicts an attack."""

import itertools

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.threat import BALLS


# No change is larger in a norm than in the next: pixels move by at most 1.
ORDER = ("linf", "l2", "l1", "l0")


def sandwich(evidence: Evidence) -> Finding | None:
    """Images certified at a radius at which an attack has broken them, across norms as well.

    A certificate in Linf holds in L2, L1 and L0 too, since no change is larger in Linf than there.
    So bounds found by different methods in different norms check each other. Any violation is a
    bug in a certifier or in an attack.
    """
    assert set(ORDER) == set(BALLS)
    radii = [evidence.radii[norm] for norm in ORDER if norm in evidence.radii]
    if not any(np.any(found.lower > 0) for found in radii):
        return None
    pairs = itertools.combinations_with_replacement(radii, 2)
    wrong = np.any([inner.lower >= outer.upper for inner, outer in pairs], axis=0)
    count = int(wrong.sum())
    return Finding(
        title="certificates and attacks do not contradict each other",
        verdict="ok" if count == 0 else "fail",
        number=count,
        threshold="fail above 0 images",
        meaning="Within a norm and from smaller norms to larger; a contradiction is a bug.",
    )
