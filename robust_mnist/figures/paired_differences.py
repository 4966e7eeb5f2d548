"""Difference in worst-case accuracy from the first run, image by image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from robust_mnist.figures import _paired, _runs, _style
from robust_mnist.figures._chart import Overlay
from robust_mnist.records import Records


@_style.styled
def draw(runs: Sequence[Records]) -> Figure | None:
    """Draw a panel per shared norm with the differences of every other run."""
    found = _paired.differences(runs)
    if found.empty:
        return None
    norms = _paired.shared_norms(runs)
    labels = _runs.labels(runs)
    figure = _style.canvas(5.4)
    panels = figure.subplots(1, len(norms), squeeze=False, sharey=True).flat
    for axes, norm in zip(panels, norms, strict=True):
        axes.axhline(0.0, color=_style.INK, linewidth=1.0)
        for index in range(1, len(runs)):
            rows = found[(found["norm"] == norm) & (found["index"] == index)]
            color, line = _runs.look(index)
            ends = [rows["difference"] - rows["low"], rows["high"] - rows["difference"]]
            axes.errorbar(
                rows["eps"], 100 * rows["difference"], yerr=100 * np.maximum(ends, 0.0), fmt="o",
                linestyle=line, linewidth=1.0, markersize=4, capsize=2.5, color=color,
                label=f"{labels[index]} minus {labels[0]}",
            )  # fmt: skip
        axes.set(xlabel=_style.EPS_LABEL[norm], ylabel="difference (percentage points)")
        axes.set_title(f"{_style.NORMS[norm]} norm")
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _at: f"{value:+g}" if value else "0")
        )
        axes.label_outer(remove_inner_ticks=False)
        _style.legend_below(axes)
    images = int(found["images"].iloc[0])
    _style.heading(figure, f"Difference from {_runs.names(runs)[0]}", _runs.counted(runs, images))
    return figure


OVERLAY = Overlay(
    draw=draw,
    title="Paired differences",
    reading="Worst-case accuracy of a run minus that of the first run at the same eps, on the same "
    "images; above zero the run is better. The bars are 95 % paired bootstrap intervals.",
    limits="The first seed stands for each run, so this compares two networks, not two ways of "
    "training. The intervals hold for one eps at a time and are not corrected for looking at many.",
    needs="The runs have no norm in common.",
)
