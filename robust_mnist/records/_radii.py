"""Bounds on the robust radius of every image, and how they merge."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from robust_mnist import statistics


class Contradiction(RuntimeError):  # noqa: N818 it is what it says, not a mistake of the user
    """A certificate and an attack exclude each other: one of the two is wrong."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Radii:
    """`lower < r* <= upper` for each image, with the method behind either end.

    The robust radius r* is the size of the smallest perturbation that keeps every pixel in
    [0, 1] and makes the classifier wrong; 0 where the clean image is a mistake already.

    Attributes:
        norm: Norm in which the sizes are measured.
        lower: Largest certified radius; -inf where the clean image is a mistake.
        upper: Size of the closest wrong image found; inf where none was.
        certifier: Name of the method behind `lower`, or "".
        method: Name of the method behind `upper`, or "".
        reached: Class of the closest wrong image; -1 where none was found.
    """

    norm: str
    lower: Float[np.ndarray, " images"]
    upper: Float[np.ndarray, " images"]
    certifier: np.ndarray
    method: np.ndarray
    reached: Integer[np.ndarray, " images"]

    @classmethod
    def clean(
        cls,
        norm: str,
        right: Bool[np.ndarray, " images"],
        predicted: Integer[np.ndarray, " images"],
    ) -> "Radii":
        """What the clean images alone prove: a mistake has radius 0, a right answer more than 0."""
        nobody = np.full(right.shape, "", dtype=np.str_)
        return cls(
            norm=norm,
            lower=np.where(right, 0.0, -np.inf),
            upper=np.where(right, np.inf, 0.0),
            certifier=np.where(right, "clean", nobody),
            method=np.where(right, nobody, "clean"),
            reached=np.where(right, -1, predicted).astype(np.int64),
        )

    @classmethod
    def attacked(
        cls,
        norm: str,
        method: str,
        upper: Float[np.ndarray, " images"],
        reached: Integer[np.ndarray, " images"],
    ) -> "Radii":
        """What an attack proves. A failure proves nothing, so `lower` stays at -inf.

        A radius of 0 is a mistake on the clean image: no attack is credited with it.
        """
        found = np.isfinite(upper)
        return cls(
            norm=norm,
            lower=np.full(upper.shape, -np.inf),
            upper=upper,
            certifier=np.full(upper.shape, "", dtype=np.str_),
            method=np.where(found, np.where(upper > 0, method, "clean"), ""),
            reached=np.where(found, reached, -1).astype(np.int64),
        )

    @classmethod
    def certified(cls, norm: str, method: str, lower: Float[np.ndarray, " images"]) -> "Radii":
        """What a certifier proves. A failure proves nothing, so `upper` stays at infinity."""
        return cls(
            norm=norm,
            lower=lower,
            upper=np.full(lower.shape, np.inf),
            certifier=np.where(np.isfinite(lower), method, ""),
            method=np.full(lower.shape, "", dtype=np.str_),
            reached=np.full(lower.shape, -1, dtype=np.int64),
        )

    def merge(self, other: "Radii") -> "Radii":
        """The tighter of both bounds, image by image; commutative, associative and idempotent.

        Equal bounds go to the alphabetically first method, then to the lower class reached.

        Raises:
            ValueError: The two speak of other norms or other numbers of images.
            Contradiction: For some image the merged `lower` is not below the merged `upper`.
        """
        if self.norm != other.norm or self.upper.shape != other.upper.shape:
            raise ValueError(
                f"radii merge for one norm and one set of images, got {self.norm} "
                f"{self.upper.shape} and {other.norm} {other.upper.shape}"
            )
        keep_lower = (self.lower > other.lower) | (
            (self.lower == other.lower) & (self.certifier <= other.certifier)
        )
        closer = (self.upper < other.upper) | (
            (self.upper == other.upper)
            & (
                (self.method < other.method)
                | ((self.method == other.method) & (self.reached <= other.reached))
            )
        )
        merged = Radii(
            norm=self.norm,
            lower=np.where(keep_lower, self.lower, other.lower),
            upper=np.where(closer, self.upper, other.upper),
            certifier=np.where(keep_lower, self.certifier, other.certifier),
            method=np.where(closer, self.method, other.method),
            reached=np.where(closer, self.reached, other.reached),
        )
        merged._check()
        return merged

    def _check(self) -> None:
        bad = np.flatnonzero(self.lower >= self.upper)
        if bad.size:
            image = int(bad[0])
            raise Contradiction(
                f"image {image} in {self.norm}: {self.certifier[image]} certifies radius "
                f"{self.lower[image]:.9g}, {self.method[image]} breaks it at "
                f"{self.upper[image]:.9g} "
                f"({bad.size} such images); one of the two methods is wrong"
            )

    def attacked_accuracy(
        self, eps: Sequence[float] | Float[np.ndarray, " eps"]
    ) -> Float[np.ndarray, " eps"]:
        """Share of images with `upper > eps`: no defence is better than this."""
        return statistics.survival(self.upper, np.asarray(eps, np.float64))

    def certified_accuracy(
        self, eps: Sequence[float] | Float[np.ndarray, " eps"]
    ) -> Float[np.ndarray, " eps"]:
        """Share of images with `lower >= eps`: no attack does better; at 0 those that are right."""
        return statistics.survival(self.lower, np.asarray(eps, np.float64), inclusive=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays under the keys of `radii.npz`, such as `upper/linf`."""
        names = ("lower", "upper", "certifier", "method", "reached")
        return {f"{name}/{self.norm}": getattr(self, name) for name in names}
