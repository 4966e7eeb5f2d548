"""What a page says of certificates, norm by norm: the gap, and each certifier's gain and cost."""

import dataclasses
import math

import numpy as np

from robust_mnist.figures import NORMS, swept
from robust_mnist.records import ON_OPEN_IMAGES, Records, Sandwich
from robust_mnist.report import _open_images


# More radii side by side are not readable.
SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Certifier:
    """What one certifier adds, and what it costs.

    Attributes:
        name: The certifier.
        added: At each radius, images that it proves and no cheaper one does.
        proven: At each radius, images that it proves.
        median: Median over all images of the radius it proves.
        seconds: What it took, compilation apart.
        compiling: Seconds of compilation.
        rate: Images per second, of those that it ran on.
        domains: Parts of balls that branch and bound explored in this time.
    """

    name: str
    added: list[str]
    proven: list[str]
    median: str = "-"
    seconds: str = "-"
    compiling: str = "-"
    rate: str = "-"
    domains: str = ""


@dataclasses.dataclass(frozen=True)
class Certificates:
    """What was certified in one norm.

    Attributes:
        norm: The norm.
        gap: Mean width of the intervals, with its own interval.
        end: Largest radius, up to which the gap is counted.
        exact: Radii at which no image is open.
        eps: Radii of the table.
        certifiers: Its rows, cheapest first.
        open: Open images at one radius.
        networks: Number of networks, whose images are counted together.
    """

    norm: str
    gap: str
    end: str
    exact: list[str]
    eps: list[str]
    certifiers: list[Certifier]
    open: _open_images.Open
    networks: int


def summaries(records: Records) -> list[Certificates]:
    """One per norm in which something was certified."""
    found = [(norm, Sandwich.of(records, norm)) for norm in swept(records)]
    pictures = _open_images.pictures(records)
    return [
        Certificates(
            norm=NORMS[norm],
            gap=sandwich.area.text,
            end=f"{sandwich.end:g}",
            exact=[f"{eps:g}" for eps in sandwich.exact],
            eps=[f"{eps:g}" for eps in shown(records, sandwich)],
            certifiers=certifiers(records, sandwich),
            open=_open_images.listed(records, sandwich, pictures),
            networks=len(sandwich.radii),
        )
        for norm, sandwich in found
        if sandwich is not None
    ]


def exact(records: Records) -> dict[str, list[float]]:
    """The radii of each norm at which no image is open."""
    found = {norm: Sandwich.of(records, norm) for norm in swept(records)}
    return {norm: one.exact if one else [] for norm, one in found.items()}


def shown(records: Records, sandwich: Sandwich) -> list[float]:
    """A few radii at which something is proven, evenly spread over the places of the grid.

    The one at which open images are listed is among them, if it is on the grid.
    """
    proven = [
        eps for eps in sandwich.eps if any(np.any(one.lower >= eps) for one in sandwich.radii)
    ]
    places = np.linspace(0, len(proven) - 1, min(SHOWN, len(proven))).round().astype(int)
    listed = _open_images.chosen_eps(records, sandwich)
    return sorted({proven[place] for place in places} | ({listed} & set(proven)))


def certifiers(records: Records, sandwich: Sandwich) -> list[Certifier]:
    """A row per certifier, cheapest first."""
    eps = shown(records, sandwich)
    added = [sandwich.added(one) for one in eps]
    found = []
    for name, lower in sandwich.alone.items():
        row = Certifier(
            name,
            [f"{one[name]:,}" for one in added],
            [f"{int(np.sum(lower >= one)):,}" for one in eps],
            **_cost(records, sandwich, name),
        )
        found.append(row)
    return found


def _cost(records: Records, sandwich: Sandwich, name: str) -> dict[str, str]:
    """What a certifier took on all images, or where it ran on open ones alone, on those."""
    cells, place = records.info.get("cells", {}), f"{sandwich.norm}/{name}"
    # A merge of copies keeps no seconds of what went on in several of them.
    if "seconds" in (cell := cells.get(place, {})):
        median = np.median(np.maximum(sandwich.alone[name], 0.0))
        told, images = {"median": f"{median:.3g}"}, sandwich.widths.shape[1] * cell["cells"]
    elif "seconds" in (cell := cells.get(f"{place}{ON_OPEN_IMAGES}", {})):
        told, images = (
            {"domains": f"{cell['domains']:,.0f}"} if cell["domains"] else {},
            cell["images"],
        )
    else:
        return {}
    rate = images / cell["seconds"] if cell["seconds"] else math.inf
    return told | {
        "seconds": f"{cell['seconds']:,.1f}",
        "compiling": f"{cell['compile_seconds']:,.1f}",
        "rate": f"{rate:,.0f}",
    }
