"""Votes of noisy copies over a batch of images."""

from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from robust_mnist.certify.smoothing import AbstractSmoothing
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.models import MLP
from robust_mnist.records import Smoothed
from robust_mnist.sweep._driver import image_keys, in_chunks, method_key


def smooth(
    smoothing: AbstractSmoothing,
    model: MLP,
    part: Part,
    *,
    samples: int,
    key: PRNGKeyArray,
    select: int = 100,
    alpha: float = 0.001,
    chunk: int = 0,
    done: Callable[[int], None] = lambda _: None,
) -> Smoothed:
    """Certify the smoothed version of a network in L2, image by image.

    A few draws choose a class, others, which know nothing of the choice, tell its probability.

    Args:
        smoothing: The noise.
        model: The network that is smoothed.
        part: Images as stored, labels and indices.
        samples: Draws for each image that tell the probability, at least 1.
        key: Randomness; the draws of an image depend on its index alone.
        select: Draws that choose the class, at least 1.
        alpha: Probability that an image's certificate may be wrong, in (0, 1).
        chunk: Images per compiled call; 0 for what suits the device.
        done: Told how many images are done after each call.

    Raises:
        InputError: A number of draws, or `alpha`, is out of range.
    """
    if min(samples, select) < 1:
        raise InputError(f"samples and select must be at least 1, got {min(samples, select)}")
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1, got {alpha:g}")
    key = method_key(key, "smoothing")
    size = min(chunk or (20 if jax.default_backend() == "cpu" else 500), len(part.labels))
    parts = []
    for start in range(0, len(part.labels), size):
        some = part.take(np.arange(start, min(start + size, len(part.labels))))
        parts.append(
            in_chunks(
                lambda x, i: _votes(smoothing, model, x, i, key, select, samples),
                size, some.images, some.ids.astype(np.int32),
            )
        )  # fmt: skip
        done(start + len(some.labels))
    first, votes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Smoothed(smoothing.sigma, alpha, part.labels, first, votes, samples)


@eqx.filter_jit
def _votes(
    smoothing: AbstractSmoothing,
    model: MLP,
    images: UInt8[Array, "images pixels"],
    ids: Int[Array, " images"],
    key: PRNGKeyArray,
    select: int,
    samples: int,
) -> tuple[Int[Array, "images classes"], Int[Array, "images classes"]]:
    def both(x: Float[Array, " pixels"], own: PRNGKeyArray) -> tuple[Array, Array]:
        choose, tell = jax.random.split(own)
        return (
            smoothing.votes(model, x, samples=select, key=choose),
            smoothing.votes(model, x, samples=samples, key=tell),
        )

    # A GPU's default would be that of other weights, and of other noise.
    with jax.default_matmul_precision("highest"):
        return jax.vmap(both)(to_float(images), image_keys(key, ids))
