"""Files that are either whole or absent."""

import contextlib
import errno
import os
import pathlib
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator

import platformdirs


# What reading an NPZ raises that was cut off, or of which a byte is another one, or that is none.
DAMAGED = (
    OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, RuntimeError, OverflowError,
    struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def cache_folder() -> pathlib.Path:
    """Where downloads and compiled programs are kept: as the environment says, or as is usual."""
    named = os.environ.get("ROBUST_MNIST_CACHE") or platformdirs.user_cache_dir("robust_mnist")
    return pathlib.Path(named).expanduser()


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A temporary path beside `path`, renamed onto it once the block has ended well.

    A reader sees the old content or the new, never half of it, and a killed process leaves
    nothing but a hidden temporary file.

    Args:
        path: Where the content belongs; missing folders above it are made.

    Yields:
        The path to write to, with the same suffix as `path`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path):
        handle, name = tempfile.mkstemp(prefix=".", suffix=f".tmp{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        with _named(path, temporary):
            yield temporary
            _finish(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check(path: str | os.PathLike[str]) -> None:
    """Find out whether a file can be written, before there is work to lose.

    Args:
        path: Where it belongs; missing folders above it are made, what stands there stays.

    Raises:
        OSError: It cannot; the error names what is in the way.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with _named(path), tempfile.TemporaryFile(dir=path.parent):
        pass


@contextlib.contextmanager
def building(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A temporary folder, renamed onto `path` once the block has ended well.

    Args:
        path: Where the folder belongs, and none is yet; missing folders above it are made.

    Yields:
        The folder to fill.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path):
        above = pathlib.Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=path.parent))
    try:
        # One of its own, because `mkdtemp` makes private folders.
        temporary = above / path.name
        with _named(path, above):
            temporary.mkdir()
            yield temporary
            temporary.rename(path)
    finally:
        shutil.rmtree(above, ignore_errors=True)


@contextlib.contextmanager
def _named(path: pathlib.Path, temporary: pathlib.Path | None = None) -> Iterator[None]:
    """Name what cannot be written, and not what is temporary, which nobody knows.

    A full disk names no file at all.
    """
    try:
        yield
    except OSError as error:
        named = pathlib.Path(str(error.filename))
        ours = temporary is None or error.filename is None or named.is_relative_to(temporary)
        if error.errno is None or not ours:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _finish(path: pathlib.Path) -> None:
    # `mkstemp` makes private files; results are meant to be shared like any other file.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
