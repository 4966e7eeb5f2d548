"""What is known of a network from elsewhere at one radius, as one small file."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from robust_mnist import files
from robust_mnist.errors import InputError
from robust_mnist.records._radii import Radii


# Said wherever certificates stand: on pages, at terminals, in files' descriptions.
ABOUT_CERTIFICATES = (
    "Certificates are about the float32 weights in exact arithmetic; evaluation in float32, TF32 "
    "or bfloat16 may differ inside a certified ball."
)

_TEXTS, _NUMBERS = ("norm", "network", "activation", "data"), ("eps",)
_RADII = ("lower", "upper", "certifier", "method", "reached")
_WAY = "put back a copy, or name another"
# Far above what ten thousand images of any named data set need.
_MOST = 100_000_000


@dataclasses.dataclass(frozen=True)
class Exact:
    """Bounds of every image, and the wrong images that show the upper ones.

    Attributes:
        eps: Radius at which images were to be decided; no larger one is certified.
        network: sha256 of the network's file.
        activation: Its hidden activation.
        data: sha256 of the data's test images and labels.
        radii: Bounds, in the order of the data.
        at: Images that were broken though they were right when clean.
        witness: A wrong image for each of them, within its upper bound.
    """

    eps: float
    network: str
    activation: str
    data: str
    radii: Radii
    at: Int64[np.ndarray, " broken"]
    witness: Float32[np.ndarray, "broken pixels"]

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        arrays: dict[str, Any] = {name: getattr(self.radii, name) for name in _RADII}
        texts = {"norm": self.radii.norm} | {name: getattr(self, name) for name in _TEXTS[1:]}
        arrays |= {name: np.array(text) for name, text in texts.items()}
        with files.writing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream, eps=np.float64(self.eps), at=self.at, witness=self.witness,
                **arrays,
            )  # fmt: skip

    @classmethod
    def read(cls, path: str | Path) -> "Exact":
        """The inverse of `write`.

        Raises:
            InputError: The file cannot be read, or does not hold what it should.
        """
        names = {*_TEXTS, *_NUMBERS, *_RADII, "at", "witness"}
        held: dict[str, np.ndarray] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                parts = archive.infolist()
            found = {part.filename.removesuffix(".npy") for part in parts}
            size = sum(part.file_size for part in parts)
            if found == names and size <= _MOST:
                with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                    held = {name: stored[name] for name in names}
        except files.DAMAGED as error:
            raise InputError(f"{path} cannot be read: {error}; {_WAY}") from error
        if found != names:
            raise InputError(
                f"{path} must hold {', '.join(sorted(names))}, as close --out writes them, "
                f"got {', '.join(sorted(found)) or 'nothing'}; {_WAY}"
            )
        if not held:
            raise InputError(f"{path} must unpack to at most {_MOST:,} bytes, got {size:,}; {_WAY}")
        count, broken = held["lower"].size, held["at"].size
        shapes = [held[name].shape == (count,) for name in _RADII]
        shapes += [held["at"].shape == (broken,), held["witness"].shape[:1] == (broken,)]
        shapes += [held[name].shape == () for name in _NUMBERS]
        kinds = all(held[name].dtype.kind == "f" for name in ("lower", "upper", "eps", "witness"))
        within = held["at"].dtype.kind == "i" and np.all((held["at"] >= 0) & (held["at"] < count))
        if not (all(shapes) and kinds and within and held["witness"].ndim == 2):
            raise InputError(
                f"{path} must hold arrays of one entry per image, some have another; {_WAY}"
            )
        lower, upper, eps = (held[name] for name in ("lower", "upper", "eps"))
        if not (np.all(lower < upper) and np.all(lower <= eps)):  # which NaN is not either
            raise InputError(
                f"{path} must claim radii below those that are broken, and of at most its eps "
                f"{eps:g}, some are larger; {_WAY}"
            )
        text = {name: str(held[name]) for name in _TEXTS}
        radii = Radii(norm=text.pop("norm"), **{name: held[name] for name in _RADII})
        return cls(
            eps=float(held["eps"]), **text, radii=radii, at=held["at"], witness=held["witness"]
        )

    def check(self, path: str | Path, images: int, pixels: int) -> None:
        """Refuse a file that cannot be about certain images, whatever it says.

        Args:
            path: Where it was read.
            images: How many there are.
            pixels: Of each.

        Raises:
            InputError: It has another number of either.
        """
        found, width = self.radii.lower.size, self.witness.shape[1]
        if (found, width) != (images, pixels):
            raise InputError(
                f"{path} must hold {images:,} images of {pixels} pixels, got {found:,} of {width}; "
                f"{_WAY}"
            )
