"""G17: what is wrong in float32 is wrong in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from robust_mnist import metrics
from robust_mnist.audit._evidence import Evidence, Finding, counted
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import in_chunks


def precision(evidence: Evidence) -> Finding | None:
    """Stored wrong images that the network, evaluated in float64, gets right.

    The sweep decides in float32 at the highest precision of products, and prefers images that are
    clearly wrong. One that is right in float64 owes its break to rounding, which differs from
    device to device. A few lie on the boundary itself; many say that logits are so large, or so
    alike, that float32 cannot order them.
    """
    right, seen = 0, 0
    for norm, radii in evidence.radii.items():
        found = np.isfinite(radii.upper)
        margins = _margins(evidence.model, evidence.witnesses[norm], evidence.part.labels)
        right += int(np.sum(found & (margins > 0)))
        seen += int(np.sum(found))
    if not seen:
        return None
    return counted(
        "what is wrong in float32 is wrong in float64",
        right, seen, look=0.001, fail=0.01,
        meaning=f"{right} of {seen} stored wrong images are right in float64.",
    )  # fmt: skip


def _margins(
    model: AbstractClassifier, images: np.ndarray, labels: np.ndarray
) -> Float64[np.ndarray, " images"]:
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf, model
        )
        (margins,) = in_chunks(
            lambda x, y: _wide(wide, x, y),
            min(1000, len(labels)), images.astype(np.float64), labels.astype(np.int32),
        )  # fmt: skip
    return margins


@eqx.filter_jit
def _wide(
    model: AbstractClassifier, images: Array, labels: Array
) -> tuple[Float[Array, " images"]]:
    return (jax.vmap(lambda x, y: metrics.margin(model(x), y))(images, labels),)
