"""Data of one's own: finding out what a path holds, and reading it."""

import pathlib
from collections.abc import Sequence

from robust_mnist.data import lab_csv, npz
from robust_mnist.data._dataset import Dataset
from robust_mnist.data._source import read_four
from robust_mnist.errors import InputError


WAYS = (
    "give a folder of the four IDX files, a folder with one *train*.csv and one *test*.csv, "
    "two CSV files (train, test), or an NPZ file"
)
STEMS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
# Unpacked files first: tools that unpack leave the same content beside them.
ENDINGS = ("ubyte", "ubyte.gz")


def read_paths(paths: Sequence[pathlib.Path]) -> Dataset:
    """The dataset in a folder, in an NPZ file, or in two CSV files.

    It is named after the folder or after the first file.

    Raises:
        InputError: The paths hold no dataset, an incomplete or a broken one.
    """
    match paths:
        case [train, test]:
            return _read_csv_pair(train, test, name=train.name.partition(".")[0])
        case [path] if path.is_dir():
            return _read_folder(path)
        case [path] if path.suffix.lower() == ".npz":
            return npz.read(path)
        case [path]:
            raise InputError(f"{path}: one file alone must be NPZ; {WAYS}")
    raise InputError(f"{len(paths)} paths hold no data together; {WAYS}")


def _read_csv_pair(train: pathlib.Path, test: pathlib.Path, name: str) -> Dataset:
    return Dataset(name, *lab_csv.read(train), *lab_csv.read(test), origin=f"{train}, {test}")


def _read_folder(folder: pathlib.Path) -> Dataset:
    name = folder.resolve().name or "data"
    files = _files(folder)
    idx = [path for stem in STEMS if (path := _pick_idx(files, stem))]
    if len(idx) == 4:
        return read_four(name, idx, origin=str(folder))
    if idx:
        missing = [f"{stem}-...-ubyte" for stem in STEMS if _pick_idx(files, stem) is None]
        raise InputError(
            f"{folder}: of the four IDX files, these are missing: {', '.join(missing)}; "
            "put them beside the others"
        )
    train, test = (_pick_csv(files, part, folder) for part in ("train", "test"))
    return _read_csv_pair(train, test, name)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); make it readable, or name another"
        ) from error


def _pick_idx(files: list[pathlib.Path], stem: str) -> pathlib.Path | None:
    for ending in ENDINGS:
        for path in files:
            # Both spellings are about: train-images-idx3-ubyte and train-images.idx3-ubyte.
            if path.name.startswith((f"{stem}-", f"{stem}.")) and path.name.endswith(ending):
                return path
    return None


def _pick_csv(files: list[pathlib.Path], part: str, folder: pathlib.Path) -> pathlib.Path:
    found = [
        path
        for path in files
        if part in path.name.lower() and path.name.lower().endswith((".csv", ".csv.gz"))
    ]
    # Colab's sample folder holds the prices of Californian houses beside MNIST.
    found = [path for path in found if "mnist" in path.name.lower()] or found
    if not found:
        raise InputError(f"{folder}: holds no IDX files and no *{part}*.csv; {WAYS}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise InputError(
            f"{folder}: several files match *{part}*.csv ({names}); name the two to use"
        )
    return found[0]
