"""Writers for the file formats that the package reads, and what tests of bad files share."""

import gzip
import pathlib
import struct

import numpy as np
import pytest

from robust_mnist.errors import InputError


def idx_bytes(array: np.ndarray, *, code: int = 0x08) -> bytes:
    """An array as IDX: magic number, sizes, values."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.tobytes()


def csv_bytes(
    images: np.ndarray, labels: np.ndarray, *, form: str = "%d", header: bool = False
) -> bytes:
    """Images as the CSV of the lab: label first, then 784 grey levels."""
    lines = (
        ["label," + ",".join(f"{i}x{j}" for i in range(28) for j in range(28))] if header else []
    )
    texts = [form % value for value in range(256)]
    for label, image in zip(labels.tolist(), images.tolist(), strict=True):
        lines.append(",".join([texts[label], *[texts[value] for value in image]]))
    return ("\n".join(lines) + "\n").encode()


def write(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Write bytes, through gzip when the name ends in `.gz`."""
    path.write_bytes(gzip.compress(content, compresslevel=1) if path.suffix == ".gz" else content)
    return path


def write_idx(folder, arrays, *, separator: str = "-", ending: str = "") -> pathlib.Path:
    """A folder of the four IDX files; `arrays` are flat images and labels, train then test."""
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays):
        part = ("train", "t10k")[number // 2]
        kind, rank = (("images", 3), ("labels", 1))[number % 2]
        shaped = array.reshape(-1, 28, 28) if rank == 3 else array
        write(folder / f"{part}-{kind}{separator}idx{rank}-ubyte{ending}", idx_bytes(shaped))
    return folder


def write_npz(path, arrays, **changes) -> pathlib.Path:
    """An NPZ in Keras' layout, with members changed, or left out when given as None."""
    x_train, y_train, x_test, y_test = arrays
    members = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test} | changes
    np.savez(path, **{key: value for key, value in members.items() if value is not None})
    return path


def some_arrays(train: int = 5, test: int = 3) -> tuple[np.ndarray, ...]:
    """Random flat images and labels, the same at every call."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (train + test, 784)).astype(np.uint8)
    labels = random.integers(0, 10, train + test).astype(np.uint8)
    return images[:train], labels[:train], images[train:], labels[train:]


# How the last part of a message about data begins: what to do about it.
REMEDIES = (
    "check ", "choose ", "copy ", "correct ", "crop ", "did you mean ", "flatten ", "give ",
    "keep ", "make ", "name ", "part ", "put ", "reshape ", "save ",
)  # fmt: skip


def check_line(message: str, *files: pathlib.Path) -> None:
    """One line that begins with one of the files and ends, after a `; `, in what to do."""
    assert len(message.splitlines()) == 1
    assert not files or message.startswith(tuple(str(path) for path in files)), message
    assert message.rpartition("; ")[2].startswith(REMEDIES), message


def complaint(read, *arguments) -> str:
    """The one line that reading ends in."""
    with pytest.raises(InputError) as caught:
        read(*arguments)
    message = str(caught.value)
    given = [each for source in arguments for each in np.atleast_1d(source)]
    check_line(message, *(each for each in given if isinstance(each, pathlib.Path)))
    return message


def cases(what: str, *rows: tuple):
    """Parametrise over pairs of bad input and words of the message, which also name the test."""
    ids = [f"{number}: {words}" for number, (_, words) in enumerate(rows)]
    return pytest.mark.parametrize((what, "words"), rows, ids=ids)
