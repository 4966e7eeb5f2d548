"""What branch and bound has left to explore, in a file of its own, so that it can be resumed."""

import dataclasses
import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from robust_mnist import files
from robust_mnist.errors import InputError


# Of the file, and of what it unpacks to: above what the searches of a norm keep at most.
_MOST = 16_000_000
_OWN = "about", "digest"
_DTYPES = {
    "image": np.int32, "other": np.int32, "bound": np.float32, "spent": np.int64,
    "cuts": np.int32, "side": np.int32, "point": np.float32,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OpenDomains:
    """Parts of balls that together hold all of an image's ball that is not proven yet.

    Attributes:
        image: Place of each one's image in the data.
        other: Class that the true one is compared with.
        bound: What decides which is explored first.
        spent: Domains that its image has taken.
        cuts: How many inputs of neurons are cut off in it, at one side each.
        side: Of all domains' cuts one after the other: the number of the neuron that is cut off
            below, or with the number of all neurons added, above.
        point: Where.
    """

    image: Int32[np.ndarray, " domains"]
    other: Int32[np.ndarray, " domains"]
    bound: Float32[np.ndarray, " domains"]
    spent: Int64[np.ndarray, " domains"]
    cuts: Int32[np.ndarray, " domains"]
    side: Int32[np.ndarray, " cuts"]
    point: Float32[np.ndarray, " cuts"]

    @classmethod
    def none(cls) -> "OpenDomains":
        """Nothing is kept."""
        return cls(**{name: np.zeros(0, dtype) for name, dtype in _DTYPES.items()})

    def where(self, mask: Bool[np.ndarray, " domains"]) -> "OpenDomains":
        """Some of them."""
        of_cuts = np.repeat(mask, self.cuts)
        arrays = {name: getattr(self, name)[mask] for name in tuple(_DTYPES)[:5]}
        return OpenDomains(**arrays, side=self.side[of_cuts], point=self.point[of_cuts])

    def among(self, places: Int64[np.ndarray, " images"]) -> "OpenDomains":
        """Those of some images, whose numbers are then places among these.

        Args:
            places: Images in ascending order.
        """
        mine = self.where(np.isin(self.image, places))
        at = np.searchsorted(places, mine.image).astype(np.int32)
        return dataclasses.replace(mine, image=at)

    def of(self, places: Int64[np.ndarray, " images"]) -> "OpenDomains":
        """The inverse of `among`."""
        return dataclasses.replace(self, image=places[self.image].astype(np.int32))

    def beside(self, other: "OpenDomains") -> "OpenDomains":
        """These and those of others; no image is in both."""
        both = {n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in _DTYPES}
        return OpenDomains(**both)


def write_open_domains(path: Path, about: bytes, left: Mapping[str, OpenDomains]) -> None:
    """Write the file, whole or not at all; where nothing is left, there is none.

    Args:
        path: The file.
        about: sha256 of all that the domains are about.
        left: What each search has left.
    """
    arrays = {
        f"{search}/{name}": getattr(domains, name)
        for search, domains in left.items() if domains.image.size
        for name in _DTYPES
    }  # fmt: skip
    if not arrays:
        path.unlink(missing_ok=True)
        return
    own = {"about": np.frombuffer(about, np.uint8), "digest": _digest(about, arrays)}
    with files.writing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays, **own)  # type: ignore[arg-type]


def read_open_domains(path: Path, about: bytes) -> dict[str, OpenDomains]:
    """The inverse of `write_open_domains`; empty if there is no file.

    A certificate that comes of these domains relies on it that none is missing. A digest of the
    arrays guards them against accidents, though not against malice: whoever doubts a file of
    verdicts has `verify`, which proves them anew from whole balls.

    Raises:
        InputError: The file is damaged, or is about something else.
    """
    if not path.is_file():
        return {}
    try:
        return _domains(_arrays(path), about)
    except files.DAMAGED as error:
        raise InputError(
            f"{path} is not used: {error}; what is open begins with whole balls"
        ) from error


def holds_open_domains(path: Path) -> bool:
    """Whether a file is one that `write_open_domains` has written, if a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in _OWN} <= {*archive.namelist()}
    except files.DAMAGED:
        return False


def _domains(arrays: dict[str, np.ndarray], about: bytes) -> dict[str, OpenDomains]:
    searches = {name.rpartition("/")[0] for name in arrays.keys() - {*_OWN}}
    names = {*_OWN, *(f"{search}/{name}" for search in searches for name in _DTYPES)}
    if lacking := sorted({*_OWN} - arrays.keys()) or sorted(names - arrays.keys()):
        raise ValueError(f"it lacks {', '.join(lacking)}")
    problem, digest = arrays.pop("about"), arrays.pop("digest")
    if problem.tobytes() != about:
        raise ValueError("it is of another network, data, norm, radius or version")
    if not np.array_equal(digest, _digest(about, arrays)):
        raise ValueError("its digest is not that of its arrays")
    return {
        search: _checked({name: arrays[f"{search}/{name}"] for name in _DTYPES})
        for search in dict.fromkeys(name.rpartition("/")[0] for name in arrays)
    }


def _digest(about: bytes, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    held = hashlib.sha256(about)
    for name in sorted(arrays):
        held.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        held.update(arrays[name].tobytes())
    return np.frombuffer(held.digest(), np.uint8)


def _checked(arrays: dict[str, np.ndarray]) -> OpenDomains:
    domains, cuts = arrays["image"].shape, arrays["side"].shape
    shapes = dict.fromkeys(_DTYPES, domains) | {"side": cuts, "point": cuts}
    for name, array in arrays.items():
        if array.dtype != _DTYPES[name] or array.shape != shapes[name] or array.ndim != 1:
            raise ValueError(f"it holds {array.dtype}{array.shape} as {name}")
    if np.any(arrays["cuts"] < 0) or np.sum(arrays["cuts"], dtype=np.int64) != cuts[0]:
        raise ValueError(f"its domains must have {cuts[0]} cuts in all")
    return OpenDomains(**arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Plain arrays, with memory for no more than the archive says that it unpacks to."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        usual = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        if sum(part.file_size for part in members) > _MOST:
            raise ValueError(f"it must unpack to at most {_MOST:,} bytes")
        if any(part.compress_type not in usual for part in members):
            raise ValueError("it is compressed in a way that NPZ never is")
        found = {}
        for part in members:
            with archive.open(part) as stream:
                found[part.filename.removesuffix(".npy")] = _array(stream.read(part.file_size))
    return found


def _array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    data = stream.read()
    if dtype.kind not in "uif" or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of {dtype}{shape} is none of its own")
    return np.frombuffer(data, dtype).reshape(shape)
