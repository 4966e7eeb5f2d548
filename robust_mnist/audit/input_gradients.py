"""G1: gradients with respect to the input exist."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from robust_mnist.attacks import AbstractLoss, CrossEntropy, Margin
from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.data.pixels import to_float
from robust_mnist.sweep import in_chunks


def input_gradients(evidence: Evidence) -> Finding:
    """Share of clean images at which a loss has a zero or non-finite gradient.

    Without a gradient an attack cannot move and reports robustness that is not there. The verdict
    is about the margin, which the search ascends; cross-entropy, which the one-step attacks and
    the lab ascend, underflows on confident networks and is named beside it.
    """
    share = {
        name: _dead_share(evidence, loss)
        for name, loss in (("margin", Margin()), ("cross-entropy", CrossEntropy()))
    }
    margin = share["margin"]
    return Finding(
        title="the margin has an input gradient",
        verdict="ok" if margin == 0 else "look" if margin <= 0.01 else "fail",
        number=margin,
        threshold="look above 0, fail above 1 % of the images",
        meaning=(
            f"Zero or non-finite gradients: {margin:.2%} of images for the margin, "
            f"{share['cross-entropy']:.2%} for cross-entropy; an attack on a loss without "
            "gradients only seems to fail."
        ),
    )


def _dead_share(evidence: Evidence, loss: AbstractLoss) -> float:
    @eqx.filter_jit
    def dead(model: eqx.Module, images: jax.Array, labels: jax.Array) -> tuple[jax.Array]:
        gradient = jax.vmap(jax.grad(lambda x, y: loss(model(x), y)))(images, labels)  # type: ignore[operator]
        return (~jnp.isfinite(gradient).all(axis=1) | (gradient == 0).all(axis=1),)

    pixels, labels = to_float(evidence.part.images), evidence.part.labels.astype(np.int32)
    (flags,) = in_chunks(lambda x, y: dead(evidence.model, x, y), 1000, pixels, labels)
    return float(np.mean(flags))
