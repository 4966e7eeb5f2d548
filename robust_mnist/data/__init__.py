"""Datasets: by name, or from files of your own.

This package never imports JAX; its arrays are numpy's, on the host.
"""

import os
import pathlib
from collections.abc import Sequence

from robust_mnist.data import pixels as pixels
from robust_mnist.data._dataset import Dataset as Dataset
from robust_mnist.data._foreign import WAYS, read_paths
from robust_mnist.data._source import AbstractSource as AbstractSource
from robust_mnist.data._split import SPLITS as SPLITS, Part as Part, Split as Split, split as split
from robust_mnist.data.fashion_mnist import FASHION_MNIST
from robust_mnist.data.kmnist import KMNIST
from robust_mnist.data.mnist import MNIST
from robust_mnist.errors import InputError, closest
from robust_mnist.plugins import with_plugins


# Every dataset that has a name. A new one is a file beside this one, and a line here.
DATASETS: dict[str, AbstractSource] = with_plugins(
    "datasets",
    {
        "mnist": MNIST,
        "fashion-mnist": FASHION_MNIST,
        "kmnist": KMNIST,
    },
)


def load(
    source: str | pathlib.Path | Sequence[str | pathlib.Path] = "mnist", *, quiet: bool = False
) -> Dataset:
    """Read a dataset, by name or from files.

    Args:
        source: A name in `DATASETS`; a folder of the four IDX files; a folder with one
            `*train*.csv` and one `*test*.csv`; an NPZ file in Keras' layout; or a pair of CSV
            files, training first. Everything may be gzipped except NPZ. A folder that has the name
            of a dataset is written with its path: `./mnist`.
        quiet: Show no progress of a download.

    Returns:
        Images of shape (n, 784) and labels of shape (n,), as bytes. What has no name is called
        after its folder or its first file.

    Raises:
        InputError: There is no such dataset, or its files are broken; one line says which file,
            where in it, and what to do.
    """
    sources = [source] if isinstance(source, (str, pathlib.Path)) else list(source)
    if not sources:
        raise InputError(f"no data named; {WAYS}, or a name: {', '.join(DATASETS)}")
    if len(sources) == 1:
        name = str(sources[0])
        if name in DATASETS:
            return DATASETS[name].load(quiet=quiet)
        # `os.path.exists`, unlike its namesake in pathlib, says no to names that cannot be paths.
        if not os.path.exists(name):  # noqa: PTH110
            _check_alone(name.split(","))
            # It is not taken apart, because the name of a file may hold commas.
            way = "; part two files by a space" if "," in name else "; check the path"
            raise InputError(
                f"unknown dataset {name!r}: neither a path that exists nor one of "
                f"{', '.join(DATASETS)}{closest(name, DATASETS) or way}"
            )
    _check_alone([str(each) for each in sources])
    return read_paths([pathlib.Path(each) for each in sources])


def _check_alone(sources: Sequence[str]) -> None:
    """Refuse the name of a dataset among several sources.

    Raises:
        InputError: There is one.
    """
    if len(sources) > 1 and not DATASETS.keys().isdisjoint(sources):
        raise InputError(
            f"{' '.join(sources)}: the name of a dataset stands alone; "
            "give one name, or two CSV files (train, test)"
        )
