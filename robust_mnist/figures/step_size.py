"""Accuracy against step size of the one-step methods; it may rise when a step overshoots."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _curves, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


# What a step without a ball is measured in.
_UNITS = {
    "gradient-step": "step: the image moves by\nstep times the gradient dCE/dx",
    "spatial-grid": "step: share of 3 pixels each way\nand 30 degrees to each side",
}


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw one panel per one-step method."""
    steps = _curves.select(records, kind="step")
    if steps.empty:
        return None
    # Methods without a ball first, as the lab begins with one.
    panels = [(str(m), str(n), g) for (n, m), g in steps.groupby(["norm", "method"])]
    panels.sort(key=lambda panel: (panel[1] != "", panel[1] != "linf", panel[0]))
    rows, columns = -(-len(panels) // 3), min(len(panels), 3)
    figure = _style.canvas(_style.HEADING + 4.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for axes, (method, norm, group) in zip(grid, panels, strict=False):
        _panel(axes, records, method, norm, group)
    for axes in list(grid)[len(panels) :]:
        axes.remove()
    _style.heading(
        figure,
        "Accuracy after one step, against the size of the step",
        _style.counted(records, f"{_images(steps)} {_style.dataset(records)} test images, clipped"),
    )
    return figure


def _images(steps: pd.DataFrame) -> str:
    """How many images the panels show; one with a ball may be on a sample."""
    return " or ".join(f"{count:,}" for count in sorted(steps["images"].unique()))


def _panel(axes: Axes, records: Records, method: str, norm: str, group: pd.DataFrame) -> None:
    if norm:
        axes.set(xlabel=_style.EPS_LABEL[norm], xlim=(0.0, group["eps"].max()))
        axes.set_title(method)
        axes.locator_params(axis="x", nbins=5)
        _draw_worst(axes, records, norm, float(group["eps"].max()))
    else:
        axes.set(xscale="log", xlabel=_UNITS.get(method, "step, in the method's own unit"))
        axes.set_title(f"{method} (has no eps)")
        _draw_clean(axes, records)
    _draw_reading(axes, group, method, "eps" if norm else "step")
    axes.set_ylabel("accuracy")
    axes.label_outer(remove_inner_ticks=False)
    axes.tick_params(axis="x", labelbottom=True)
    _style.percent(axes)
    _style.legend_below(axes, drop=0.24)


def _draw_reading(axes: Axes, group: pd.DataFrame, method: str, column: str) -> None:
    by_step = group.groupby(column)[["accuracy", "low", "high"]].mean()
    band = "95 % interval per step"
    seeds = group["seed"].nunique()
    if seeds > 1:
        lowest = group.groupby(column)["accuracy"].agg(["min", "max"])
        by_step["low"], by_step["high"] = lowest["min"], lowest["max"]
        band = f"lowest to highest of {seeds} networks"
    color = _style.method_color(method)
    axes.fill_between(
        by_step.index, by_step["low"], by_step["high"], color=color, alpha=0.35, linewidth=0,
        label=band,
    )  # fmt: skip
    # The line only leads the eye: nothing was measured between two markers.
    axes.plot(
        by_step.index, by_step["accuracy"], color=color, marker="o", markersize=3.5, linewidth=1.2,
        label="plain reading: exactly this step\n(may rise again)",
    )  # fmt: skip


def _draw_worst(axes: Axes, records: Records, norm: str, end: float) -> None:
    if norm not in _curves.swept(records):
        return
    over = _curves.spread([radii.upper for radii in records.radii_of(norm)], end)
    _curves.Staircase(over.x, over.mean).draw(
        axes,
        color=_style.INK,
        label="worst case: any attack up to eps\n(cannot rise)",
        linewidth=1.8,
    )


def _draw_clean(axes: Axes, records: Records) -> None:
    clean = _curves.select(records, kind="clean", split="test")
    if not clean.empty:
        axes.axhline(
            float(np.mean(clean["accuracy"])), color=_style.INK, linestyle=":", linewidth=1.2,
            label="clean images",
        )  # fmt: skip


CHART = Chart(
    draw=draw,
    title="Step size of the one-step methods",
    reading="Every image is moved once, by exactly the step on the horizontal axis, clipped to "
    "pixels from 0 to 1 and classified again. A step without a ball, such as the raw gradient's, "
    "has a unit of its own, on a logarithmic axis; the others are measured in eps. The stepped "
    "curve is the worst case of the same norm: there an image broken at a small eps stays broken.",
    limits="The plain reading is not a robust accuracy. It may rise where a step jumps over the "
    "region of wrong answers, and where the gradient underflows to zero the image does not move at "
    "all; neither makes the network more robust.",
    needs="No one-step method was run.",
    command="sweep",
)
