"""Every benchmark over the launches of one environment, with its change points."""

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from robust_mnist import trends
from robust_mnist.figures import _style
from robust_mnist.figures._chart import TimingChart


_COLUMNS = 4
_LEAST = 6.0  # percent of the first launch: a panel shows no less, or noise would fill it


@_style.styled
def draw(table: pd.DataFrame) -> Figure | None:
    """Draw a panel per benchmark that was launched twice or more.

    Args:
        table: `History.launches` of `robust_mnist.trends`.
    """
    counts = table.groupby("benchmark", sort=False).size()
    names = list(counts[counts > 1].index)
    if not names:
        return None
    rows = -(-len(names) // _COLUMNS)
    columns = min(len(names), _COLUMNS)
    figure = _style.canvas(_style.HEADING + 0.35 + 1.9 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, table[table["benchmark"] == name], str(name))
    for axes in panels[len(names) :]:
        axes.remove()
    for axes in panels[max(0, len(names) - columns) : len(names)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("launch, the oldest first", fontsize=8.5)
    _style.heading(
        figure,
        "Time relative to the first launch",
        "dots: medians of launches; lines: level between change points; below 0 it got faster",
    )
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    axes.plot(rows["launch"], _percent(rows["relative"]), "o", color=_style.GREY, markersize=3.5)
    if len(rows) >= trends.ENOUGH:  # few launches have no level yet
        for _, part in rows.groupby("piece"):
            axes.plot(part["launch"], _percent(part["level"]), color=_style.BLUE, linewidth=2.0)
    for before, after in itertools.pairwise(rows.to_dict("records")):
        if after["piece"] > before["piece"]:
            _mark(axes, before, after)
    what, bracket, which = name.partition("[")
    title = "\n".join(_style.shorten(part, 28) for part in (what, bracket + which) if part)
    axes.set_title(_style.plain(title), fontsize=9.0)
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max((high - low) / 2, _LEAST)
    axes.set_ylim(middle - half, middle + 1.35 * half)  # room for the percentages
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _at: _words(value)))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=8.0)


def _percent(relative: pd.Series) -> pd.Series:
    return 100 * (relative - 1)


def _words(percent: float) -> str:
    return f"{percent:+.3g} %" if abs(percent) > 1e-7 else "0"


def _mark(axes: Axes, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> None:
    at = (before["launch"] + after["launch"]) / 2
    axes.axvline(at, color=_style.ALARM, linestyle="--", linewidth=1.0)
    axes.annotate(
        _words(100 * (after["level"] / before["level"] - 1)), (at, 0.99),
        xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
        va="top", fontsize=8.0, color=_style.ALARM,
    )  # fmt: skip


CHART = TimingChart(
    draw=draw,
    title="History",
    reading="Each dot is one launch. A red line marks a change point: from there on the level is "
    "another, by the percentage beside it.",
    limits="A change point says that the timings jumped, not why: the machine may have changed as "
    "well as the code.",
    needs="No benchmark was launched twice in this environment.",
)
