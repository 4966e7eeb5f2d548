"""G25: accuracy at eps = 0 is the test accuracy."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_mnist import metrics
from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.data.pixels import to_float


def clean_count(evidence: Evidence) -> Finding | None:
    """The curve at eps = 0 counts exactly the images that plain evaluation counts as right.

    The second count takes another path: all images at once, through the metrics that training
    uses. A difference means that attacked and plain images are not treated alike, by
    preprocessing, precision or order; find it before reading any curve.
    """
    worst = evidence.rows[(evidence.rows.kind == "worst") & (evidence.rows.eps == 0)]
    if worst.empty:
        return None
    labels = jnp.asarray(evidence.part.labels, jnp.int32)
    with jax.default_matmul_precision("highest"):
        pixels = jnp.asarray(to_float(evidence.part.images))
        plain = metrics.evaluate(evidence.model, pixels, labels)
    count = round(float(plain["accuracy"]) * len(evidence.part.labels))
    difference = int(np.max(np.abs(worst.correct.to_numpy() - count)))
    return Finding(
        title="accuracy at eps = 0 equals plain test accuracy",
        verdict="ok" if difference == 0 else "fail",
        number=difference,
        threshold="fail above 0 images",
        meaning="Clean and attacked images must be judged alike; a difference is a bug.",
    )
