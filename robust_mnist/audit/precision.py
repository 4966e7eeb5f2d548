"""G17: float32 decides like float64."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from robust_mnist import metrics
from robust_mnist.audit._evidence import Evidence, Finding, counted
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import in_chunks, judge_batch


def precision(evidence: Evidence) -> Finding | None:
    """Clean and stored wrong images on which the network in float32 decides otherwise.

    Images are judged in float64, which certificates speak of, while a network is used in float32.
    A few lie on the boundary itself; many say that logits are so large, or so alike, that float32
    cannot order them: then the network answers at random, and differently on every device.

    The usual limit: no image (nobody's, the obvious one). Measured: false alarms on 0 of 8 sound
    networks, 4 of 58 variants of fakes noticed, by the usual limit 0 and 4;
    reports/data/audit-rates.md.
    """
    if not evidence.radii:
        return None
    clean, labels = to_float(evidence.part.images), evidence.part.labels
    wide, _ = judge_batch(evidence.model, clean, labels)
    differ = int(np.sum((wide > 0) != (_margins(evidence.model, clean, labels) > 0)))
    seen = len(labels)
    for norm, radii in evidence.radii.items():
        found = np.isfinite(radii.upper) & (radii.upper > 0)
        margins = _margins(evidence.model, evidence.witnesses[norm], labels)
        differ += int(np.sum(found & (margins > 0)))
        seen += int(np.sum(found))
    return counted(
        "float32 decides like float64",
        differ, seen, look=0.001, fail=0.01, chance=False,
        meaning=f"{differ} of {seen} clean and stored wrong images are decided otherwise.",
    )  # fmt: skip


def _margins(
    model: AbstractClassifier, images: np.ndarray, labels: np.ndarray
) -> Float32[np.ndarray, " images"]:
    (margins,) = in_chunks(
        lambda x, y: _narrow(model, x, y),
        min(1000, len(labels)), images, labels.astype(np.int32),
    )  # fmt: skip
    return margins


@eqx.filter_jit
def _narrow(
    model: AbstractClassifier, images: Array, labels: Array
) -> tuple[Float[Array, " images"]]:
    with jax.default_matmul_precision("highest"):
        return (jax.vmap(lambda x, y: metrics.margin(model(x), y))(images, labels),)
