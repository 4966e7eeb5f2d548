"""G16: every witness is allowed and wrong."""

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.data.pixels import to_float
from robust_mnist.sweep import judge_batch, sizes


def feasibility(evidence: Evidence) -> Finding | None:
    """Stored wrong images lie in the box, have exactly the size claimed, and are wrong.

    Recomputed from the files in float64 and with a fresh forward pass. Any other outcome means
    that `upper` is not a bound.
    """
    bad, seen = 0, 0
    for norm, radii in evidence.radii.items():
        witness, found = evidence.witnesses[norm], np.isfinite(radii.upper)
        size = sizes(norm, to_float(evidence.part.images), witness)
        margins, _ = judge_batch(evidence.model, witness, evidence.part.labels)
        outside = np.any((witness < 0) | (witness > 1), axis=1)
        bad += int(np.sum(found & (outside | (size != radii.upper) | (margins > 0))))
        seen += int(np.sum(found))
    if not seen:
        return None
    return Finding(
        title="witnesses are in the box, of the size claimed, and wrong",
        verdict="ok" if bad == 0 else "fail",
        number=bad,
        threshold="fail above 0 images",
        meaning=f"{seen} stored images were checked again; one that fails is no upper bound.",
    )
