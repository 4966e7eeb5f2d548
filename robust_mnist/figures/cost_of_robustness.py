"""What it costs to know how robust a network is: accuracy left over, against seconds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _style, _timings
from robust_mnist.figures._chart import TimingChart


_MARKERS = "osD^vPX*<>hp"


@_style.styled
def draw(table: pd.DataFrame) -> Figure | None:
    """Draw a panel per norm and eps, a marker per attack, and a colour per device."""
    shown = table[table["robust_accuracy"].notna()].copy()
    if shown.empty:
        return None
    shown["attack"] = shown["benchmark"].str.removeprefix("break[").str.removesuffix("]")
    shown["panel"] = [
        f"{'L2' if attack.endswith('-l2') else 'Linf'}, eps {eps:g}"
        for attack, eps in zip(shown["attack"], shown["eps"], strict=True)
    ]
    panels = list(shown["panel"].drop_duplicates())
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    attacks = list(shown["attack"].drop_duplicates())
    colors = _timings.colors(table)
    height = _style.HEADING + 0.5 + 3.6 * rows + 0.22 * (len(attacks) + len(colors)) / 2
    figure = _style.canvas(height)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        _panel(axes, shown[shown["panel"] == panel], attacks, colors)
        axes.set_title(_style.plain(panel))
    for axes in grid[len(panels) :]:
        axes.remove()
    for device in shown["device"].drop_duplicates():
        grid[0].plot([], [], color=colors[device], linewidth=4, label=_style.plain(device))
    for attack, marker in zip(attacks, _marker_of(attacks), strict=True):
        grid[0].plot([], [], marker, markersize=7, color=_style.INK, label=_style.plain(attack))
    _timings.below(figure, grid[0])
    images = " and ".join(f"{n:,.0f}" for n in sorted(set(shown["items"].dropna())))
    _style.heading(
        figure,
        "Robust accuracy against the time of the attack",
        f"{images} test images, one network; bars: 95 % Wilson intervals",
    )
    return figure


def _marker_of(attacks: list[str]) -> list[str]:
    return [_MARKERS[i % len(_MARKERS)] for i in range(len(attacks))]


def _panel(axes: Axes, rows: pd.DataFrame, attacks: list[str], colors: dict[str, str]) -> None:
    axes.set_xscale("log")
    markers = dict(zip(attacks, _marker_of(attacks), strict=True))
    for row in rows.to_dict("records"):
        ends = np.abs([[row["robust_accuracy"]] * 2, [row["robust_low"], row["robust_high"]]])
        axes.errorbar(
            row["seconds"], row["robust_accuracy"], yerr=np.abs(ends[1:] - ends[:1]).T,
            fmt=markers[row["attack"]], color=colors[row["device"]], markersize=7, capsize=3,
        )  # fmt: skip
    axes.set(xlabel="time of the whole attack, search and decision", ylabel="robust accuracy")
    axes.margins(x=0.12)
    _style.percent(axes)
    # From 0 the intervals could not be seen; dots, unlike bars, promise no common foot.
    axes.set_ylim(
        max(0.0, float(rows["robust_low"].min()) - 0.05),
        min(1.0, float(rows["robust_high"].max()) + 0.05),
    )
    low, high = axes.get_xlim()
    if high / low < 10:  # room for at least two ticks
        middle = (low * high) ** 0.5
        axes.set_xlim(middle / 3.3, middle * 3.3)
    _timings.time_axis(axes.xaxis)


CHART = TimingChart(
    draw=draw,
    title="Cost of robustness",
    reading="Lower is a stronger attack, further left a cheaper one. The same attack should stand "
    "at the same height on every device: it then moves sideways only.",
    limits="One network and one eps per attack. Robust accuracy is an upper bound: a stronger "
    "attack may find what these missed, at any price.",
    needs="No environment ran break[<attack>] with its flags.",
)
