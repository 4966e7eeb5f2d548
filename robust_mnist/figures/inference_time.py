"""Time of inference against the batch size, and where a device begins to win."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist import trends
from robust_mnist.figures import _style, _timings
from robust_mnist.figures._chart import TimingChart


@_style.styled
def draw(table: pd.DataFrame) -> Figure | None:
    """Draw a line per device, and a mark where it crosses that of the baseline."""
    batches = table["benchmark"].map(trends.batch_of)
    shown = table[batches.notna()].assign(batch=batches.dropna())
    if shown.empty:
        return None
    figure = _style.canvas(5.2)
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="images in a batch", ylabel="time of a batch")
    for device, color in _timings.colors(table).items():
        mine = shown[shown["device"] == device].sort_values("batch")
        base = device == _timings.baseline(table)
        won = "baseline" if base else f"faster {trends.crossover_of(table, device).text}"
        axes.plot(
            mine["batch"], mine["seconds"], "o-", color=color, linewidth=1.6, markersize=5,
            label=_style.plain(f"{device}: {'not measured' if mine.empty else won}"),
        )  # fmt: skip
        if not base:
            _mark(axes, trends.crossover_of(table, device).batch, color)
    _timings.plain_log(axes.xaxis, "{:,.0f}")
    _timings.time_axis(axes.yaxis)
    _style.legend_below(axes, drop=0.14)
    _style.heading(
        figure,
        "Inference: time against the size of the batch",
        "bytes in, logits out; lines only lead the eye between measured batches",
    )
    return figure


def _mark(axes: Axes, batch: float, color: str) -> None:
    if math.isnan(batch):
        return
    axes.axvline(batch, color=color, linestyle="--", linewidth=1.2)
    axes.annotate(
        f"{batch:.0f}", (batch, 0.02), xycoords=("data", "axes fraction"), xytext=(4, 0),
        textcoords="offset points", color=color,
    )  # fmt: skip


CHART = TimingChart(
    draw=draw,
    title="Inference against batch size",
    reading="Where a line is flat, a call costs what it costs to start one; where it rises in "
    "proportion, the device is at work. The dashed line marks the batch from which a device stays "
    "below the baseline, interpolated between the two measured batches beside it.",
    limits="The crossover has no interval; between two batches it assumes that the speed-up grows "
    "evenly on logarithmic axes.",
    needs="No environment ran inference.",
)
