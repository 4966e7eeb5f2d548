"""How far a schedule goes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from robust_mnist.config import numbers


class Aim(NamedTuple):
    """How well radii have to be known.

    Attributes:
        gap: Difference of an image's bounds that is small enough; infinite where nothing is asked
            but the accuracy at `radii`.
        radii: Radii of the curve, increasing, above 0.
    """

    gap: float
    radii: tuple[float, ...]

    def __str__(self) -> str:
        return f"at {numbers(self.radii)}" if np.isinf(self.gap) else f"within {self.gap:g}"

    def target(
        self,
        upper: Float[np.ndarray, " images"],
        lower: Float[np.ndarray, " images"],
        step: float | Float[np.ndarray, " images"],
    ) -> Float[np.ndarray, " images"]:
        """The radius to attack at next: `step` below `upper`, at most half way to `lower`.

        It is 0 where none is worth it, and the largest of `radii` where no wrong image is known.
        """
        if np.isinf(self.gap):
            grid = np.array([0.0, *self.radii])
            eps = grid[np.maximum(np.searchsorted(grid, upper) - 1, 0)]
        else:
            width = upper - np.maximum(lower, 0.0)
            below = np.where(width > self.gap, upper - np.minimum(step, width / 2), 0.0)
            eps = np.where(np.isfinite(upper), below, self.radii[-1])
        # What a certificate excludes needs no attack.
        return np.where(eps > np.maximum(lower, 0.0), eps, 0.0)
