"""G17: float32 decides like float64."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from robust_mnist import metrics
from robust_mnist.audit._evidence import Evidence, Finding, counted, worst
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import image_keys, in_chunks, judge_batch, puller
from robust_mnist.threat import BALLS, AbstractBall


# Certified images that are looked at, and points of each ball.
CERTIFIED, INSIDE, BORDER = 1000, 8, 16


def precision(evidence: Evidence) -> Finding | None:
    """Images on which the network in float32 decides otherwise than in float64.

    Images are judged in float64, which certificates speak of, while a network is used in float32.
    A few lie on the boundary itself; many say that logits are so large, or so alike, that float32
    cannot order them: then the network answers at random, and differently on every device. Clean
    images, stored wrong images and points of certified balls are looked at: 8 inside each ball, 16
    on its border, and the two with all pixels as bright or as dark as the ball allows. Points of
    balls are evaluated as one of a batch and by themselves, since sums are added in another order
    then. Agreement proves nothing: other points, orders and devices may differ.

    The usual limit: no image (nobody's, the obvious one). Measured: false alarms on 0 of 8 sound
    networks, 4 of 58 variants of fakes noticed, by the usual limit 0 and 4;
    reports/data/audit-rates.md. That was measured before points of certified balls were looked at.

    Reference:
        Jia and Rinard, "Exploiting verified neural networks via floating point numerical error",
        SAS 2021, for networks that are wrong in float32 where a certificate in exact arithmetic
        holds.
    """
    if not evidence.radii:
        return None
    clean, labels = to_float(evidence.part.images), evidence.part.labels
    wide, _ = judge_batch(evidence.model, clean, labels)
    differ = int(np.sum(_right(evidence.model, clean, labels) != (wide > 0)))
    seen = len(labels)
    for norm, radii in evidence.radii.items():
        found = np.isfinite(radii.upper) & (radii.upper > 0)
        right = _right(evidence.model, evidence.witnesses[norm], labels)
        differ += int(np.sum(found & right))
        seen += int(np.sum(found))
    return worst([
        _finding(
            differ, seen, f"{differ} of {seen} clean and stored wrong images are decided otherwise."
        ),
        *(_certified(evidence, norm) for norm in evidence.radii if _chosen(evidence, norm).size),
    ])  # fmt: skip


def _finding(differ: int, seen: int, meaning: str) -> Finding:
    return counted(
        "float32 decides like float64",
        differ, seen, look=0.001, fail=0.01, chance=False, meaning=meaning,
    )  # fmt: skip


def _chosen(evidence: Evidence, norm: str) -> np.ndarray:
    """Places of certified images, evenly spread."""
    places = np.flatnonzero(evidence.radii[norm].lower > 0)
    return places[np.linspace(0, len(places) - 1, min(CERTIFIED, len(places))).astype(int)]


def _certified(evidence: Evidence, norm: str) -> Finding:
    """Certified images with a point inside the ball that is wrong in float32."""
    places = _chosen(evidence, norm)
    some, radius = evidence.part.take(places), evidence.radii[norm].lower[places]
    clean = to_float(some.images)
    pull, wrong = puller(norm, clean, radius), np.zeros(len(places), bool)
    for points in _points(BALLS[norm], clean, some.ids, radius):
        inside = pull(points)
        for alone in (False, True):
            wrong |= ~_right(evidence.model, inside, some.labels, alone=alone)
    count = int(wrong.sum())
    return _finding(
        count, len(places),
        f"Of {len(places)} images certified in {norm}, {count} are wrong in float32 at one of "
        f"{INSIDE + BORDER + 2} points of the certified ball.",
    )  # fmt: skip


def _points(
    ball: AbstractBall,
    clean: Float32[np.ndarray, "images pixels"],
    ids: np.ndarray,
    radius: np.ndarray,
) -> Iterator[Float32[np.ndarray, "images pixels"]]:
    """Points of each ball, before they are pulled into box and ball."""
    eps = radius.astype(np.float32)
    keys = image_keys(jax.random.key(17), jnp.asarray(ids, jnp.int32))
    turns = list(jnp.arange(INSIDE + BORDER, dtype=jnp.int32))  # traced, so that one program does
    for turn in turns[:INSIDE]:
        yield clean + np.asarray(_inside(ball, jnp.asarray(clean), eps, keys, turn))
    for turn in range(BORDER + 2):
        # Drawn by themselves: drawn again within the next program they might be rounded otherwise.
        directions = (
            _directions(jnp.asarray(clean), keys, turns[INSIDE + turn]) if turn < BORDER
            else jnp.full(clean.shape, (1.0, -1.0)[turn - BORDER], jnp.float32)
        )  # fmt: skip
        yield clean + np.asarray(_border(ball, clean, directions, eps))


@eqx.filter_jit
def _inside(
    ball: AbstractBall, clean: Array, eps: Any, keys: Array, turn: Array
) -> Float[Array, "images pixels"]:
    draw = lambda x, e, k: ball.sample(jax.random.fold_in(k, turn), x.size, e)
    return jax.vmap(draw)(clean, eps, keys)


@eqx.filter_jit
def _directions(clean: Array, keys: Array, turn: Array) -> Float[Array, "images pixels"]:
    draw = lambda x, k: jax.random.normal(jax.random.fold_in(k, turn), x.shape, x.dtype)
    return jax.vmap(draw)(clean, keys)


@eqx.filter_jit
def _border(
    ball: AbstractBall, clean: Any, directions: Array, eps: Any
) -> Float[Array, "images pixels"]:
    return jax.vmap(ball.ascend)(clean, directions, eps)


def _right(
    model: AbstractClassifier, images: np.ndarray, labels: np.ndarray, *, alone: bool = False
) -> Bool[np.ndarray, " images"]:
    """Which images are right in float32, as parts of a batch or each alone."""
    (margins,) = in_chunks(
        lambda x, y: (_narrow(model, x, y, alone),),
        min(1000, len(labels)), images, labels.astype(np.int32),
    )  # fmt: skip
    return margins > 0


@eqx.filter_jit
def _narrow(
    model: AbstractClassifier, images: Array, labels: Array, alone: bool
) -> Float[Array, " images"]:
    margin = lambda x, y: metrics.margin(model(x), y)
    with jax.default_matmul_precision("highest"):
        if not alone:
            return jax.vmap(margin)(images, labels)
        # A product with a vector adds in another order than one of matrices.
        return jax.lax.map(lambda pair: margin(*pair), (images, labels))
