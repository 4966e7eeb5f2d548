"""Survival curves as figures draw them: exact corners, spread over seeds, bands."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped]
from jaxtyping import Float
from matplotlib.axes import Axes

from robust_mnist import statistics
from robust_mnist.figures import _style
from robust_mnist.records import Records


Corners = Float[np.ndarray, " corners"]
Values = Float[np.ndarray, " images"]

# A filled area keeps every corner in an SVG, while a line is thinned by matplotlib to what can be
# seen. Two fifths of a percent is less than the width of any line.
_INVISIBLE = 0.004
# Fewer than this share of the images cannot be told from none on an axis in percent.
_NOTHING = 0.005


@dataclasses.dataclass(frozen=True)
class Staircase:
    """A step function of eps: `y[i]` holds from `x[i]` up to `x[i + 1]`."""

    x: Corners
    y: Corners

    def draw(self, axes: Axes, *, color: str, label: str, **line: float | str) -> None:
        """Draw the steps."""
        sns.lineplot(
            x=self.x, y=self.y, ax=axes, drawstyle="steps-post", color=color, label=label,
            # Two corners of a jump share their eps; seaborn would average and sort them.
            estimator=None, sort=False, legend=False, **line,
        )  # fmt: skip


def staircase(radii: Values, end: float) -> Staircase:
    """The survival curve of some radii on [0, end], with every corner it has.

    Args:
        radii: One radius per image.
        end: Right end of the axis.
    """
    jumps = np.unique(radii[(radii > 0) & (radii < end)])
    x = np.concatenate([[0.0], jumps, [end]])
    return Staircase(x, statistics.survival(radii, x))


def thin(x: Corners, *curves: Corners) -> list[Float[np.ndarray, " kept"]]:
    """Curves that share their `x`, without the corners at which none of them moves visibly."""
    moved = np.max([np.abs(np.diff(curve)) for curve in curves], axis=0)
    travelled = np.floor(np.concatenate([[0.0], np.cumsum(moved)]) / _INVISIBLE)
    keep = np.concatenate([[True], np.diff(travelled) > 0])
    keep[-1] = True
    return [array[keep] for array in (x, *curves)]


def fill(axes: Axes, x: Corners, low: Corners, high: Corners, **area: object) -> None:
    """Fill the room between two step functions, within 0 and 1."""
    x, low, high = thin(x, np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0))
    axes.fill_between(x, low, high, step="post", linewidth=0, **area)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Survival curves of several networks on the corners of all of them."""

    x: Corners
    mean: Corners
    low: Corners
    high: Corners


def spread(radii: Sequence[Values], end: float) -> Spread:
    """Mean, lowest and highest of several survival curves, each of them exact."""
    x = np.unique(np.concatenate([staircase(one, end).x for one in radii]))
    curves = np.stack([statistics.survival(one, x) for one in radii])
    return Spread(x, curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0))


def certified(lower: Sequence[Values], end: float) -> Staircase:
    """Certified accuracy, the mean over the networks.

    A radius counts up to itself here, so the curve starts at the share of right answers and falls
    at once to what is certified at all.

    Args:
        lower: Certified radii of each network, -inf for a clean mistake.
        end: Right end of the axis.
    """
    over = spread(lower, end)
    first, last = np.mean(
        [statistics.survival(one, over.x[[0, -1]], inclusive=True) for one in lower], axis=0
    )
    x = np.concatenate([[0.0], over.x])
    return Staircase(x, np.concatenate([[first], over.mean[:-1], [last]]))


def grid(records: Records, norm: str) -> list[float]:
    """The radii at which a norm was evaluated, in increasing order."""
    rows = records.rows
    chosen = rows[(rows["norm"] == norm) & rows["kind"].isin(["attacked", "worst", "certified"])]
    return sorted(float(eps) for eps in chosen["eps"].dropna().unique())


def right_end(records: Records, norm: str) -> float:
    """Where an axis over eps ends: at the first radius where nearly nothing is left standing."""
    uppers = [radii.upper for radii in records.radii_of(norm)]
    eps = np.array(grid(records, norm))
    standing = np.max([statistics.survival(upper, eps) for upper in uppers], axis=0)
    over = np.flatnonzero(standing < _NOTHING)
    return float(eps[over[0]] if over.size and over[0] > 0 else eps[-1])


def select(records: Records, **columns: str) -> pd.DataFrame:
    """The rows that have these values in these columns."""
    rows = records.rows
    if rows.empty:
        return rows
    keep = np.ones(len(rows), dtype=bool)
    for name, value in columns.items():
        keep &= (rows[name] == value).to_numpy()
    return rows[keep]


def swept(records: Records) -> list[str]:
    """The norms with both radii and rows, Linf first."""
    found = [norm for norm in records.norms if not select(records, norm=norm, kind="worst").empty]
    return sorted(found, key=list(_style.NORMS).index)
