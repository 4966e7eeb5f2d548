"""What closing a radius took: time and domains, image by image where that was kept."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from robust_mnist.figures import NORMS
from robust_mnist.records import Records
from robust_mnist.report import _open_images


@dataclasses.dataclass(frozen=True)
class Closed:
    """One radius that branch and bound worked on.

    Attributes:
        norm: The norm.
        eps: The radius.
        seed: Training seed of the network.
        images: Number of images.
        certified: How many of them are proven.
        attacked: How many of them are broken or wrong from the start.
        open: How many are left.
        domains: Parts of balls that were bounded.
        seconds: What it took with the attacks and certifiers before it, compilation apart.
        compiling: Seconds of compilation.
        per_image: Domains and seconds: the mean over all images, and what is known of single ones;
            for seconds, those of branch and bound after which they were decided.
    """

    norm: str
    eps: str
    seed: str
    images: str
    certified: str
    attacked: str
    open: str
    domains: str
    seconds: str
    compiling: str
    per_image: list[tuple[str, str]]


def closed(records: Records) -> list[Closed]:
    """A row per radius, norm and network, in the order they were closed; none in most runs."""
    return [_row(entry) for entry in _open_images.entries(records)]


def _row(entry: Mapping[str, Any]) -> Closed:
    count = {name: f"{entry[name]:,}" for name in ("images", "certified", "attacked", "open")}
    return Closed(
        norm=NORMS.get(entry["norm"], entry["norm"]),
        eps=f"{entry['eps']:g}",
        seed=str(entry["seed"]),
        domains=f"{entry['domains']:,}",
        seconds=f"{entry['seconds']:,.1f}",
        compiling=f"{entry['compile_seconds']:,.1f}",
        per_image=[
            (_number(entry[name] / entry["images"]), _quantiles(entry, name))
            for name in ("domains", "seconds")
        ],
        **count,
    )


def _quantiles(entry: Mapping[str, Any], name: str) -> str:
    """Median, 95 % quantile and most over the single images that were kept; empty without any."""
    values = [one[name] for one in entry.get("per_image") or [] if one.get(name) is not None]
    if not values:
        return ""
    levels = np.quantile(values, [0.5, 0.95, 1.0], method="inverted_cdf")
    return " / ".join(_number(float(level)) for level in levels)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
