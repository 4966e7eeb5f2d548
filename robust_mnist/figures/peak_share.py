"""How much of what the device can do a benchmark does."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_mnist.figures import _style, _timings
from robust_mnist.figures._chart import TimingChart


_READINGS = {"peak_share": "full", "own_peak_share": "none"}


@_style.styled
def draw(table: pd.DataFrame) -> Figure | None:
    """Draw a row per benchmark, and per device its share of both measured rates."""
    positive = (table[list(_READINGS)] > 0).any(axis=1)
    shown = table[positive]
    if shown.empty:
        return None
    colors = _timings.colors(table)
    devices = [device for device in colors if device in set(shown["device"])]
    figure, panels = _timings.topic_panels(shown)
    for topic, axes in panels.items():
        rows = shown[shown["topic"] == topic]
        order = list(rows["benchmark"].drop_duplicates())
        axes.axvline(1.0, color=_style.INK, linewidth=1.0)
        for device, shift in _timings.offsets(devices).items():
            mine = rows[rows["device"] == device]
            places = np.array([order.index(name) for name in mine["benchmark"]]) + shift
            for reading, fill in _READINGS.items():
                face = colors[device] if fill == "full" else "none"
                axes.plot(
                    mine[reading], places, "o" if fill == "full" else "D", color=colors[device],
                    markerfacecolor=face, markersize=5.5, markeredgewidth=1.3,
                )  # fmt: skip
    first, last = next(iter(panels.values())), list(panels.values())[-1]
    first.set_xscale("log")
    for device in devices:
        first.plot([], [], "o", color=colors[device], label=_style.plain(device))
    for reading, (marker, label) in {
        "peak_share": ("o", "share of the rate of a large product"),
        "own_peak_share": ("D", "share of the rate of its own products alone"),
    }.items():
        if shown[reading].notna().any():
            first.plot(
                [], [], marker, color=_style.INK, label=label,
                markerfacecolor=_style.INK if marker == "o" else "none",
            )  # fmt: skip
    last.set_xlabel("share of the rate measured on that device (logarithmic; 100 %: all of it)")
    low, high = last.get_xlim()
    last.set_xlim(low, max(high, 1.4))
    _timings.plain_log(last.xaxis)
    last.xaxis.set_major_formatter(lambda value, _at: f"{100 * value:g} %")
    _timings.below(figure, first)
    _style.heading(
        figure,
        "Share of the measured peak",
        "matrix products per second over what this very machine reached on products alone",
    )
    return figure


CHART = TimingChart(
    draw=draw,
    title="Share of the measured peak",
    reading="A dot is the rate of a benchmark's matrix products over that of a large square "
    "product on the same device; a diamond the rate over that of the benchmark's own product "
    "shapes, each timed alone. What lies between dot and diamond is the shape of the products; "
    "what lies between diamond and 100 % is all the rest: gathering, activations, dispatch.",
    limits="Element-wise work counts as time and not as work. The peaks are those of one launch on "
    "a machine that may have had neighbours, so a share may exceed 100 %.",
    needs="The result files hold no peaks: run the benchmarks of this version.",
)
