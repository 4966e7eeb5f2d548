"""How robust each class is, and which class the closest wrong image of which is taken for."""

import numpy as np
import seaborn as sns  # type: ignore[import-untyped]
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _curves, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Radii, Records


_CLASSES = 10
_FEWEST = 10  # images behind a median
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw per norm the radii of each class, and the median radius of each pair."""
    norms = _curves.swept(records)
    if not norms or "flow/labels" not in records.panels:
        return None
    labels = records.panels["flow/labels"].astype(np.int64)
    figure = _style.canvas(_style.HEADING + 4.3 * len(norms))
    grid = figure.subplots(len(norms), 2, squeeze=False, width_ratios=(1, 1.15))
    for (boxes, pairs), norm in zip(grid, norms, strict=True):
        radii = records.radii_of(norm)
        _draw_boxes(boxes, radii, labels, norm, limit=_curves.right_end(records, norm))
        _draw_pairs(pairs, pair_medians(radii, labels), norm)
    networks = f" · {len(records.seeds)} networks" if len(records.seeds) > 1 else ""
    what = f"{labels.size:,} {_style.dataset(records)} test images{networks}"
    _style.heading(
        figure,
        "Size of the smallest change found, by class and by pair of classes",
        _style.counted(records, f"right answers among {what}"),
    )
    return figure


def quantiles(
    radii: list[Radii], labels: Int[np.ndarray, " images"], number: int
) -> Float[np.ndarray, " levels"]:
    """5, 25, 50, 75 and 95 % quantiles of the radii of a class; NaN where none is right.

    Infinity where so many were never broken.
    """
    sizes = np.concatenate([one.upper[(labels == number) & (one.upper > 0)] for one in radii])
    if not sizes.size:
        return np.full(len(_QUANTILES), np.nan)
    # A value that is there: between two of them lies no radius, least of all beyond infinity.
    return np.quantile(sizes, _QUANTILES, method="inverted_cdf")


def pair_medians(
    radii: list[Radii], labels: Int[np.ndarray, " images"]
) -> Float[np.ndarray, "classes classes"]:
    """Median radius by true class and class reached; NaN where fewer than 10 images went there."""
    upper, reached = (
        np.concatenate([getattr(one, n) for one in radii]) for n in ("upper", "reached")
    )
    true = np.tile(labels, len(radii))
    broken = np.isfinite(upper) & (upper > 0)
    medians = np.full((_CLASSES, _CLASSES), np.nan)
    for row in range(_CLASSES):
        for column in range(_CLASSES):
            sizes = upper[broken & (true == row) & (reached == column)]
            if sizes.size >= _FEWEST:
                medians[row, column] = np.median(sizes)
    return medians


def _draw_boxes(
    axes: Axes, radii: list[Radii], labels: np.ndarray, norm: str, *, limit: float
) -> None:
    names = ("whislo", "q1", "med", "q3", "whishi")
    drawn = {number: quantiles(radii, labels, number) for number in range(_CLASSES)}
    drawn = {number: found for number, found in drawn.items() if not np.isnan(found).any()}
    end = min(limit, 1.05 * max((found[-1] for found in drawn.values()), default=limit))
    for number, found in drawn.items():
        stats = dict(zip(names, np.minimum(found, end), strict=True))
        axes.bxp(
            [stats], positions=[number], widths=0.62, orientation="horizontal", showfliers=False,
            patch_artist=True, manage_ticks=False,
            boxprops={"facecolor": _style.BLUE, "edgecolor": _style.INK, "alpha": 0.55},
            medianprops={"color": _style.INK, "linewidth": 1.8},
            whiskerprops={"color": _style.INK}, capprops={"color": _style.INK},
        )  # fmt: skip
        if found[-1] > end:
            axes.plot(end, number, marker=">", color=_style.INK, markersize=5, clip_on=False)
    axes.set(xlim=(0.0, end), ylim=(_CLASSES - 0.4, -0.6), xlabel=_style.EPS_LABEL[norm])
    axes.set_yticks(range(_CLASSES))
    axes.set_ylabel("true class")
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{_style.NORMS[norm]}: half of a class lies in its box")


def _draw_pairs(axes: Axes, medians: np.ndarray, norm: str) -> None:
    known = ~np.isnan(medians)
    # Few images leave every pair blank, and nothing to take a scale from.
    top = np.max(medians, initial=0.0, where=known) or 1.0
    sns.heatmap(
        medians, ax=axes, annot=True, fmt=".2g", cmap="Blues_r", cbar=False, linewidths=0.4,
        linecolor="#d7dce2", annot_kws={"fontsize": 7.5}, mask=~known, vmin=0.0,
        vmax=top,
    )  # fmt: skip
    axes.grid(visible=False)
    axes.tick_params(length=0, rotation=0)
    axes.set(xlabel="class reached", ylabel="true class")
    axes.set_title(f"{_style.NORMS[norm]}: median size, dark where classes are close")


CHART = Chart(
    draw=draw,
    title="Radii by class",
    reading="Left, the sizes of the smallest change found for the right answers of each class: the "
    "line is the median, the box holds the middle half, the whiskers reach from 5 % to 95 %; an "
    "arrow marks those that go on. Right, the median size by true class and class reached: dark "
    "pairs are the ones that are easily taken for each other.",
    limits="Sizes are upper bounds on the robust radius. A pair is blank where fewer than ten "
    "images went that way, and its median speaks of those that did: the way to every other class "
    "is longer, and was not measured.",
    needs="No sweep was run.",
    command="sweep",
)
