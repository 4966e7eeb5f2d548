"""Rotations and translations, all on a grid."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractStepAttack
from robust_mnist.models import AbstractClassifier


class SpatialGrid(AbstractStepAttack):
    """The worst of all rotations and translations on a grid, bilinear, with black around.

    The step is the share of the largest rotation and translation that the grid reaches: at 1 it is
    the published one. No norm bounds such a change: a digit that is moved by a pixel has changed in
    most of its pixels.

    Reference:
        Engstrom, Tran, Tsipras, Schmidt and Madry, "Exploring the landscape of spatial robustness",
        ICML 2019, section 4: 5 x 5 translations by up to 3 pixels and 31 rotations by up to 30
        degrees.

    Attributes:
        pixels: Largest translation along each axis.
        degrees: Largest rotation to each side, about the middle of the image.
        translations: Grid points along each axis, at least 1.
        rotations: Grid points of the rotation, at least 1.
    """

    pixels: float = eqx.field(static=True, default=3.0)
    degrees: float = eqx.field(static=True, default=30.0)
    translations: int = eqx.field(static=True, default=5)
    rotations: int = eqx.field(static=True, default=31)

    def __check_init__(self) -> None:
        if min(self.translations, self.rotations) < 1:
            raise ValueError(
                "SpatialGrid has at least one translation and one rotation, got "
                f"translations={self.translations} and rotations={self.rotations}"
            )

    @property
    def about(self) -> str:
        return (
            f"the worst of {self.translations**2} translations by up to {self.pixels:g} pixels x "
            f"{self.rotations} rotations up to {self.degrees:g} degrees"
        )

    @property
    def largest_step(self) -> float:
        return 1.0

    def grid(self) -> Float[np.ndarray, "moves 3"]:
        """Every move: pixels down, pixels to the right, and radians anticlockwise."""
        shifts = np.linspace(-self.pixels, self.pixels, self.translations)
        turns = np.linspace(-math.radians(self.degrees), math.radians(self.degrees), self.rotations)
        return np.array(list(itertools.product(shifts, shifts, turns)))

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        step: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key

        def keep(best: tuple[Array, Array], move: Array) -> tuple[tuple[Array, Array], None]:
            z = moved(x, step * move)
            margin = metrics.margin(model(z), y)
            lower = margin < best[1]
            return (jnp.where(lower, z, best[0]), jnp.where(lower, margin, best[1])), None

        # The clean image is on a grid of odd sides, and takes part in any case.
        first = (x, metrics.margin(model(x), y))
        (best, _), _ = jax.lax.scan(keep, first, jnp.asarray(self.grid(), x.dtype))
        return best


def moved(x: Float[Array, " pixels"], move: Float[Array, "3"]) -> Float[Array, " pixels"]:
    """A square image rotated about its middle, then translated.

    Args:
        x: Flattened image of as many rows as columns.
        move: Pixels down, pixels to the right, and radians anticlockwise.

    Raises:
        ValueError: The image is not square.
    """
    side = math.isqrt(x.size)
    if side**2 != x.size:
        raise ValueError(f"only square images are rotated, got {x.size} pixels")
    middle = (side - 1) / 2
    at = jnp.arange(side, dtype=x.dtype) - middle
    row, column = jnp.meshgrid(at - move[0], at - move[1], indexing="ij")
    # Each pixel looks up where it comes from: the rotation is undone.
    sine, cosine = jnp.sin(move[2]), jnp.cos(move[2])
    source = [cosine * row + sine * column + middle, cosine * column - sine * row + middle]
    turned = map_coordinates(x.reshape(side, side), source, order=1, mode="constant")
    return turned.ravel()
