"""Speed-up of every benchmark against the baseline, with its interval."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _style, _timings
from robust_mnist.figures._chart import TimingChart


@_style.styled
def draw(table: pd.DataFrame) -> Figure | None:
    """Draw a row per benchmark and a dot per device."""
    shown = table[table["speedup"].notna()]
    if shown.empty:
        return None
    colors, base = _timings.colors(table), _timings.baseline(table)
    devices = [device for device in colors if device in set(shown["device"])]
    figure, panels = _timings.topic_panels(shown)
    for topic, axes in panels.items():
        rows = shown[shown["topic"] == topic]
        order = list(rows["benchmark"].drop_duplicates())
        axes.axvline(1.0, color=_style.INK, linewidth=1.0)
        for device, shift in _timings.offsets(devices).items():
            mine = rows[rows["device"] == device]
            places = np.array([order.index(name) for name in mine["benchmark"]]) + shift
            _dots(axes, mine, places, colors[device])
    axes = next(iter(panels.values()))
    axes.set_xscale("log")
    _legend(axes, {device: colors[device] for device in devices}, shown)
    last = list(panels.values())[-1]
    last.set_xlabel(f"times as fast as {_style.plain(base)} (logarithmic)")
    _timings.plain_log(last.xaxis)
    _timings.below(figure, axes)
    kinds = {"launches": "between launches", "rounds": "within one launch only, so too narrow"}
    told = " or ".join(kinds[kind] for kind in kinds if kind in set(shown["interval"]))
    _style.heading(
        figure, f"Speed-up against {base}", f"bars: 95 % intervals {told}; below 1 it is slower"
    )
    return figure


def _dots(axes: Axes, rows: pd.DataFrame, places: np.ndarray, color: str) -> None:
    agree = rows["numbers"] != "disagree"
    for chosen, face in ((agree, color), (~agree, "none")):
        mine, at = rows[chosen], places[chosen.to_numpy()]
        axes.hlines(at, mine["speedup_low"], mine["speedup_high"], color=color, linewidth=1.6)
        axes.plot(
            mine["speedup"], at, "o", color=color, markerfacecolor=face, markersize=6,
            markeredgewidth=1.4,
        )  # fmt: skip


def _legend(axes: Axes, colors: dict[str, str], shown: pd.DataFrame) -> None:
    for device, color in colors.items():
        axes.plot([], [], "o", color=color, markersize=6, label=_style.plain(device))
    if "disagree" in set(shown["numbers"]):
        axes.plot(
            [], [], "o", color=_style.INK, markerfacecolor="none", markersize=6,
            label="hollow: the numbers disagree, so it is no speed-up",
        )  # fmt: skip


CHART = TimingChart(
    draw=draw,
    title="Speed-up per benchmark",
    reading="Each dot is the time on the baseline over the time on the other device, so right of 1 "
    "the other is faster; the bar is its 95 % interval. A hollow dot marks an attack that broke "
    "other images than on the baseline, or inference with other logits, by more than rounding "
    "explains.",
    limits="Each interval stands for itself: of twenty, one misses by chance. Where there are "
    "fewer than three launches a side it comes from the rounds of one process, and a second launch "
    "may well fall outside.",
    needs="There is no benchmark that two environments ran.",
)
