"""Worst-case accuracy of several runs against eps."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist import statistics
from robust_mnist.figures import _curves, _paired, _runs, _style
from robust_mnist.figures._chart import Overlay
from robust_mnist.records import Records


@_style.styled
def draw(runs: Sequence[Records]) -> Figure | None:
    """Draw a panel per shared norm with a curve per run."""
    norms = _paired.shared_norms(runs)
    if not norms:
        return None
    figure = _style.canvas(6.0)
    for axes, norm in zip(figure.subplots(1, len(norms), squeeze=False).flat, norms, strict=True):
        _panel(axes, runs, norm)
    images = runs[0].radii_of(norms[0])[0].upper.size
    _style.heading(figure, "Worst-case accuracy against eps", _runs.counted(runs, images))
    return figure


def _panel(axes: Axes, runs: Sequence[Records], norm: str) -> None:
    end = _paired.shared_grid(runs, norm)[-1]
    for index, (records, label) in enumerate(zip(runs, _runs.labels(runs), strict=True)):
        color, line = _runs.look(index)
        radii = records.radii_of(norm)
        over = _curves.spread([one.upper for one in radii], end)
        half = statistics.band_half_width(radii[0].upper.size) if len(radii) == 1 else 0.0
        _curves.fill(axes, over.x, over.low - half, over.high + half, color=color, alpha=0.18)
        band = f"±{100 * half:.1f} points" if half else f"{len(radii)} networks"
        _curves.Staircase(over.x, over.mean).draw(
            axes, color=color, label=f"{label} ({band})", linestyle=line, linewidth=1.8
        )
        if any(np.any(one.lower > 0) for one in radii):
            _curves.certified([one.lower for one in radii], end).draw(
                axes, color=color, label=f"{label}, certified", linestyle=line, linewidth=0.9
            )
    axes.set(xlim=(0.0, end), xlabel=_style.EPS_LABEL[norm], ylabel="accuracy")
    axes.set_title(f"{_style.NORMS[norm]} norm")
    _style.percent(axes)
    _style.legend_below(axes)


OVERLAY = Overlay(
    draw=draw,
    title="Robust accuracy",
    reading="The worst case over the attacks of each run, as exact step functions, up to the "
    "largest eps at which all runs were attacked. The band of a single network holds its whole "
    "true curve with 95 % confidence; with several seeds line and band are their mean and range. "
    "Thin lines are certified.",
    limits="Two bands that overlap can still hide a clear difference, because both runs saw the "
    "same images: the paired differences below use that. Runs attacked by different methods differ "
    "in their attacks as much as in their networks.",
    needs="The runs have no norm in common.",
)
