"""Seconds that one attack takes in several libraries, with the accuracy that it leaves standing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from robust_mnist.figures import _style


@_style.styled
def draw(frame: pd.DataFrame, below: str) -> Figure:
    """Draw one line per attack, from the top down.

    Args:
        frame: A row per attack: `label`, accuracy `standing` at `eps` and, in seconds, `seconds`,
            `seconds_low`, `seconds_high` and `compile_s`, all of them NaN where there is no result;
            and `failure`, which then says why.
        below: What was attacked and where, for the line under the heading.
    """
    figure = _style.canvas(_style.HEADING + 1.2 + 0.48 * max(len(frame), 1))
    axes = figure.subplots()
    rows = np.arange(len(frame))
    standing = zip(frame["label"], frame["standing"], frame["eps"], strict=True)
    axes.set_yticks(rows, [_label(*each) for each in standing])
    axes.set_ylim(max(len(frame), 1) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds")
    _draw_seconds(axes, rows, frame)
    for row, failure in zip(rows, frame["failure"].where(frame["seconds"].isna(), ""), strict=True):
        if failure:
            axes.annotate(
                _style.plain(_style.shorten(f"not run: {failure}", 90)), (0.01, row),
                xycoords=("axes fraction", "data"), va="center", color=_style.ALARM, fontsize=8.5,
            )  # fmt: skip
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[::-1], names[::-1], loc="outside lower left", ncols=2)
    _style.heading(figure, "The same attack in several libraries", below)
    return figure


def _draw_seconds(axes: Axes, rows: np.ndarray, frame: pd.DataFrame) -> None:
    if frame["seconds"].isna().all():
        return
    axes.plot(
        frame["compile_s"].where(frame["compile_s"] > 0), rows, linestyle="", marker="D",
        markersize=5, color=_style.GREY, markerfacecolor="none", label="compiling, once",
    )  # fmt: skip
    axes.hlines(
        rows, frame["seconds_low"], frame["seconds_high"], color=_style.BLUE, alpha=0.4, linewidth=5
    )
    axes.plot(
        frame["seconds"], rows, linestyle="", marker="o", markersize=7, color=_style.BLUE,
        label="the attack: median, band from lowest to highest",
    )  # fmt: skip
    for row, seconds in zip(rows, frame["seconds"], strict=True):
        if np.isfinite(seconds):
            axes.annotate(
                f"{seconds:.3g} s", (seconds, row), (0, 6), textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5,
            )  # fmt: skip
    # Points and no bars: a bar would have to begin at zero, which this axis does not have.
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds (logarithmic axis)")


def _label(name: str, standing: float, eps: float) -> str:
    if not np.isfinite(standing):
        return _style.plain(f"{name}\nno result")
    return _style.plain(f"{name}\n{100 * standing:.2f} % standing at {eps:g}")
