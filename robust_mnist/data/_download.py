"""Fetching the files of a dataset: several mirrors, checked content, nothing half done."""

import pathlib

import pooch  # type: ignore[import-untyped]
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from robust_mnist.data._source import NAMES, Download
from robust_mnist.errors import InputError
from robust_mnist.files import writing


LARGEST = 2**27  # bytes of one download; the largest file known here has 26 million
PIECE = 2**15  # bytes taken from the network at a time


def fetch(
    source: Download, name: str, folder: pathlib.Path, *, quiet: bool = False
) -> pathlib.Path:
    """Path of one file with the right hash, downloaded if there is none yet.

    Args:
        source: Where to look, and what the hashes are.
        name: Which of `NAMES`.
        folder: Where to keep a download. Nothing incomplete or wrong ever gets this name there.
        quiet: Show no progress.

    Raises:
        InputError: No mirror has it, or the folder cannot be written to.
    """
    sha256 = source.hashes[NAMES.index(name)]
    reasons = []
    for path in [folder / name] if source.local is None else [source.local / name, folder / name]:
        if path.is_file():
            if _matches(source, path, sha256):
                return path
            reasons.append(f"{path}: damaged")
    for mirror in source.mirrors:
        try:
            return _download(source, mirror + name, folder / name, sha256, quiet=quiet)
        except (requests.RequestException, _RefusedError) as error:
            reasons.append(f"{mirror}{name}: {_reason(error, source.timeout)}")
    raise InputError(
        f"{source.name}: cannot get {name} ({'; '.join(reasons)}); put {', '.join(NAMES)} "
        f"into {folder}, or name files of your own with --data PATH"
    )


class _RefusedError(Exception):
    """What a mirror sent is of no use."""


class _Meter:
    """The progress bar in the form that pooch asks for; it also stops a file without end."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None)
        self._done = 0

    @property
    def total(self) -> int:
        """Bytes to expect; 0 when the server does not say."""
        return int(self._progress.tasks[self._task].total or 0)

    @total.setter
    def total(self, total: int) -> None:
        _check_size(total)
        self._progress.update(self._task, total=total or None)

    def update(self, amount: int) -> None:
        self._done += amount
        _check_size(self._done)
        self._progress.update(self._task, completed=self._done)

    def reset(self) -> None:
        # Pooch counts in whole pieces, so at the end it starts again and adds the true total.
        self._done = 0

    def close(self) -> None:
        self._progress.refresh()


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise _RefusedError(f"larger than the {LARGEST} bytes allowed")


def _download(
    source: Download, url: str, path: pathlib.Path, sha256: str, *, quiet: bool
) -> pathlib.Path:
    try:
        with writing(path) as temporary:
            _get(url, temporary, source.timeout, quiet=quiet)
            if not _matches(source, temporary, sha256):
                raise _RefusedError("damaged, its sha256 is wrong")
    except requests.RequestException:  # these are OSErrors too
        raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); choose another cache folder "
            "with the environment variable ROBUST_MNIST_CACHE"
        ) from error
    return path


def _get(url: str, path: pathlib.Path, timeout: float, *, quiet: bool) -> None:
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        get = pooch.HTTPDownloader(
            progressbar=_Meter(progress, url.rpartition("/")[2]),
            chunk_size=PIECE,
            timeout=timeout,
            # Some servers would send a .gz unpacked.
            headers={"Accept-Encoding": "identity"},
        )
        get(url, path, None)


def _matches(source: Download, path: pathlib.Path, sha256: str) -> bool:
    try:
        return source.hashed(path) == sha256
    except (InputError, OSError):  # not gzip, cut short, not readable
        return False


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    # While data flow, requests reports a timeout as a connection error.
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return f"no answer for {timeout:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)
