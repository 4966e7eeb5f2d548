"""G6: no network on this data is more robust in L2 than the data allow."""

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding


def plausible_l2(evidence: Evidence) -> Finding | None:
    """Median L2 radius over the images that are right on clean data.

    The median distance to the nearest digit of another class is about 9, so a larger median
    cannot be true; an attack that fails on half of the images gives infinity here.

    Reference:
        Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    if "l2" not in evidence.radii:
        return None
    upper = evidence.radii["l2"].upper
    right = upper[upper > 0]
    median = float(np.median(right)) if right.size else 0.0
    tried = evidence.rows[
        (evidence.rows.norm == "l2") & (evidence.rows.kind == "attacked")
    ].eps.max()
    beyond = not np.isfinite(median) and tried < 9
    return Finding(
        title="median L2 radius is possible for digits",
        verdict="ok" if median < 9 else "look" if beyond else "fail",
        number=median if np.isfinite(median) else float(tried),
        threshold="fail at 9 or more",
        meaning=(
            "Half of the right images are still standing at the largest eps; sweep further."
            if beyond
            else "Half of the right images have a wrong neighbour this close."
        ),
    )
