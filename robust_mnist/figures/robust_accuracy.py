"""Robust accuracy against eps: each attack, the worst case over all, and what is certified."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist import statistics
from robust_mnist.figures import _curves, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Radii, Records


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw one panel per norm."""
    norms = _curves.swept(records)
    if not norms:
        return None
    figure = _style.canvas(6.4)
    for axes, norm in zip(figure.subplots(1, len(norms), squeeze=False).flat, norms, strict=True):
        _panel(axes, records, norm)
    images = records.radii_of(norms[0])[0].upper.size
    networks = f" · {len(records.seeds)} networks" if len(records.seeds) > 1 else ""
    _style.heading(
        figure,
        "Robust accuracy against eps",
        _style.counted(records, f"{images:,} {_style.dataset(records)} test images{networks}"),
    )
    return figure


@_style.styled
def plot(radii: Radii, *, end: float | None = None) -> Figure:
    """Draw the bounds of one network as curves, without a run.

    Args:
        radii: Merged bounds.
        end: Right end of the axis; by default the largest radius known.

    Returns:
        Attacked accuracy with its 95 % band and, where something was certified, certified accuracy.
    """
    known = np.concatenate([radii.lower, radii.upper])
    end = end or float(np.max(known, initial=0.0, where=np.isfinite(known))) or 1.0
    figure = _style.canvas(5.6)
    axes = figure.subplots()
    _draw_one(axes, radii, end, certified=bool(np.any(radii.lower > 0)))
    _finish(axes, radii.norm, end)
    _style.heading(figure, "Robust accuracy against eps", f"{radii.upper.size:,} images")
    return figure


def _panel(axes: Axes, records: Records, norm: str) -> None:
    radii = records.radii_of(norm)
    end = _curves.right_end(records, norm)
    _draw_methods(axes, records, norm, end)
    certified = any(np.any(one.lower > 0) for one in radii)
    if len(radii) == 1:
        _draw_one(axes, radii[0], end, certified=certified)
    else:
        _draw_seeds(axes, radii, end, certified=certified)
    _finish(axes, norm, end)


def _finish(axes: Axes, norm: str, end: float) -> None:
    axes.set(xlim=(0.0, end), xlabel=_style.EPS_LABEL[norm], ylabel="accuracy")
    axes.set_title(f"{_style.NORMS[norm]} norm")
    _style.percent(axes)
    _style.legend_below(axes)


def _draw_one(axes: Axes, radii: Radii, end: float, *, certified: bool) -> None:
    worst = _curves.staircase(radii.upper, end)
    half = statistics.band_half_width(radii.upper.size)
    _curves.fill(
        axes, worst.x, worst.y - half, worst.y + half, color=_style.INK, alpha=0.16,
        label=f"95 % band of the whole curve (±{100 * half:.1f} points)",
    )  # fmt: skip
    worst.draw(axes, color=_style.INK, label="worst case over all attacks", linewidth=2.0)
    if certified:
        _draw_certified(axes, [radii], end)


def _draw_certified(axes: Axes, radii: list[Radii], end: float) -> None:
    lower, upper = [one.lower for one in radii], [one.upper for one in radii]
    x = _curves.spread([*lower, *upper], end).x
    below, above = (
        np.mean([statistics.survival(one, x) for one in ends], axis=0) for ends in (lower, upper)
    )
    _curves.fill(
        axes, x, below, above, color=_style.GREEN, alpha=0.16,
        label="open: neither attacked nor certified",
    )  # fmt: skip
    _curves.certified(lower, end).draw(
        axes, color=_style.GREEN, label="certified: no attack gets below", linewidth=2.0
    )


def _draw_seeds(axes: Axes, radii: list[Radii], end: float, *, certified: bool) -> None:
    over = _curves.spread([one.upper for one in radii], end)
    _curves.fill(
        axes, over.x, over.low, over.high, color=_style.INK, alpha=0.18,
        label=f"from the lowest to the highest of {len(radii)} networks",
    )  # fmt: skip
    for index, one in enumerate(radii):
        label = "" if index else "each network, worst case over all attacks"
        _curves.staircase(one.upper, end).draw(
            axes, color=_style.INK, label=label or "_each", linewidth=0.5, alpha=0.55
        )
    _curves.Staircase(over.x, over.mean).draw(
        axes, color=_style.INK, label="their mean", linewidth=2.0
    )
    _draw_sampling_error(axes, radii[0].upper.size)
    if certified:
        _draw_certified(axes, radii, end)


def _draw_sampling_error(axes: Axes, images: int) -> None:
    """The band of each single network: another uncertainty than the spread over seeds."""
    half = statistics.band_half_width(images)
    axes.errorbar(
        0.97, 0.85, yerr=half, transform=axes.get_yaxis_transform(), color=_style.INK, capsize=3,
        linewidth=1.2, label=f"95 % band of one network's curve (±{100 * half:.1f} points)",
    )  # fmt: skip


def _draw_methods(axes: Axes, records: Records, norm: str, end: float) -> None:
    alone = records.upper_by_method(norm)
    rows = _curves.select(records, norm=norm, kind="attacked")
    for method, group in rows.groupby("method"):
        # Beyond the largest radius it ran at, an attack alone says nothing.
        _draw_method(axes, str(method), alone, min(end, float(group["eps"].max())))
        by_eps = group.groupby("eps")[["accuracy", "low", "high"]].mean()
        if len(set(group["seed"])) > 1:
            spread = group.groupby("eps")["accuracy"].agg(["min", "max"])
            by_eps["low"], by_eps["high"] = spread["min"], spread["max"]
            error = "mean and range"
        else:
            error = "95 % per eps"
        ends = [by_eps["accuracy"] - by_eps["low"], by_eps["high"] - by_eps["accuracy"]]
        axes.errorbar(
            by_eps.index, by_eps["accuracy"], yerr=np.maximum(ends, 0.0), fmt="o", markersize=3.5,
            color=_style.method_color(str(method)), capsize=2, linewidth=1.0,
            label=f"{method} alone, {_sample(group, records)}{error}",
        )  # fmt: skip


def _sample(group: pd.DataFrame, records: Records) -> str:
    """The number of images a method ran on, where these are not all at each radius."""
    searched = group[group["eps"] > 0]  # at 0 there is nothing to search
    images = (group if searched.empty else searched)["images"]
    least, most = int(images.min()), int(images.max())
    if least == records.info["data"]["test"]:
        return ""
    return f"{least:,} images, " if least == most else f"{least:,} to {most:,} images, "


def _draw_method(axes: Axes, method: str, alone: Mapping[str, np.ndarray], end: float) -> None:
    if method not in alone:
        return
    ran = [upper[~np.isnan(upper)] for upper in alone[method]]
    over = _curves.spread(ran, end)
    _curves.Staircase(over.x, over.mean).draw(
        axes, color=_style.method_color(method), label=f"_{method}", linewidth=1.0, alpha=0.8
    )


CHART = Chart(
    draw=draw,
    title="Robust accuracy",
    reading="Each image counts until eps reaches the size of the smallest change that fools the "
    "network, so the curve is an exact step function and cannot rise. The thick curve takes, image "
    "by image, the best attack: no defence argument can lift the network above it. The grey band "
    "around it is its 95 % sampling error at all eps at once; a marker is one attack alone at one "
    "eps, on as many images as the legend says, with its 95 % Wilson interval: on a sample of them "
    "it may lie below the curve of all. Where a certificate was computed, the truth lies between "
    "the certified and the thick curve.",
    several="Each image counts until eps reaches the size of the smallest change that fools the "
    "network, so every curve is an exact step function and cannot rise. A thin curve is one "
    "network under, image by image, the best attack: no defence argument can lift it. The thick "
    "curve is their mean, and the grey band reaches from the lowest to the highest network. A "
    "marker is one attack alone at one eps: the mean, with a bar from the lowest to the highest "
    "network. The single bar at the right is the 95 % sampling error of one network's whole "
    "curve, another uncertainty than the spread over networks. Where a certificate was computed, "
    "the truth lies between the certified and the thick curve, in the mean.",
    limits="Bands and bars speak of the finite test set and of the networks that were trained, "
    "not of attacks that were not tried. An attack that fails proves nothing: a stronger one may "
    "push the thick curve down to the certified one. Attacks ran at the marked eps; between two of "
    "them the curve is what they found on the way, so it leans high there and may show a ledge "
    "after a marker.",
    needs="No sweep was run.",
    command="sweep",
)
