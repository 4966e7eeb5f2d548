"""What is measured of a classifier's logits, image by image; the caller takes the mean."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from robust_mnist.models import AbstractClassifier


def one_hot(label: Int[Array, ""], classes: int = 10) -> Float[Array, " classes"]:
    """The label as a vector: 1 at its class, 0 elsewhere."""
    return jax.nn.one_hot(label, classes)


def logit_of(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Float[Array, ""]:
    """`logits[label]`, by a mask: the gradient of an index is a scatter, a hundred times slower."""
    return jnp.sum(jnp.where(_is(label, logits), logits, jnp.zeros_like(logits)))


def _is(label: Int[Array, ""], logits: Float[Array, " classes"]) -> Bool[Array, " classes"]:
    return jnp.arange(logits.size, dtype=label.dtype) == label


def cross_entropy(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Float[Array, ""]:
    """Cross-entropy of the softmax against the label, in nats: -log p(label)."""
    # Not logsumexp minus a logit: a loss of 1e-8 would be lost in the rounding of the logit.
    return -logit_of(jax.nn.log_softmax(logits), label)


def squared_error(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Float[Array, ""]:
    """Squared difference of probabilities and one-hot label, averaged over the classes."""
    return jnp.mean((jax.nn.softmax(logits) - one_hot(label, logits.size)) ** 2)


def margin(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Float[Array, ""]:
    """True logit minus the largest other one; the classifier is right where this is above 0.

    A tie gives 0 and a NaN gives NaN: both are mistakes on a clean image.
    """
    return logit_of(logits, label) - jnp.max(other_logits(logits, label))


def other_logits(
    logits: Float[Array, " classes"], label: Int[Array, ""]
) -> Float[Array, " classes"]:
    """The logits with -inf in the place of the true class."""
    return jnp.where(_is(label, logits), -jnp.inf, logits)


def right(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Float[Array, ""]:
    """1 where the classifier is right, else 0; its mean over images is the accuracy."""
    return (margin(logits, label) > 0).astype(jnp.float32)


def evaluate(
    model: AbstractClassifier, images: Float[Array, "images pixels"], labels: Int[Array, " images"]
) -> dict[str, Float[Array, ""]]:
    """Means over the images.

    Args:
        model: Classifier.
        images: Pixels in [0, 1].
        labels: True classes.

    Returns:
        `cross_entropy` in nats, `mse` (mean over images and classes of the squared error of the
        probabilities) and `accuracy` in [0, 1].
    """
    logits = jax.vmap(model)(images)
    mean = lambda metric: jnp.mean(jax.vmap(metric)(logits, labels))
    return {
        "cross_entropy": mean(cross_entropy),
        "mse": mean(squared_error),
        "accuracy": mean(right),
    }
