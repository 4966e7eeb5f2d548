"""Seconds that one training takes in several libraries, with the accuracy that it reached."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from robust_mnist.figures import _style


@_style.styled
def draw(frame: pd.DataFrame, below: str) -> Figure:
    """Draw one line per library, from the top down.

    Args:
        frame: A row per library: `label`, `accuracy` and, in seconds, `fit_s`, `fit_s_low`,
            `fit_s_high` and `process_s`, all of them NaN where there is no result; and `failure`,
            which then says why.
        below: What was trained and where, for the line under the heading.
    """
    figure = _style.canvas(_style.HEADING + 1.2 + 0.48 * len(frame))
    axes = figure.subplots()
    rows = np.arange(len(frame))
    labels = [_label(*pair) for pair in zip(frame["label"], frame["accuracy"], strict=True)]
    axes.set_yticks(rows, labels)
    axes.set_ylim(len(frame) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds")
    _draw_seconds(axes, rows, frame)
    for row, failure in zip(rows, frame["failure"].where(frame["fit_s"].isna(), ""), strict=True):
        if failure:
            axes.annotate(
                _style.plain(_style.shorten(f"failed: {failure}", 90)), (0.01, row),
                xycoords=("axes fraction", "data"), va="center", color=_style.ALARM, fontsize=8.5,
            )  # fmt: skip
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[::-1], names[::-1], loc="outside lower left", ncols=2)
    _style.heading(figure, "The same training in several libraries", below)
    return figure


def _draw_seconds(axes: Axes, rows: np.ndarray, frame: pd.DataFrame) -> None:
    if frame["fit_s"].isna().all():
        return
    axes.plot(
        frame["process_s"], rows, linestyle="", marker="D", markersize=5, color=_style.GREY,
        markerfacecolor="none", label="whole process: starting, compiling, training, testing",
    )  # fmt: skip
    axes.hlines(
        rows, frame["fit_s_low"], frame["fit_s_high"], color=_style.BLUE, alpha=0.4, linewidth=5
    )
    axes.plot(
        frame["fit_s"], rows, linestyle="", marker="o", markersize=7, color=_style.BLUE,
        label="training alone: median, band from lowest to highest",
    )  # fmt: skip
    for row, seconds in zip(rows, frame["fit_s"], strict=True):
        if np.isfinite(seconds):
            axes.annotate(
                f"{seconds:.3g} s", (seconds, row), (0, 6), textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5,
            )  # fmt: skip
    if frame["process_s"].max() > 10 * frame["fit_s"].min():
        # Points and no bars: a bar would have to begin at zero, which this axis does not have.
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("seconds (logarithmic axis)")
    else:
        axes.set_xlim(0.0, 1.08 * frame["process_s"].max())


def _label(name: str, accuracy: float) -> str:
    reached = f"test accuracy {100 * accuracy:.2f} %" if np.isfinite(accuracy) else "no result"
    return _style.plain(f"{name}\n{reached}")
