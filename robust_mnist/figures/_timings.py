"""What figures of timings share: devices and their colours, benchmarks by topic, units of time."""

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from robust_mnist.figures import _style


ROW = 0.27  # inches for one benchmark
_COLORS = (
    _style.BLUE, _style.ORANGE, _style.GREEN, _style.PINK, _style.BROWN, _style.SKY, _style.GREY,
)  # fmt: skip
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def colors(table: pd.DataFrame) -> dict[str, str]:
    """A colour for every device of the table, the same in all figures of it."""
    devices = table["device"].drop_duplicates()
    return {device: _COLORS[i % len(_COLORS)] for i, device in enumerate(devices)}


def baseline(table: pd.DataFrame) -> str:
    """The label of the device that the others are compared with."""
    return str(table.loc[table["baseline"], "device"].iloc[0])


def seconds(value: float) -> str:
    """A time to three digits, in the unit that suits it."""
    size, unit = next(((s, u) for s, u in _UNITS if value >= s), _UNITS[-1])
    return f"{value / size:.3g} {unit}" if value < 1000 else f"{value:,.0f} s"


def time_axis(axis: Axis) -> None:
    """Ticks of a logarithmic axis of seconds, in words that need no exponent."""
    _log_ticks(axis, seconds)


def plain_log(axis: Axis, form: str = "{:g}") -> None:
    """Ticks of a logarithmic axis as plain numbers."""
    _log_ticks(axis, form.format)


def _log_ticks(axis: Axis, told: Callable[[float], str]) -> None:
    low, high = axis.get_view_interval()
    # With little range, powers of ten alone would leave one tick or none.
    narrow = low > 0 and math.log10(high / low) < 3
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _at: told(value)))
    axis.set_minor_formatter(NullFormatter())


def topic_panels(table: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """A panel per topic, one under the other, as tall as it has benchmarks; they share an axis."""
    counts = table.groupby("topic", sort=False)["benchmark"].nunique()
    height = _style.HEADING + 0.9 + sum(ROW * count + 0.5 for count in counts)
    figure = _style.canvas(height)
    panels = figure.subplots(
        len(counts), 1, squeeze=False, sharex=True, height_ratios=[n + 1.0 for n in counts]
    ).flat
    found = {}
    for axes, (topic, count) in zip(panels, counts.items(), strict=True):
        names = table.loc[table["topic"] == topic, "benchmark"].drop_duplicates()
        axes.set_yticks(range(count), [_style.plain(_style.shorten(name)) for name in names])
        axes.set_ylim(count - 0.4, -0.6)  # the first on top
        axes.set_title(str(topic))
        axes.tick_params(axis="y", length=0)
        axes.label_outer(remove_inner_ticks=False)
        found[str(topic)] = axes
    # A page shows a long figure from its top.
    panels[0].tick_params(axis="x", labeltop=True)
    return figure, found


def offsets(names: list[str]) -> dict[str, float]:
    """Where the devices stand beside each other within a benchmark's row."""
    return {name: 0.22 * (i - (len(names) - 1) / 2) for i, name in enumerate(names)}


def below(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """A legend under the whole figure, of what `axes` shows."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower left", ncols=columns, columnspacing=1.4,
        handlelength=1.8, labelspacing=0.35,
    )  # fmt: skip
