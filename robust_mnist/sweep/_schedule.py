"""Spend the work where the bounds are still open."""

import zlib
from collections.abc import Generator, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int64, PRNGKeyArray

from robust_mnist.attacks import ATTACKS, AbstractMinimalAttack
from robust_mnist.data import Part
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii
from robust_mnist.sweep._aim import Aim
from robust_mnist.sweep._bounds import Bounds, Cell, run_cell
from robust_mnist.sweep._driver import Search


# Images leave as they are settled; what is left is packed into programs of these sizes alone.
SIZES = (1000, 200, 40)


class Stage(NamedTuple):
    """What one attack did to the bounds.

    Attributes:
        cell: The closest wrong images it found, as `Bounds.merge` takes them.
        runs: Runs of the attack on an image.
    """

    cell: Cell
    runs: int


def control_sample(images: int, size: int, key: PRNGKeyArray) -> Int64[np.ndarray, " chosen"]:
    """Places of the images that every method runs on, whatever is known of them; in order."""
    drawn = jax.random.permutation(jax.random.fold_in(key, zlib.crc32(b"control")), images)
    return np.sort(np.asarray(drawn[:size])).astype(np.int64)


def still_open(bounds: Bounds, aim: Aim) -> Bool[np.ndarray, " images"]:
    """Which images an attack may still bring closer to the aim."""
    return aim.target(bounds.radii.upper, bounds.radii.lower, aim.gap) > 0


def run_stage(
    model: AbstractClassifier,
    part: Part,
    bounds: Bounds,
    method: str,
    *,
    aim: Aim,
    key: PRNGKeyArray,
) -> Generator[int, None, Stage]:
    """Run one attack on the images whose bounds are open, until it cannot improve them.

    A minimal attack runs once. A ball attack runs at the aim's gap below the closest wrong image
    known, and is done with an image where it fails that close. Where it succeeds again and again
    the distance doubles, so that a radius that was far off is found in few runs; it starts anew
    after a failure, and never goes beyond the middle between that and the closest wrong image.
    Where only some radii count it runs at the largest of them below that image. A break at some
    radius settles all larger ones, so nothing else has to be tried.

    Args:
        model: Classifier under attack.
        part: All images.
        bounds: What is known of them; the stage's finds are merged into it.
        method: Name of an attack.
        aim: How well radii have to be known.
        key: Randomness of the sweep.

    Yields:
        Images that the next round runs on.

    Returns:
        What the attack did.
    """
    attack = ATTACKS[method]
    assert isinstance(attack, Search)
    minimal = isinstance(attack, AbstractMinimalAttack)
    places = np.flatnonzero(still_open(bounds, aim))
    # Of each image, the finds in a row and the largest radius at which none was made.
    finds, missed = np.zeros(len(part.labels)), np.zeros(len(part.labels))
    first, runs, close, nonfinite = bounds.radii, 0, 0, 0
    while True:
        upper = bounds.radii.upper[places]
        # A first find is shortened close to the decision as a rule: it is not gone beyond in haste.
        step = aim.gap * 2.0 ** np.maximum(finds[places] - 1, 0)
        eps = aim.target(upper, np.maximum(bounds.radii.lower[places], missed[places]), step)
        worth = eps > 0
        places, step, eps, upper = places[worth], step[worth], eps[worth], upper[worth]
        if not places.size:
            break
        yield len(places)
        for at, size in _packed(len(places)):
            # The last image fills up what is missing of a program's size.
            whole = lambda values, at=at, size=size: np.pad(
                values[at], (0, -len(values[at]) % size), mode="edge"
            )
            radius = np.inf if minimal else whole(eps)
            cell = run_cell(model, part, bounds, method, radius, key, at=whole(places), chunk=size)
            bounds.merge(method, cell)
            close, nonfinite = close + int(cell["close"]), nonfinite + int(cell["nonfinite"])
        runs += len(places)
        if minimal:
            break
        better = bounds.radii.upper[places] < upper
        finds[places] = np.where(better, finds[places] + 1, 0)
        missed[places] = np.where(better, missed[places], eps)
        places = places[better | (step > aim.gap)]
    return Stage(_difference(first, bounds, close, nonfinite), runs)


def _packed(count: int) -> Iterator[tuple[slice, int]]:
    """Slices of `count` images and the static size of the program for each."""
    start = 0
    for size in SIZES:
        whole = count if size == SIZES[-1] else start + (count - start) // size * size
        if whole > start:
            yield slice(start, whole), size
        start = whole


def _difference(before: Radii, bounds: Bounds, close: int, nonfinite: int) -> Cell:
    """What the stage as a whole has changed, as one cell."""
    after = bounds.radii
    changed = (after.upper != before.upper) | (after.method != before.method)
    improved = np.flatnonzero(changed)
    return {
        "size": np.where(changed, after.upper, np.inf),
        "own": np.full(len(changed), np.nan),
        "reached": np.where(changed, after.reached, -1),
        "broken": np.zeros(len(changed), bool),
        "improved": improved,
        "witness": bounds.witness[improved],
        "close": np.asarray(close),
        "nonfinite": np.asarray(nonfinite),
    }
