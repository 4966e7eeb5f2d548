"""NPZ files in Keras' layout: `x_train`, `y_train`, `x_test` and `y_test` in one archive.

An NPZ is a zip of NPY files. Their headers are read here rather than by `numpy.load`, which
trusts the shape it finds, allocates it, and only then notices that the data are missing.
"""

import contextlib
import io
import math
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import numpy as np
from jaxtyping import Num, UInt8

from robust_mnist.data._dataset import Dataset
from robust_mnist.data._streams import read_exactly, regular
from robust_mnist.data._values import SAVE_LEVELS, complaint, first_wrong
from robust_mnist.errors import InputError


KEYS = ("x_train", "y_train", "x_test", "y_test")
LONGEST = 10_000  # bytes in an NPY header; ours need about a hundred
HEADER = re.compile(
    r"\{'descr': '(?P<descr>[^']*)', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[0-9, ]*)\),? ?\}\s*"
)
NUMBERS = re.compile(r"[<>|=]?(u[1248]|i[1248]|f[248])")


class _Header(NamedTuple):
    dtype: np.dtype
    order: Literal["C", "F"]
    shape: tuple[int, ...]


def read(path: pathlib.Path) -> Dataset:
    """The dataset in an NPZ file, named after the file.

    Images may have shape (n, 28, 28) or (n, 784) and any number type, as long as their values
    are whole numbers 0..255; labels have shape (n,).

    Raises:
        InputError: The file is not such an archive; the message names the member.
    """
    with _archive(regular(path)) as archive:
        missing = [key for key in KEYS if f"{key}.npy" not in archive.namelist()]
        if missing:
            raise InputError(
                f"{path}: lacks {', '.join(missing)}, it holds {_listing(archive)}; "
                f"save {', '.join(KEYS)} together"
            )
        x_train, y_train, x_test, y_test = (_read_array(archive, key, path) for key in KEYS)
    return Dataset(
        path.stem,
        _images(x_train, f"{path}, x_train"),
        _labels(y_train, f"{path}, y_train"),
        _images(x_test, f"{path}, x_test"),
        _labels(y_test, f"{path}, y_test"),
        origin=str(path),
    )


@contextlib.contextmanager
def _archive(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise InputError(f"{path}: not a sound NPZ (zip) file ({error}); save it again") from error
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        # RuntimeError: encrypted, or written by a later version. The others: senseless offsets.
        raise InputError(
            f"{path}: cannot be read as an NPZ file ({error}); save it with numpy.savez"
        ) from error


def _listing(archive: zipfile.ZipFile) -> str:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    return (shown or "nothing") + (" and more" if len(names) > 8 else "")


def _read_array(archive: zipfile.ZipFile, key: str, path: pathlib.Path) -> Num[np.ndarray, "..."]:
    where, member = f"{path}, {key}", archive.getinfo(f"{key}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The others shrink zeros a million times, and numpy writes neither.
        raise InputError(f"{where}: compressed in a way NPZ never is; save it with numpy.savez")
    with archive.open(member) as opened:
        stream = cast("io.BufferedIOBase", opened)
        header = _read_header(stream, where)
        size = math.prod(header.shape) * header.dtype.itemsize
        data = read_exactly(stream, size, where)
    if not data:
        raise InputError(
            f"{where}: holds nothing, its shape is {header.shape}; give at least one image"
        )
    return np.frombuffer(data, header.dtype).reshape(header.shape, order=header.order)


def _read_header(stream: io.BufferedIOBase, where: str) -> _Header:
    start = stream.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise InputError(f"{where}: not an NPY array; save it with numpy.savez")
    length = int.from_bytes(stream.read(2 if start[6] == 1 else 4), "little")
    text = stream.read(min(length, LONGEST)).decode("latin1")
    match = HEADER.fullmatch(text)
    if match is None:
        raise InputError(
            f"{where}: its header is not that of a plain array; save it with numpy.savez"
        )
    shape = tuple(int(size) for size in match["shape"].replace(" ", "").split(",") if size)
    return _Header(_dtype(match["descr"], where), "F" if match["fortran"] == "True" else "C", shape)


def _dtype(descr: str, where: str) -> np.dtype:
    if "O" in descr:
        raise InputError(f"{where}: holds Python objects (pickle), which is unsafe; save numbers")
    if not NUMBERS.fullmatch(descr):
        raise InputError(f"{where}: holds values of type {descr[:40]!r}; save uint8 numbers")
    return np.dtype(descr)


def _images(array: Num[np.ndarray, "..."], where: str) -> UInt8[np.ndarray, "images pixels"]:
    if array.shape[1:] not in ((28, 28), (784,)):
        raise InputError(
            f"{where}: images must be 28x28, so the shape (n, 28, 28) or (n, 784), "
            f"got {array.shape}; reshape or scale them"
        )
    flat = array.reshape(len(array), 784)
    if flat.dtype.kind == "f" and flat.size and flat.max() <= 1:
        raise InputError(
            f"{where}: the largest pixel is {flat.max():g}, so the images seem to be scaled to "
            f"0..1; {SAVE_LEVELS}"
        )
    return _bytes(flat, "pixel", 255, where)


def _labels(array: Num[np.ndarray, "..."], where: str) -> UInt8[np.ndarray, " images"]:
    if array.ndim != 1:
        raise InputError(
            f"{where}: labels must have shape (n,), got {array.shape}; save class numbers 0..9"
        )
    return _bytes(array, "label", 9, where)


def _bytes(
    array: Num[np.ndarray, "*shape"], kind: str, largest: int, where: str
) -> UInt8[np.ndarray, "*shape"]:
    wrong = first_wrong(array, largest)
    if wrong is not None:
        raise InputError(f"{where}, image {wrong[0]}: {complaint(kind, array[wrong], largest)}")
    return array.astype(np.uint8, order="C")
