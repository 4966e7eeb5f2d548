"""What an answer is worth: decided for every side by the same code, in float64."""

import dataclasses

import numpy as np

from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import judge_batch, pull, sizes


# What the images of others may lie outside the box or the ball without being counted for it.
TOLERANCE = 1e-6
CHUNK = 1000


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What one attack of one side found.

    Attributes:
        size: float64 size of the closest wrong image of each, after all its answers were moved
            into box and ball exactly; inf where none is wrong, 0 where the clean one is.
        infeasible: Answers outside the box or the ball by more than `TOLERANCE`.
        excess: How far the worst of all answers lies outside.
    """

    size: np.ndarray
    infeasible: int
    excess: float


def judge(
    model: AbstractClassifier,
    norm: str,
    clean: np.ndarray,
    labels: np.ndarray,
    answer: np.ndarray,
    radii: tuple[float, ...],
) -> Verdict:
    """Judge an answer.

    Args:
        model: The network.
        norm: Of the perturbations.
        clean: Pixels in [0, 1], at least as many images as were attacked.
        labels: True classes.
        answer: Shape (radii, images, pixels) of an attack that was given radii, or (images,
            pixels) of one that was given none.
        radii: Those that it was given.
    """
    each = [(answer, np.inf)] if answer.ndim == 2 else list(zip(answer, radii, strict=True))
    count = answer.shape[-2]
    clean, labels = clean[:count], labels[:count]
    margins, _ = judge_batch(model, clean, labels, chunk=CHUNK)
    size, infeasible, excess = np.where(margins > 0, np.inf, 0.0), 0, 0.0
    for images, eps in each:
        outside = np.concatenate(
            [_outside(norm, clean[at], images[at], eps) for at in _chunks(count)]
        )
        infeasible += int(np.sum(~(outside <= TOLERANCE)))
        excess = max(excess, float(np.max(np.nan_to_num(outside, nan=np.inf))))
        pulled = np.concatenate(
            [
                pull(norm, clean[at], images[at], np.full(len(images[at]), eps))
                for at in _chunks(count)
            ]
        )
        margins, _ = judge_batch(model, pulled, labels, chunk=CHUNK)
        # A NaN compares as false: it is no success.
        size = np.minimum(size, np.where(margins <= 0, sizes(norm, clean, pulled), np.inf))
    return Verdict(size, infeasible, excess)


def _chunks(count: int) -> list[slice]:
    # Chunk by chunk: float64 copies of one stay in the cache.
    return [slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _outside(norm: str, clean: np.ndarray, images: np.ndarray, eps: float) -> np.ndarray:
    """How far each image lies outside the box or the ball, at least 0."""
    box = np.maximum(-images, images - np.float32(1)).max(axis=1).astype(np.float64)
    ball = sizes(norm, clean, images) - eps if np.isfinite(eps) else np.zeros(len(images))
    return np.maximum(np.maximum(box, ball), 0.0)
