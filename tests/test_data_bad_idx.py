"""IDX files that are not sound, packed or not, end in one line that says what is wrong."""

import gzip
import struct

import numpy as np
from data_files import cases, complaint, idx_bytes, some_arrays, write_idx

from robust_mnist.data import idx, load


ARRAYS = some_arrays()
IMAGES = idx_bytes(ARRAYS[0].reshape(-1, 28, 28))
LABELS = idx_bytes(ARRAYS[1])
NAMES = {"images": "train-images-idx3-ubyte", "labels": "train-labels-idx1-ubyte"}


@cases(
    "content",
    (b"", "empty"),
    (IMAGES[:3], "ends inside its header"),
    (IMAGES[:4], "ends before its sizes"),
    (IMAGES[:9], "ends inside its header"),
    (b"\x89PNG" + IMAGES[4:], "magic number is 0x89504e47"),
    (b"\0\0\x07\x03" + IMAGES[4:], "magic number is 0x00000703"),
    (b"\0\0\x0d\x03" + IMAGES[4:], "must be bytes (uint8), these are float32"),
    (LABELS, "images have 3 dimensions in IDX, this file has 1"),
    (IMAGES[:-1], "declares 3920 bytes of data but holds only 3919"),
    (IMAGES[:16], "declares 3920 bytes of data but holds only 0"),
    (IMAGES + b"\0", "more data follows the 3920 bytes"),
    (idx_bytes(np.zeros((2, 32, 32), np.uint8)), "must be 28x28, these are 32x32"),
    (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "holds nothing, its sizes are (0, 28, 28)"),
    (b"\0\0\x08\x03" + b"\xff" * 12, "more than the 1073741824 allowed"),
    (struct.pack(">4B3I", 0, 0, 8, 3, 10**6, 28, 28), "declares 784000000 bytes of data but"),
    (gzip.compress(IMAGES), "this is gzip; give it a name that ends in .gz"),
)
def test_bad_idx_images(tmp_path, content, words):
    path = tmp_path / NAMES["images"]
    path.write_bytes(content)
    message = complaint(idx.read_images, path)
    assert message.startswith(f"{path}: ")
    assert words in message


@cases(
    "content",
    (IMAGES, "labels have 1 dimensions in IDX, this file has 3"),
    (idx_bytes(np.array([3, 10], np.uint8)), "label 10 at position 1 is outside 0..9"),
    (LABELS[:-2], "declares 5 bytes of data but holds only 3"),
)
def test_bad_idx_labels(tmp_path, content, words):
    path = tmp_path / NAMES["labels"]
    path.write_bytes(content)
    assert words in complaint(idx.read_labels, path)


@cases(
    "content",
    (b"", "empty"),
    (IMAGES, "not a sound gzip file"),
    (gzip.compress(IMAGES)[:-4], "cut short"),
    (gzip.compress(IMAGES)[:200], "cut short"),
    (gzip.compress(IMAGES)[:-8] + bytes(8), "not a sound gzip file (CRC check failed"),
    (gzip.compress(IMAGES) + b"rubbish", "not a sound gzip file"),
    (gzip.compress(IMAGES[:-1]), "holds only 3919"),
    (gzip.compress(IMAGES + b"\0"), "more data follows"),
)
def test_bad_gzip(tmp_path, content, words):
    path = tmp_path / f"{NAMES['images']}.gz"
    path.write_bytes(content)
    assert words in complaint(idx.read_images, path)


def test_counts_that_differ_are_told_with_the_folder(tmp_path):
    train_images, train_labels, *test = ARRAYS
    folder = write_idx(tmp_path / "four", [train_images, train_labels[:-1], *test])
    message = complaint(load, folder)
    assert message.startswith(f"{folder}: train: 5 images but labels of shape (4,)")


def test_a_missing_idx_file_is_named(tmp_path):
    folder = write_idx(tmp_path / "three", ARRAYS)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    assert "missing: t10k-labels" in complaint(load, folder)
