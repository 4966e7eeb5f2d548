"""Images that are neither proven nor broken at one radius, with what is known of each."""

import base64
import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from robust_mnist import data, figures
from robust_mnist.config import Certify
from robust_mnist.records import Records, Sandwich


# So many are shown, and so many more are listed behind them.
LIMIT, FOLDED = 20, 500
Pictures = UInt8[np.ndarray, "images pixels"]


@dataclasses.dataclass(frozen=True)
class Image:
    """An open image.

    Attributes:
        place: Its place in the test set.
        label: True class, a dash where the run does not tell.
        lower: Radius that is proven.
        upper: Size of the closest wrong image found; infinite where there is none.
        width: Length of the interval, up to the largest radius of the norm.
        certifier: What proved `lower`.
        method: What found `upper`, a dash where nothing was found.
        reached: Class of the closest wrong image, a dash where nothing was found.
        seed: Training seed of the network, empty where there is one alone.
        picture: The image as a URL, empty where it is not at hand.
    """

    place: int
    label: str
    lower: str
    upper: str
    width: str
    certifier: str
    method: str
    reached: str
    seed: str
    picture: str


@dataclasses.dataclass(frozen=True)
class Open:
    """The open images at one radius.

    Attributes:
        eps: The radius.
        count: How many there are, over all networks.
        images: The widest of them, widest first.
        others: Those that come next, without pictures.
    """

    eps: str
    count: int
    images: list[Image]
    others: list[Image]


def chosen_eps(records: Records, sandwich: Sandwich) -> float:
    """Where open images are listed.

    The radius that was closed last, else where `certify` looks by default, else where most images
    are open.
    """
    closed = [one["eps"] for one in entries(records) if one["norm"] == sandwich.norm]
    if closed:
        return float(closed[-1])
    if sandwich.norm == Certify.norm and Certify.eps <= sandwich.end:
        return Certify.eps
    return max(sandwich.eps, key=lambda eps: int(sandwich.open_at(eps).sum()))


def entries(records: Records) -> list[Mapping[str, float | str]]:
    """What closing radii left in `run.json`, in the order it was done."""
    found = records.info.get("closed", [])
    return list(found.values() if isinstance(found, Mapping) else found)


def listed(records: Records, sandwich: Sandwich, pictures: Pictures | None) -> Open:
    """The open images at the chosen radius, widest first."""
    eps = chosen_eps(records, sandwich)
    networks, places = np.nonzero(sandwich.open_at(eps))
    # Of a sample, as the page of a stopped sweep may show, nobody knows which images these are.
    if sandwich.widths.shape[1] != records.info["data"]["test"]:
        return Open(f"{eps:g}", len(places), [], [])
    # Of equal widths the first image of the first network comes first.
    order = np.argsort(-sandwich.widths[networks, places], kind="stable")
    image = lambda at, drawn: _image(records, sandwich, int(networks[at]), int(places[at]), drawn)
    shown = [image(at, pictures) for at in order[:LIMIT]]
    others = [image(at, None) for at in order[LIMIT : LIMIT + FOLDED]]
    return Open(f"{eps:g}", len(places), shown, others)


def _image(
    records: Records, sandwich: Sandwich, network: int, place: int, pictures: Pictures | None
) -> Image:
    radii = sandwich.radii[network]
    labels = records.panels.get("flow/labels")
    broken = bool(np.isfinite(radii.upper[place]))
    return Image(
        place=place,
        label="-" if labels is None else str(int(labels[place])),
        lower=f"{radii.lower[place]:#.4g}",
        upper=f"{radii.upper[place]:#.4g}" if broken else "\N{INFINITY}",
        width=f"{sandwich.widths[network, place]:#.3g}",
        certifier=str(radii.certifier[place]),
        method=str(radii.method[place]) if broken else "-",
        reached=str(int(radii.reached[place])) if broken else "-",
        seed=str(records.seeds[network]) if len(sandwich.radii) > 1 else "",
        picture="" if pictures is None else _url(pictures[place]),
    )


def pictures(records: Records) -> Pictures | None:
    """The test images, where they are part of the package; a page loads nothing else."""
    about = records.info["data"]
    if about["origin"] != "embedded" or about["name"] not in data.DATASETS:
        return None
    dataset = data.load(about["name"], quiet=True)
    return dataset.test_images if dataset.sha256 == about["sha256"] else None


def _url(image: UInt8[np.ndarray, " pixels"]) -> str:
    encoded = base64.b64encode(figures.thumbnail(image)).decode("ascii")
    return f"data:image/png;base64,{encoded}"
