"""What a page says of the attacks themselves: where PGD fails, what 8 bits undo, what is unseen."""

import dataclasses

import numpy as np

from robust_mnist import statistics
from robust_mnist.figures import NORMS, swept
from robust_mnist.records import Alone, Records


# From here on another attack is far below PGD: a share of the images.
FAR = 0.05
TOGETHER = "all attacks together"


@dataclasses.dataclass(frozen=True)
class Gap:
    """How far an attack is below PGD at one radius.

    Attributes:
        method: The attack, or `TOGETHER`.
        pgd: The best of the attacks by PGD at this radius.
        eps: The radius.
        accuracy: What `method` leaves standing, the mean over the networks.
        by_pgd: What `pgd` leaves standing.
        low: Lower end of the paired 95 % interval of the difference, the lowest of all networks.
        high: Upper end, the highest of all networks.
    """

    method: str
    pgd: str
    eps: float
    accuracy: float
    by_pgd: float
    low: float
    high: float

    @property
    def size(self) -> float:
        """The difference, above 0 where PGD leaves more standing."""
        return self.by_pgd - self.accuracy


def gaps(alone: Alone) -> list[Gap]:
    """Where attacks are far below PGD, for certain: the largest gap of each attack.

    Where no single one is, all of them may be so together, each on images of its own, and those
    of a schedule with them.

    Args:
        alone: The attacks of a norm.

    Returns:
        The gaps whose whole interval is above `FAR`, the largest first.
    """
    pgd = [i for i, name in enumerate(alone.methods) if name.startswith("pgd")]
    largest: dict[str, Gap] = {}
    methods = [*alone.methods, TOGETHER]
    for eps in alone.radii if 0 < len(pgd) < len(alone.methods) else []:
        standing = np.concatenate([alone.upper, alone.best[None]]) > eps
        accuracy = standing.mean(axis=1)
        best = pgd[int(np.argmin(accuracy[pgd]))]
        for index, method in enumerate(methods):
            if index in pgd or accuracy[best] - accuracy[index] <= FAR:
                continue
            networks = (standing[index], standing[best])
            low, high = _interval(*(flags.reshape(alone.networks, -1) for flags in networks))
            gap = Gap(method, methods[best], eps, accuracy[index], accuracy[best], low, high)
            if low > FAR and (method not in largest or gap.size > largest[method].size):
                largest[method] = gap
    if len(largest) > 1:
        largest.pop(TOGETHER, None)  # below PGD because one of them is
    return sorted(largest.values(), key=lambda gap: -gap.size)


def _interval(lower: np.ndarray, upper: np.ndarray) -> tuple[float, float]:
    ends = [statistics.paired_bootstrap(*pair) for pair in zip(lower, upper, strict=True)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def warnings(records: Records) -> list[str]:
    """A sentence for every norm in which PGD alone would overstate the robustness."""
    sentences = []
    for norm in swept(records):
        alone = Alone.of(records, norm)
        found = gaps(alone) if alone else []
        if alone and found:
            sentences.append(_sentence(alone, found))
    return sentences


def _sentence(alone: Alone, found: list[Gap]) -> str:
    first, *others = found
    points = lambda share: f"{100 * share:.1f}"
    interval = "95 % interval" if alone.networks == 1 else "95 % intervals of all networks within"
    text = (
        f"In {NORMS[alone.norm]} PGD misses what other attacks find: at eps {first.eps:g} "
        f"{first.pgd} leaves {points(first.by_pgd)} % of {alone.images:,} images standing and "
        f"{first.method} {points(first.accuracy)} %, which is {points(first.size)} points below "
        f"({interval} {points(first.low)} to {points(first.high)}). "
    )
    if others:
        named = ", ".join(f"{gap.method} by {points(gap.size)} at {gap.eps:g}" for gap in others)
        text += f"So are, at their largest gap: {named}. "
    return f"{text}PGD alone would overstate the robustness; read the worst case."


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is said of the attacks of one norm.

    Attributes:
        norm: The norm.
        survive: Share of the closest wrong images that are still wrong in 8 bits.
        wrong: Number of those images.
        eps: Radius at which the rest is said; like the rest a dash where it was not looked at.
        images: Number of images of the rest.
        searches: Attacks and restarts that ran on them.
        broken: Number of images that some of these broke.
        once: Number of images that one of these alone broke.
        unseen: Estimate of those that none of these broke, though they break.
    """

    norm: str
    survive: str
    wrong: str
    eps: str = "-"
    images: str = "-"
    searches: str = "-"
    broken: str = "-"
    once: str = "-"
    unseen: str = "-"


def summaries(records: Records) -> list[Summary]:
    """One per norm that was attacked and looked at."""
    norms = [norm for norm in swept(records) if f"uint8/{norm}" in records.panels]
    return [_summary(records, norm) for norm in norms]


def _summary(records: Records, norm: str) -> Summary:
    survivors, wrong = (int(count) for count in records.panels[f"uint8/{norm}"])
    share = f"{100 * survivors / wrong:.1f} %" if wrong else "-"
    first = Summary(NORMS[norm], share, f"{wrong:,}")
    alone = Alone.of(records, norm)
    restarts = records.panels.get(f"restarts/{norm}/broken")
    if alone is None or restarts is None:
        return first
    eps = float(records.panels[f"probe/{norm}/eps"])
    # The experiment is of the first network alone, and so is the estimate.
    at = np.searchsorted(alone.places[: alone.images], records.panels[f"probe/{norm}/places"])
    found = np.concatenate([alone.broken(eps)[:, at], restarts])
    unseen = statistics.chao(found[:, alone.best[at] > 0])
    # Where nothing was found by one search alone, there is nothing to infer an interval from.
    interval = f" ({unseen.low:.1f} to {unseen.high:.1f})" if unseen.once else ""
    return dataclasses.replace(
        first,
        eps=f"{eps:g}",
        images=f"{at.size:,}",
        searches=f"{len(alone.methods)} attacks and {len(restarts)} restarts of PGD",
        broken=f"{unseen.found:,}",
        once=f"{unseen.once:,}",
        unseen=f"{unseen.estimate:.1f}{interval}",
    )
