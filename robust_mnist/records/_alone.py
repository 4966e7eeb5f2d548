"""What each attack found by itself, side by side on the same images."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int


if TYPE_CHECKING:
    from robust_mnist.records._folder import Records


@dataclasses.dataclass(frozen=True)
class Alone:
    """The attacks of one norm on the images that all of them ran on.

    Where a run has several networks, their images follow each other.

    Attributes:
        norm: The norm.
        methods: Names of the attacks.
        upper: Size of the closest wrong image that each attack found; infinite where it found none,
            0 where the clean image is a mistake.
        best: The smallest size that the run knows, from any attack, scheduled ones included.
        places: Place of each image in the test set.
        networks: Number of networks.
        radii: Radii above 0 at which all of them ran on all networks, in increasing order: beyond
            the last one an attack may just not have run yet.
        even: Whether none of them ran at any other radius.
        eps: Of these radii the one at which nearest to half of the right answers are left.
        chosen: Whether a preset chose the attacks.
    """

    norm: str
    methods: list[str]
    upper: Float[np.ndarray, "attacks images"]
    best: Float[np.ndarray, " images"]
    places: Int[np.ndarray, " images"]
    networks: int
    radii: list[float]
    even: bool
    eps: float
    chosen: bool

    @classmethod
    def of(cls, records: "Records", norm: str) -> "Alone | None":
        """The attacks of `norm`; None where not two of them share images and radii."""
        found = records.upper_by_method(norm)
        if len(found) < 2:
            return None
        grid, even = _radii(records, norm, list(found))
        if not grid:
            return None
        upper = np.stack(list(found.values()))  # [attacks, networks, images]
        best = np.stack([radii.upper for radii in records.radii_of(norm)])
        # A control sample is the same for all networks; methods added later may have run on more.
        common = ~np.isnan(upper).any(axis=(0, 1))
        if not common.any():
            return None
        upper, best = upper[..., common], best[:, common]
        standing = np.array([np.mean(best > eps) for eps in grid])
        return cls(
            norm=norm,
            methods=list(found),
            upper=upper.reshape(len(upper), -1),
            best=best.reshape(-1),
            places=np.tile(np.flatnonzero(common), len(best)),
            networks=len(best),
            radii=grid,
            even=even,
            eps=grid[int(np.argmin(np.abs(standing - np.mean(best > 0) / 2)))],
            chosen=scheduled(records, norm),
        )

    @property
    def images(self) -> int:
        """Number of images, each counted once."""
        return self.best.size // self.networks

    @property
    def enough(self) -> bool:
        """Whether they are worth a closer look: three attacks, or those of a preset."""
        return self.chosen or len(self.methods) >= 3

    def broken(self, eps: float) -> Bool[np.ndarray, "attacks images"]:
        """Which right answers each attack breaks within `eps`."""
        return (self.upper <= eps) & (self.best > 0)

    def missed(self, eps: float) -> Float[np.ndarray, "attacks attacks"]:
        """Share of the images that the attack of the row breaks and that of the column misses."""
        broken = self.broken(eps).astype(np.float64)
        return broken @ (1 - broken).T / self.best.size

    def only(self, eps: float) -> Float[np.ndarray, " attacks"]:
        """Share of the images that each attack breaks and none of the others does."""
        broken = self.broken(eps)
        return np.mean(broken & (broken.sum(axis=0) == 1), axis=1)

    def optimality(self) -> Float[np.ndarray, " attacks"]:
        """How close each attack comes to the smallest sizes known, 1 at best.

        The area between its curve of robust accuracy and the lowest one known, as a share of the
        area between no attack at all and that lowest one; both end at the largest size known. NaN
        where nothing was broken.

        Reference:
            Cina et al., "AttackBench: evaluating gradient-based attacks for adversarial examples",
            AAAI 2025, local optimality.
        """
        end = np.max(self.best, initial=0.0, where=np.isfinite(self.best))
        # The area under a curve of survival up to `end` is the mean of the sizes cut there.
        area = np.mean(np.minimum(self.upper, end), axis=1)
        lowest = np.mean(np.minimum(self.best, end))
        none = np.mean(self.best > 0) * end
        return (
            np.full(len(area), np.nan) if none <= lowest else 1 - (area - lowest) / (none - lowest)
        )


def _radii(records: "Records", norm: str, methods: list[str]) -> tuple[list[float], bool]:
    """Radii above 0 at which all of these ran, in increasing order; whether none ran elsewhere."""
    rows = records.rows
    if rows.empty:
        return [], False
    ran = rows[(rows["norm"] == norm) & (rows["kind"] == "attacked") & (rows["eps"] > 0)]
    each = [
        set(ran["eps"][(ran["method"] == method) & (ran["seed"] == seed)].astype(float))
        for method in methods
        for seed in records.seeds
    ]
    shared = set.intersection(*each)
    return sorted(shared), shared == set.union(*each)


def scheduled(records: "Records", norm: str) -> bool:
    """Whether a preset chose the attacks in `norm`."""
    stages = records.info.get("stages", {}).values()
    return any(name.startswith(f"{norm}/") for held in stages for name in held)
