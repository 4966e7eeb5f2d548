"""G1: gradients with respect to the input exist."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_mnist.attacks import AbstractLoss, CrossEntropy, Margin
from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import in_chunks


def input_gradients(evidence: Evidence) -> Finding:
    """Share of images, clean or at a random start, where a loss has a zero or non-finite gradient.

    Without a gradient an attack cannot move and reports robustness that is not there. The margin,
    which the search ascends, must have one everywhere. Cross-entropy, which the one-step attacks
    and the lab ascend, underflows on confident networks as well as on those whose logits somebody
    has scaled (a sound one that was trained at a learning rate of 0.03 had none on 8 % of the
    images): believe no curve of such an attack then, and only attacks on the margin.

    Reference:
        The limits are those of AutoAttack's checks, for each loss.
    """
    margin, cross_entropy = (_dead_share(evidence, loss) for loss in (Margin(), CrossEntropy()))
    number = max(margin, cross_entropy)
    return Finding(
        title="losses have an input gradient",
        verdict="fail" if number > 0.01 else "look" if number > 0 else "ok",
        number=number,
        threshold="look above 0, fail above 0.01",
        meaning=(
            f"Zero or non-finite gradients: {margin:.2%} of images for the margin, "
            f"{cross_entropy:.2%} for cross-entropy; an attack on a loss without gradients only "
            "seems to fail."
        ),
    )


def _dead_share(evidence: Evidence, loss: AbstractLoss) -> float:
    """The larger of the shares of clean images and of random starts, in any norm."""
    part, probes = evidence.part, evidence.probes.values()
    groups = [(to_float(part.images), part.labels), *((p.starts, p.part.labels) for p in probes)]
    shares = []
    for pixels, labels in groups:
        (flags,) = in_chunks(
            lambda x, y: _dead(evidence.model, loss, x, y),
            min(1000, len(labels)), pixels, labels.astype(np.int32),
        )  # fmt: skip
        shares.append(float(np.mean(flags)))
    return max(shares)


@eqx.filter_jit
def _dead(
    model: AbstractClassifier,
    loss: AbstractLoss,
    images: Float[Array, "images pixels"],
    labels: Int[Array, " images"],
) -> tuple[Bool[Array, " images"]]:
    gradient = jax.vmap(jax.grad(lambda x, y: loss(model(x), y)))(images, labels)
    return (~jnp.isfinite(gradient).all(axis=1) | (gradient == 0).all(axis=1),)
