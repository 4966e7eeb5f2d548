"""What every reader returns: four arrays that are known to be sound."""

import dataclasses
import functools
import hashlib

import numpy as np

from robust_mnist.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images of ten classes, checked once so that nothing downstream has to.

    Pixels stay bytes, a quarter of the size of floats; `pixels.to_float` turns them into numbers
    where they are used. The arrays are read-only.

    Attributes:
        name: How tables and files call it.
        train_images: Grey levels 0..255, one row of 784 (28 lines of 28) per image.
        train_labels: Classes 0..9.
        test_images: The same, of the test set.
        test_labels: The same, of the test set.
        origin: Where it came from: `"embedded"`, or the folder or files read.
        embedded: Whether it is the MNIST that travels with the package.

    Raises:
        InputError: A part is empty, its counts differ, an image is not 784 bytes, or a label is
            not one of 0..9.
    """

    # Shapes are checked below, in words for the user; annotations would get in first in tests.
    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    origin: str
    embedded: bool = False

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images = getattr(self, f"{part}_images")
            labels = getattr(self, f"{part}_labels")
            _check(images, labels, where=f"{self.origin}: {part}")
            # Read-only views: the hash below must stay true.
            object.__setattr__(self, f"{part}_images", _frozen(images))
            object.__setattr__(self, f"{part}_labels", _frozen(labels))

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the four arrays, shapes included, in hexadecimal; not of name and origin."""
        return _digest(self.train_images, self.train_labels, self.test_images, self.test_labels)

    @functools.cached_property
    def test_sha256(self) -> str:
        """Hash of the test images and labels alone, by which runs can be compared."""
        return _digest(self.test_images, self.test_labels)


def check_labels(labels: np.ndarray, where: str) -> None:
    """Refuse the first label outside 0..9, naming it and its position, counted from 0.

    Raises:
        InputError: There is such a label.
    """
    wrong = np.flatnonzero(labels > 9)
    if wrong.size:
        raise InputError(
            f"{where}: label {labels[wrong[0]]} at position {wrong[0]} is outside 0..9; "
            "keep ten classes, numbered 0..9"
        )


def _check(images: np.ndarray, labels: np.ndarray, where: str) -> None:
    if images.dtype != np.uint8 or labels.dtype != np.uint8:
        raise InputError(
            f"{where}: images and labels must be uint8, got {images.dtype} and {labels.dtype}; "
            "give whole numbers 0..255 as bytes"
        )
    if images.ndim != 2 or images.shape[1] != 784:
        raise InputError(
            f"{where}: images must have shape (n, 784), got {images.shape}; flatten 28x28 images"
        )
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"{where}: {len(images)} images but labels of shape {labels.shape}; "
            "give one label for each image"
        )
    if len(images) == 0:
        raise InputError(f"{where}: holds no images; give at least one")
    check_labels(labels, where)


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
