"""The IDX format, in which MNIST was published: a magic number, the sizes, the bytes.

Layout: two zero bytes, a code for the type, the number of dimensions, one big-endian 32-bit size
per dimension, then the values in row-major order.
"""

import io
import math
import pathlib

import numpy as np
from jaxtyping import UInt8

from robust_mnist.data._dataset import check_labels
from robust_mnist.data._streams import opened, read_exactly, regular
from robust_mnist.errors import InputError


TYPES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}


def read_images(path: pathlib.Path) -> UInt8[np.ndarray, "images pixels"]:
    """The 28x28 images of an IDX file, `.gz` or not, flattened to shape (n, 784).

    Raises:
        InputError: The file is not a sound IDX file of 28x28 images of bytes.
    """
    array = _read(path, dimensions=3)
    if array.shape[1:] != (28, 28):
        rows, columns = array.shape[1:]
        raise InputError(
            f"{path}: images must be 28x28, these are {rows}x{columns}; crop or scale them"
        )
    return array.reshape(len(array), 784)


def read_labels(path: pathlib.Path) -> UInt8[np.ndarray, " images"]:
    """The labels of an IDX file, `.gz` or not, as shape (n,) with values 0..9.

    Raises:
        InputError: The file is not a sound IDX file of labels.
    """
    labels = _read(path, dimensions=1)
    check_labels(labels, str(path))
    return labels


def _read(path: pathlib.Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    with opened(regular(path)) as stream:
        shape = _read_shape(stream, path, dimensions)
        data = read_exactly(stream, math.prod(shape), str(path))
    if not data:
        raise InputError(f"{path}: holds nothing, its sizes are {shape}; give at least one image")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_shape(stream: io.BufferedIOBase, path: pathlib.Path, dimensions: int) -> tuple[int, ...]:
    _check_magic(_read_header(stream, 4, path), path, dimensions)
    sizes = _read_header(stream, 4 * dimensions, path)
    return tuple(int(size) for size in np.frombuffer(sizes, ">u4"))


def _read_header(stream: io.BufferedIOBase, size: int, path: pathlib.Path) -> bytes:
    header = stream.read(size)
    if not header:
        raise InputError(
            f"{path}: the file is empty or ends before its sizes; copy or download it again"
        )
    if len(header) < size:
        raise InputError(f"{path}: the file ends inside its header; copy or download it again")
    return header


def _check_magic(magic: bytes, path: pathlib.Path, dimensions: int) -> None:
    if magic[:2] == b"\x1f\x8b":
        raise InputError(f"{path}: this is gzip; give it a name that ends in .gz, or decompress it")
    if magic[:2] != b"\0\0" or magic[2] not in TYPES:
        raise InputError(
            f"{path}: not an IDX file, its magic number is 0x{magic.hex()}; "
            "copy or download it again"
        )
    if TYPES[magic[2]] != "uint8":
        raise InputError(
            f"{path}: values must be bytes (uint8), these are {TYPES[magic[2]]}; "
            "save whole numbers 0..255 as bytes"
        )
    if magic[3] != dimensions:
        kind = "images have 3" if dimensions == 3 else "labels have 1"
        raise InputError(
            f"{path}: {kind} dimensions in IDX, this file has {magic[3]}; "
            "check that images and labels have not changed places"
        )
