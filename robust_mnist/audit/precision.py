"""G17: float32 decides like float64."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray

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
    images, stored wrong images and points inside certified balls are looked at: 8 inside each ball,
    16 on its border, and the two with all pixels as bright or as dark as the ball allows.

    The usual limit: no image (nobody's, the obvious one). Measured on clean and stored images:
    false alarms on 0 of 8 sound networks, 4 of 58 variants of fakes noticed, by the usual limit 0
    and 4; reports/data/audit-rates.md.

    Reference:
        Jia and Rinard, "Exploiting verified neural networks via floating point numerical error",
        SAS 2021, for networks that are wrong in float32 where a certificate in exact arithmetic
        holds.
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
        wrong |= ~(_margins(evidence.model, pull(points), some.labels) > 0)
    count = int(wrong.sum())
    return _finding(
        count, len(places),
        f"Of {len(places)} images certified in {norm}, {count} are wrong in float32 at one of "
        f"{INSIDE + BORDER + 2} points inside the certified ball.",
    )  # fmt: skip


def _points(
    ball: AbstractBall,
    clean: Float32[np.ndarray, "images pixels"],
    ids: np.ndarray,
    radius: np.ndarray,
) -> Iterator[Float32[np.ndarray, "images pixels"]]:
    """Points of each ball, before they are pulled into box and ball."""
    eps, index = radius.astype(np.float32), ids.astype(np.int32)
    for turn, kind in enumerate([0] * INSIDE + [1] * BORDER + [2, 3]):
        drawn = jax.random.fold_in(jax.random.key(17), turn)
        yield np.asarray(_draw(ball, clean, index, eps, drawn, jnp.asarray(kind, jnp.int32)))


@eqx.filter_jit
def _draw(
    ball: AbstractBall, clean: Any, ids: Any, eps: Any, key: PRNGKeyArray, kind: Array
) -> Float[Array, "images pixels"]:
    """A point inside (kind 0), on the border (1), or with all pixels brighter (2) or darker (3)."""

    def one(x: Array, radius: Array, key: PRNGKeyArray) -> Array:
        inside, border = jax.random.split(key)
        even = jnp.where(kind == 2, 1.0, -1.0) * jnp.ones_like(x)
        direction = jnp.where(kind == 1, jax.random.normal(border, x.shape, x.dtype), even)
        return x + jnp.where(
            kind == 0, ball.sample(inside, x.size, radius), ball.ascend(x, direction, radius)
        )

    return jax.vmap(one)(clean, eps, image_keys(key, ids))


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
