"""Opening what a user names, without trusting it: bounded reads, and one-line errors."""

import contextlib
import gzip
import hashlib
import io
import pathlib
import stat
import zlib
from collections.abc import Iterator

from robust_mnist.errors import InputError


MAX_BYTES = 2**30  # of one decompressed file: 1.3 million images
CHUNK = 2**20  # bytes read at a time


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[io.BufferedIOBase]:
    """The bytes of a file, decompressed when its name ends in `.gz`.

    Whatever goes wrong while the block reads is reported with the path in front.

    Raises:
        InputError: The file is missing, a folder, not readable, not gzip, or cut short.
    """
    try:
        with path.open("rb") as raw:
            if path.suffix.lower() == ".gz":
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream
            else:
                yield raw
    except EOFError as error:
        raise InputError(
            f"{path}: the gzip file is cut short; copy or download it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: not a sound gzip file ({error}); copy or download it again, or take the .gz "
            "off its name if it is unpacked"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); make it readable, or name another"
        ) from error


def regular(path: pathlib.Path) -> pathlib.Path:
    """The same path, once it is known to be a regular file: a pipe or a device may never end.

    Raises:
        InputError: There is nothing, or something else than a file.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check its name and folder") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check its name and folder") from error
    if not stat.S_ISREG(mode):
        folder = stat.S_ISDIR(mode)
        kind = "a folder; name the file itself" if folder else "not a regular file; name one"
        raise InputError(f"{path}: expected a file, but this is {kind}")
    return path


def read_exactly(stream: io.BufferedIOBase, size: int, where: str) -> bytearray:
    """All that is left of a stream, which must be `size` bytes.

    Memory grows with what is really there, never with what a header promises, and reading stops
    at the first byte too many, so neither a false header nor a decompression bomb can fill it.

    Args:
        stream: Where to read from.
        size: Number of bytes that a header declares.
        where: Path, and member if any, for the messages.

    Raises:
        InputError: There are fewer bytes or more, or `size` is above `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise InputError(
            f"{where}: declares {size} bytes of data, more than the {MAX_BYTES} allowed; "
            "copy or download it again, or keep fewer images"
        )
    data = bytearray()
    while chunk := stream.read(min(CHUNK, size + 1 - len(data))):
        data += chunk
    if len(data) < size:
        raise InputError(
            f"{where}: declares {size} bytes of data but holds only {len(data)}; "
            "copy or download it again"
        )
    if len(data) > size:
        raise InputError(
            f"{where}: more data follows the {size} bytes that its header declares; "
            "copy or download it again"
        )
    return data


def content_sha256(path: pathlib.Path) -> str:
    """Hash of the decompressed content: the same for every mirror, whatever its gzip headers."""
    digest, left = hashlib.sha256(), MAX_BYTES
    with opened(path) as stream:
        while left > 0 and (chunk := stream.read(CHUNK)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def file_sha256(path: pathlib.Path) -> str:
    """Hash of the file as it is, compressed or not."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
