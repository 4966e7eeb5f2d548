"""How each benchmark moved from launch to launch within one environment."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from robust_mnist.errors import NotComparable, unknown
from robust_mnist.records import Timings
from robust_mnist.trends._changes import SIDE, change_points
from robust_mnist.trends._environments import Environment, group


ENOUGH = 2 * SIDE


@dataclasses.dataclass(frozen=True)
class History:
    """One environment over time.

    Attributes:
        environment: What was measured.
        launches: One row per benchmark and launch: `seconds`, the median of its rounds; `relative`
            to the first launch; `piece`, counted from 0; `level`, the median of the piece relative
            to the first launch.
        changes: One row per change point: the commits and launches on either side, and `change`,
            by which share the level moved.
    """

    environment: Environment
    launches: pd.DataFrame
    changes: pd.DataFrame


def one_key(files: Sequence[Timings], key: str | None) -> list[Timings]:
    """The result files of one environment key.

    Raises:
        NotComparable: There are several keys and none was chosen.
        InputError: The chosen key is not among them.
    """
    keys = sorted({one.key for one in files})
    if key is None and len(keys) > 1:
        raise NotComparable(
            f"timings of different environments have no common history: choose one with --key, of "
            f"{', '.join(keys)}"
        )
    if key is not None and key not in keys:
        raise unknown("environment key", key, keys)
    return [one for one in files if key is None or one.key == key]


def history(files: Sequence[Timings]) -> History:
    """Launch medians of every benchmark in order of time, with their change points.

    Args:
        files: Result files of one environment key, at least one; a quick launch takes part in the
            benchmarks that it ran.
    """
    [environment] = group(files)
    names = dict.fromkeys(name for one in environment.launches for name in one.benchmarks)
    launches, changes = [], []
    for name in names:
        rows = _series(environment, name)
        launches += rows
        changes += _changes(rows)
    columns = ("benchmark", "launch", "created", "before", "after", "change")
    return History(environment, pd.DataFrame(launches), pd.DataFrame(changes, columns=columns))


def _series(environment: Environment, name: str) -> list[dict[str, Any]]:
    measured = [
        (index, launch, launch.benchmarks[name].median_s)
        for index, launch in enumerate(environment.launches, 1)
        if name in launch.benchmarks
    ]
    relative = np.array([seconds for _, _, seconds in measured]) / measured[0][2]
    starts = change_points([math.log(value) for value in relative])
    piece = np.searchsorted(starts, np.arange(len(measured)), side="right")
    levels = [float(np.exp(np.median(np.log(relative[piece == p])))) for p in piece]
    return [
        {
            "benchmark": name,
            "launch": index,
            "created": launch.created,
            "commit": launch.commit or "unknown",
            "seconds": seconds,
            "relative": float(ratio),
            "piece": int(p),
            "level": level,
        }
        for (index, launch, seconds), ratio, p, level in zip(
            measured, relative, piece, levels, strict=True
        )
    ]


def _changes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A change lies between two launches: the last before it, and the first after it."""
    return [
        {
            "benchmark": after["benchmark"],
            "launch": after["launch"],
            "created": after["created"],
            "before": before["commit"],
            "after": after["commit"],
            "change": after["level"] / before["level"] - 1,
        }
        for before, after in itertools.pairwise(rows)
        if after["piece"] > before["piece"]
    ]
