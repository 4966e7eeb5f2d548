"""G3: many steps find at least what one step finds."""

import numpy as np

from robust_mnist.attacks import ATTACKS, AbstractBallAttack
from robust_mnist.audit._evidence import Evidence, Finding


def iterative_beats_single(evidence: Evidence) -> Finding | None:
    """Images that a one-step attack breaks at some eps and no iterative attack breaks there.

    If one step succeeds where many fail, the iterative search is badly tuned or the gradient
    misleads it; try more steps, restarts or another loss.
    """
    rows = evidence.rows[(evidence.rows.kind == "attacked") & (evidence.rows.eps > 0)]
    one_step = {
        name for name, a in ATTACKS.items() if isinstance(a, AbstractBallAttack) and a.one_step
    }
    single, many = rows[rows.method.isin(one_step)], rows[~rows.method.isin(one_step)]
    if single.empty or many.empty:
        return None
    least = [frame.groupby(["norm", "eps"]).correct.min() for frame in (single, many)]
    images = int(rows.images.max())
    excess = float(np.max((least[1] - least[0]).dropna().to_numpy())) / images
    return Finding(
        title="iterative attacks break at least what one step breaks",
        verdict="ok" if excess <= 0 else "look" if excess <= 0.002 else "fail",
        number=max(excess, 0.0),
        threshold="look above 0, fail above 0.2 % of the images",
        meaning="Largest lead of a one-step attack over the iterative ones at any eps.",
    )
