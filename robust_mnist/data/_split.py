"""Which images train, which validate and which test."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Int64, UInt8

from robust_mnist.data._dataset import Dataset
from robust_mnist.errors import InputError, unknown


# How many training images take part at most (None: all), and which share of them validates.
SPLITS: dict[str, tuple[int | None, int]] = {"lab": (11_000, 11), "full": (None, 12)}


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Some of the images of a dataset, and which ones.

    Attributes:
        images: Grey levels 0..255, one row of 784 per image.
        labels: Classes 0..9.
        ids: Index of each image in the training or test file it was taken from.
    """

    images: UInt8[np.ndarray, "images pixels"]
    labels: UInt8[np.ndarray, " images"]
    ids: Int64[np.ndarray, " images"]

    def take(self, at: Int64[np.ndarray, " chosen"]) -> "Part":
        """Only the images at these places, such as `np.arange(200)`.

        Raises:
            InputError: These are no places.
        """
        places = np.asarray(at)
        if places.ndim != 1 or (places.size and places.dtype.kind not in "iub"):
            raise InputError(f"take needs the places of images, such as np.arange(200), got {at!r}")
        places = places if places.size else places.astype(np.int64)
        return Part(self.images[places], self.labels[places], self.ids[places])


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Training and validation images, which share none, and the test images."""

    train: Part
    valid: Part
    test: Part


def split(dataset: Dataset, name: str = "lab") -> Split:
    """Divide the training images into training and validation; all test images stay the test.

    `lab` takes 10,000 training and 1,000 validation images, the size of the exercise the suite
    grew from, or 10/11 and 1/11 of a smaller set. `full` takes 11/12 and 1/12 of everything,
    55,000 and 5,000 for MNIST. The embedded MNIST is drawn in an order fixed by SHA-256, so that
    any program in any language can draw the same; other data keep the order of their file.

    Args:
        dataset: What to divide.
        name: `lab` or `full`.

    Raises:
        InputError: There is no such split, or fewer than two training images.
    """
    if name not in SPLITS:
        raise unknown("split", name, SPLITS)
    order = _order(dataset)
    limit, shares = SPLITS[name]
    taken = order[:limit]
    cut = len(taken) - max(1, len(taken) // shares)
    if cut < 1:
        raise InputError(
            f"{dataset.origin}: {len(order)} training image cannot be divided into training and "
            "validation; give at least 2"
        )
    images, labels = dataset.train_images, dataset.train_labels
    test = np.arange(len(dataset.test_images), dtype=np.int64)
    return Split(
        train=_part(images, labels, taken[:cut]),
        valid=_part(images, labels, taken[cut:]),
        test=Part(dataset.test_images, dataset.test_labels, test),
    )


def _order(dataset: Dataset) -> Int64[np.ndarray, " images"]:
    count = len(dataset.train_images)
    if not dataset.embedded:
        return np.arange(count, dtype=np.int64)
    drawn = sorted(range(count), key=lambda i: hashlib.sha256(f"lab-split:{i}".encode()).digest())
    return np.array(drawn, dtype=np.int64)


def _part(images: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> Part:
    return Part(images[ids], labels[ids], ids)
