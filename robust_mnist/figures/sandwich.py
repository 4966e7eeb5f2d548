"""Certified and attacked accuracy with their bands, and what lies open between them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist import statistics
from robust_mnist.figures import _curves, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records, Sandwich


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw one panel per norm in which something was certified."""
    found = [Sandwich.of(records, norm) for norm in _curves.swept(records)]
    sandwiches = [sandwich for sandwich in found if sandwich is not None]
    if not sandwiches:
        return None
    figure = _style.canvas(5.6)
    panels = figure.subplots(1, len(sandwiches), squeeze=False).flat
    for axes, sandwich in zip(panels, sandwiches, strict=True):
        _panel(axes, sandwich, _curves.right_end(records, sandwich.norm))
    images = sandwiches[0].widths.shape[1]
    networks = f" · {len(records.seeds)} networks" if len(records.seeds) > 1 else ""
    _style.heading(
        figure,
        "Robust accuracy between what is proven and what is broken",
        _style.counted(records, f"{images:,} {_style.dataset(records)} test images{networks}"),
    )
    return figure


def _panel(axes: Axes, sandwich: Sandwich, end: float) -> None:
    lower = [one.lower for one in sandwich.radii]
    upper = [one.upper for one in sandwich.radii]
    x = _curves.spread([*lower, *upper], end).x
    below, above = (
        np.mean([statistics.survival(one, x) for one in radii], axis=0) for radii in (lower, upper)
    )
    _curves.fill(
        axes, x, below, above, color=_style.ORANGE, alpha=0.32, label="open: the gap between them"
    )
    worst = _curves.spread(upper, end)
    _draw_band(axes, upper, end, color=_style.INK, label=_band(upper))
    _curves.Staircase(worst.x, worst.mean).draw(
        axes, color=_style.INK, label="attacked: no defence gets above", linewidth=1.8
    )
    _draw_band(axes, lower, end, color=_style.GREEN, label="_certified band")
    _curves.certified(lower, end).draw(
        axes, color=_style.GREEN, label="certified: no attack gets below", linewidth=1.8
    )
    axes.set(xlim=(0.0, end), xlabel=_style.EPS_LABEL[sandwich.norm], ylabel="accuracy")
    axes.set_title(f"{_style.NORMS[sandwich.norm]} norm: gap {sandwich.area.text}")
    _style.percent(axes)
    _stamp(axes, sandwich, end)
    _style.legend_below(axes)


def _band(radii: list[_curves.Values]) -> str:
    if len(radii) > 1:
        return f"range of {len(radii)} networks, of either curve"
    half = statistics.band_half_width(radii[0].size)
    return f"95 % band of either curve (±{100 * half:.1f} points)"


def _draw_band(
    axes: Axes, radii: list[_curves.Values], end: float, *, color: str, label: str
) -> None:
    """Sampling error of one network's curve, or the range over several."""
    over = _curves.spread(radii, end)
    half = statistics.band_half_width(radii[0].size) if len(radii) == 1 else 0.0
    _curves.fill(
        axes, over.x, over.low - half, over.high + half, color=color, alpha=0.2, label=label
    )


def _stamp(axes: Axes, sandwich: Sandwich, end: float) -> None:
    """Mark the radii at which no image is open: there the accuracy is known."""
    exact = np.array([eps for eps in sandwich.exact if eps <= end])
    if not exact.size:
        return
    known = np.mean([one.attacked_accuracy(exact) for one in sandwich.radii], axis=0)
    axes.plot(
        exact, known, linestyle="none", marker="D", markersize=5, color=_style.BLUE, clip_on=False,
        zorder=4, label="exact: every image is proven or broken",
    )  # fmt: skip
    for eps, accuracy in zip(exact, known, strict=True):
        # To the upper right of a falling curve there is room, but for its end.
        last = eps > 0.9 * end
        axes.annotate(
            f"exact {_style.share(accuracy)}", (eps, accuracy), xytext=(0 if last else 3, 6),
            textcoords="offset points", rotation=90 if last else 45,
            ha="center" if last else "left", va="bottom", fontsize=8.5,
        )  # fmt: skip
    ticks = axes.get_yticks()
    _style.percent(axes, top=max(1.0, 0.25 + float(known.max())))
    axes.set_yticks(ticks[ticks <= 1.0])


CHART = Chart(
    draw=draw,
    title="Certified and attacked",
    reading="Robust accuracy lies between the two curves: attacks prove that it is not above the "
    "upper one, certificates that it is not below the lower one. What is shaded between them is "
    "open, and its area is the gap: the mean over all images of the length of the interval that "
    "is left for the robust radius, up to the largest eps that was tried, with its 95 % interval "
    "over the images. A diamond with the word exact stands where no image is open. The band of a "
    "curve is its 95 % sampling error at all eps at once.",
    several="Robust accuracy lies between the two curves, both of them the mean of the networks: "
    "attacks prove that it is not above the upper one, certificates that it is not below the lower "
    "one. What is shaded between them is open, and its area is the gap: the mean over all images "
    "and networks of the length of the interval that is left for the robust radius, up to the "
    "largest eps that was tried, with its 95 % interval over the images. A diamond with the word "
    "exact stands where no image of any network is open. The band of a curve reaches from the "
    "lowest to the highest network.",
    limits="The gap is what these methods left open and no property of the network: a stronger "
    "attack and a tighter certificate both make it smaller. Exact is said of these test images; "
    "the band still tells how far others may be from them.",
    needs="In no norm was an image certified.",
    command="sweep",
)
