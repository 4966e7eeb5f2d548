"""Where a named dataset comes from."""

import abc
import dataclasses
import pathlib
from collections.abc import Callable

from robust_mnist.data import idx
from robust_mnist.data._dataset import Dataset
from robust_mnist.files import cache_folder


# The four files of MNIST and of every dataset made to replace it.
NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class AbstractSource(abc.ABC):
    """A dataset that has a name: an entry of `DATASETS`."""

    @property
    @abc.abstractmethod
    def about(self) -> str:
        """What is in it, in a line."""

    @property
    @abc.abstractmethod
    def licence(self) -> str:
        """SPDX expression of its licence."""

    @property
    @abc.abstractmethod
    def origin(self) -> str:
        """Where `load` will take it from, as things stand now."""

    @abc.abstractmethod
    def load(self, *, quiet: bool = False) -> Dataset:
        """Read the dataset, fetching it first where need be.

        Args:
            quiet: Show no progress of a download.

        Raises:
            InputError: It cannot be had; the message says what to do.
        """


@dataclasses.dataclass(frozen=True)
class Embedded(AbstractSource):
    """Four gzipped IDX files that travel with the package.

    Attributes:
        name: Name of the dataset.
        folder: Where its files are.
        about: What is in it.
        licence: SPDX expression of its licence.
    """

    name: str
    folder: pathlib.Path
    about: str = ""
    licence: str = ""

    @property
    def origin(self) -> str:
        return "embedded"

    def load(self, *, quiet: bool = False) -> Dataset:
        del quiet
        paths = [self.folder / name for name in NAMES]
        return read_four(self.name, paths, origin="embedded", embedded=True)


@dataclasses.dataclass(frozen=True)
class Download(AbstractSource):
    """Four gzipped IDX files, fetched from the first mirror that has them whole, and kept.

    Each file is looked for in `local`, then in the cache folder, then on the mirrors; wherever it
    is found, it counts only if its hash is right.

    Attributes:
        name: Name of the dataset, and of its folder in the cache.
        mirrors: Addresses that the names in `NAMES` are appended to, in the order to try them.
        hashes: SHA-256 of each file in `NAMES`.
        hashed: What the hashes are of: `content_sha256` or `file_sha256`.
        local: A folder that may hold the files already.
        cache: Where downloads are kept; by default `robust_mnist` in the user's cache folder, or
            the folder in the environment variable `ROBUST_MNIST_CACHE`.
        timeout: Seconds to wait for a connection, and for each next piece of data.
        about: What is in it.
        licence: SPDX expression of its licence.
    """

    name: str
    mirrors: tuple[str, ...]
    hashes: tuple[str, str, str, str]
    hashed: Callable[[pathlib.Path], str]
    local: pathlib.Path | None = None
    cache: pathlib.Path | None = None
    timeout: float = 10.0
    about: str = ""
    licence: str = ""

    @property
    def origin(self) -> str:
        # In the order in which `load` looks.
        folders = [self.local] if self.local else []
        folders += [(self.cache or cache_folder()) / self.name]
        held = [f for f in folders if all((f / name).is_file() for name in NAMES)]
        return str(held[0]) if held else f"download from {' or '.join(self.mirrors)}"

    def load(self, *, quiet: bool = False) -> Dataset:
        # Imported here: it takes a tenth of a second that only downloads should cost.
        from robust_mnist.data import _download  # noqa: PLC0415

        folder = (self.cache or cache_folder()) / self.name
        paths = [_download.fetch(self, name, folder, quiet=quiet) for name in NAMES]
        return read_four(self.name, paths, origin=str(paths[0].parent))


def read_four(
    name: str, paths: list[pathlib.Path], *, origin: str, embedded: bool = False
) -> Dataset:
    """A dataset from its IDX files: training images and labels, test images and labels."""
    train_images, train_labels, test_images, test_labels = paths
    return Dataset(
        name,
        idx.read_images(train_images),
        idx.read_labels(train_labels),
        idx.read_images(test_images),
        idx.read_labels(test_labels),
        origin=origin,
        embedded=embedded,
    )
