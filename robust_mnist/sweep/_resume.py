"""From the domains that branch and bound works on to those that are kept, and back."""

import hashlib

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.records import OpenDomains
from robust_mnist.sweep._frontier import Frontier


# Of what is kept, a dozen megabytes. Contraction cuts off most neurons on both sides.
MOST_DOMAINS, MOST_CUTS = 30_000, 1_500_000
SCHEMA = 1


def about(model: MLP, part: Part, norm: str, eps: float) -> bytes:
    """sha256 of all that open domains are about: network, images, labels, norm and radius."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]
    arrays = [*leaves, part.images, part.labels]
    what = repr((SCHEMA, norm, float(eps), model.activation, [array.shape for array in arrays]))
    digest = hashlib.sha256(what.encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.digest()


def kept(
    frontier: Frontier,
    images: Bool[np.ndarray, " images"],
    spent: Int64[np.ndarray, " images"],
) -> OpenDomains:
    """The domains of some images; of those with the fewest where all are too many.

    Of an image either all are kept or none.

    Args:
        frontier: All domains.
        images: Which images.
        spent: Domains that each image has taken.
    """
    held = frontier.all()
    count = np.bincount(held.image, minlength=images.size)
    at = frontier.of(images & _within(count, images, MOST_DOMAINS))
    if not at.size:
        return OpenDomains.none()
    cuts, side, point = [], [], []
    for low, high in frontier.cuts(at):
        both = np.concatenate([low, high], axis=1)
        row, column = np.nonzero(np.isfinite(both))
        cuts.append(np.bincount(row, minlength=len(both)).astype(np.int32))
        side.append(column.astype(np.int32))
        point.append(both[row, column])
    some = held.take(at)
    found = OpenDomains(
        some.image, some.other, some.bound, spent[some.image], np.concatenate(cuts),
        np.concatenate(side), np.concatenate(point),
    )  # fmt: skip
    of_image = np.bincount(some.image, found.cuts, images.size)
    return found.where(_within(of_image, images, MOST_CUTS)[some.image])


def completed(
    now: OpenDomains, before: OpenDomains, images: Bool[np.ndarray, " images"]
) -> OpenDomains:
    """What is left now, and of open images that it lacks what was left some time ago.

    An image has too many domains to keep as soon as it is a hard one. Those that were kept before
    still hold all that is not proven of it, and most of the work. They are kept as far as there is
    room beside the others.

    Args:
        now: As `kept` gave it.
        before: The same at an earlier time.
        images: Those that are open.
    """
    lacks = images.copy()
    lacks[now.image] = False
    sizes = lambda of: (np.bincount(of.image, w, images.size) for w in (None, of.cuts))
    for most, new, old in zip((MOST_DOMAINS, MOST_CUTS), sizes(now), sizes(before), strict=True):
        lacks &= _within(old, lacks, most - int(new.sum()))
    return now.beside(before.where(lacks[before.image]))


def _within(
    size: np.ndarray, images: Bool[np.ndarray, " images"], most: int
) -> Bool[np.ndarray, " images"]:
    """Of these images those that are the smallest, as long as together they are not too large."""
    size = np.where(images, size, 0)
    order = np.argsort(size, kind="stable")
    chosen = np.zeros(images.size, bool)
    chosen[order] = np.cumsum(size[order]) <= most
    return chosen


def rows(
    domains: OpenDomains, neurons: int
) -> tuple[Float32[np.ndarray, "domains neurons"], Float32[np.ndarray, "domains neurons"]]:
    """Where the neurons' inputs are cut off, below and above."""
    both = np.full((domains.image.size, 2, neurons), np.inf, np.float32)
    both[:, 0] = -np.inf
    row = np.repeat(np.arange(domains.image.size), domains.cuts)
    both.reshape(len(both), 2 * neurons)[row, domains.side] = domains.point
    return both[:, 0], both[:, 1]


def sound(
    domains: OpenDomains,
    labels: np.ndarray,
    classes: int,
    low: Float[np.ndarray, "images neurons"],
    high: Float[np.ndarray, "images neurons"],
) -> OpenDomains:
    """Those of images all of whose domains can be: other classes, and cuts within the intervals.

    Args:
        domains: What was kept.
        labels: True class of each image.
        classes: How many there are.
        low: Lower ends of the neurons' intervals in each ball.
        high: Upper ends.
    """
    neurons = low.shape[1]
    wrong = (domains.other < 0) | (domains.other >= classes)
    wrong |= domains.other == labels[domains.image]
    row = np.repeat(np.arange(domains.image.size), domains.cuts)
    side, image = domains.side, domains.image[row]
    known = (side >= 0) & (side < 2 * neurons)
    neuron = np.where(known, side, 0) % neurons
    least, most = low[image, neuron], high[image, neuron]
    # Those of another machine differ by rounding.
    room = 1e-3 * (most - least) + 1e-6 * (1 + np.abs(domains.point))
    fits = known & (domains.point >= least - room) & (domains.point <= most + room)
    wrong[row[~fits]] = True
    return domains.where(~np.isin(domains.image, domains.image[wrong]))
