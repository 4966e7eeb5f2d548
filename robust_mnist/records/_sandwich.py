"""Between what was proven and what was broken: how wide the gap is, and where it is closed."""

import dataclasses
import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from robust_mnist import statistics
from robust_mnist.records._folder import ON_OPEN_IMAGES
from robust_mnist.records._radii import Radii


if TYPE_CHECKING:
    from robust_mnist.records._folder import Records


class Mean(NamedTuple):
    """A mean over images with its 95 % interval.

    Attributes:
        value: The mean, in units of eps.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """All three, to three digits."""
        value, low, high = (f"{number:#.3g}".rstrip(".") for number in self)
        return f"{value} (95 % interval {low} to {high})"


@dataclasses.dataclass(frozen=True)
class Sandwich:
    """Certified and attacked radii of a norm in which something was certified.

    Attributes:
        radii: Merged bounds, one per network.
        eps: Radii above 0 at which the norm was evaluated, in increasing order.
        alone: Radii that each certifier proves, cheapest first; -inf where none.
    """

    radii: list[Radii]
    eps: list[float]
    alone: dict[str, Float[np.ndarray, "networks images"]]

    @classmethod
    def of(cls, records: "Records", norm: str) -> "Sandwich | None":
        """The bounds of a run in `norm`; None where no radius above 0 was certified."""
        radii = records.radii_of(norm) if norm in records.norms else []
        eps = _evaluated(records, norm)
        if not eps or not any(np.any(one.lower > 0) for one in radii):
            return None
        alone = _alone(records, norm, radii)
        cells = records.info.get("cells", {})

        def cost(name: str) -> float:
            cell = cells.get(f"{norm}/{name}", {})
            # On open images each ran on others, and so many.
            return cell.get("seconds", np.inf) / max(cell.get("images", 1.0), 1.0)

        # What did not run on all images ran on what the others had left open.
        by_cost = sorted(
            alone, key=lambda method: (cost(method), cost(f"{method}{ON_OPEN_IMAGES}"))
        )
        return cls(radii, eps, {method: alone[method] for method in by_cost})

    @property
    def norm(self) -> str:
        """The norm."""
        return self.radii[0].norm

    @property
    def end(self) -> float:
        """The largest radius at which the norm was evaluated."""
        return self.eps[-1]

    @functools.cached_property
    def widths(self) -> Float[np.ndarray, "networks images"]:
        """Length of [max(lower, 0), min(upper, end)] of each image; 0 for a mistake."""
        cut = lambda values: np.clip(values, 0.0, self.end)
        return np.stack([cut(one.upper) - cut(one.lower) for one in self.radii])

    @functools.cached_property
    def area(self) -> Mean:
        """Area between the curves up to `end`: the mean width, with its error over the images.

        Several networks saw the same images, so an image counts with its mean over them.
        """
        widths = self.widths.mean(axis=0)
        low, high = statistics.mean_interval(widths)
        return Mean(float(widths.mean()), max(low, 0.0), min(high, self.end))

    def open_at(self, eps: float) -> Bool[np.ndarray, "networks images"]:
        """Images that are neither proven right at `eps` nor broken within it."""
        return np.stack([(one.lower < eps) & (one.upper > eps) for one in self.radii])

    @functools.cached_property
    def exact(self) -> list[float]:
        """The radii above 0 at which no image of any network is open."""
        return [eps for eps in self.eps if not self.open_at(eps).any()]

    def added(self, eps: float) -> dict[str, int]:
        """How many images each certifier proves at `eps` that no cheaper one does, all networks."""
        known = np.zeros(self.widths.shape, bool)
        found = {}
        for method, lower in self.alone.items():
            proven = lower >= eps
            found[method] = int(np.sum(proven & ~known))
            known |= proven
        return found


def _evaluated(records: "Records", norm: str) -> list[float]:
    rows = records.rows
    if rows.empty:
        return []
    ran = (rows["norm"] == norm) & rows["kind"].isin(["worst", "certified"]) & (rows["eps"] > 0)
    return sorted(float(eps) for eps in rows["eps"][ran].unique())


def _alone(
    records: "Records", norm: str, radii: list[Radii]
) -> dict[str, Float[np.ndarray, "networks images"]]:
    """Radii of each certifier: those it found by itself, and those it is credited with."""
    prefix = f"lower/{norm}/"
    found = {
        key.removeprefix(prefix): np.atleast_2d(array)
        for key, array in records.radii.items()
        if key.startswith(prefix)
    }
    lower, certifier = (np.stack([getattr(r, n) for r in radii]) for n in ("lower", "certifier"))
    for method in sorted({str(name) for name in np.unique(certifier)} - {"", "clean"}):
        credited = np.where(certifier == method, lower, -np.inf)
        found[method] = np.maximum(credited, found.get(method, -np.inf))
    return found
