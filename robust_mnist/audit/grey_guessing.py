"""G5: a large eps leaves guessing."""

import jax.numpy as jnp
import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding


def grey_guessing(evidence: Evidence) -> Finding | None:
    """Accuracy under PGD where every image can become the same grey, at Linf 0.5 for instance.

    All images can be given one content there, and so one answer, so that no network is right on
    more than the commonest class. A higher accuracy is the attack's failure: it moves too little,
    or the gradient leads it astray. Where the whole box is open nothing at all may stand.

    Reference:
        Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    probe = evidence.probe
    if probe is None:
        return None
    half, whole = (
        float(probe.ball.size(jnp.full(probe.pixels.shape[1], share))) for share in (0.5, 1.0)
    )
    accuracy = float(np.mean(~probe.pgd(eps=half).broken))
    anywhere = int(np.sum(~probe.pgd(eps=whole).broken))
    guessing = float(np.bincount(probe.part.labels).max()) / probe.count
    return Finding(
        title="a large eps leaves guessing",
        verdict="fail" if accuracy > guessing or anywhere else "ok",
        number=accuracy,
        threshold="fail above the share of the commonest class, or if any stands in the box",
        meaning=(
            f"Accuracy of {probe.count} images under PGD at eps = {half:g}, of which the commonest "
            f"class has {guessing:.1%}; {anywhere} stood where every image was allowed."
        ),
    )
