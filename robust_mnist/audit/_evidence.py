"""What checks look at and what they answer."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from robust_mnist import statistics
from robust_mnist.audit._probe import Probe
from robust_mnist.data import Part
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii
from robust_mnist.threat import BALLS


if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["ok", "look", "fail"]
VERDICTS = get_args(Verdict)  # the mildest first


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A finished sweep, with the network at hand.

    Attributes:
        model: The network of the first seed.
        part: The images that were attacked.
        rows: Tidy results of that seed.
        radii: Merged bounds by norm.
        witnesses: The wrong images behind them, by norm.
        cells: Totals by `norm/method`, as in `run.json`.
        own: By norm and method, the size of the closest wrong image that the method alone found
            for each image; infinite where it found none, NaN where it did not run.
        seeds: Number of networks that the run has trained.
        siblings: The networks of the other seeds, as far as they are at hand.
    """

    model: AbstractClassifier
    part: Part
    rows: "pd.DataFrame"
    radii: dict[str, Radii]
    witnesses: dict[str, np.ndarray]
    cells: dict[str, dict[str, float]]
    own: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    seeds: int = 1
    siblings: tuple[AbstractClassifier, ...] = ()

    @functools.cached_property
    def probes(self) -> dict[str, Probe]:
        """Some of the images, to attack again, in each norm that has radii above 0 and PGD."""
        known = self.model, self.part, self.rows, self.radii, self.own
        found = {norm: Probe.choose(*known, norm) for norm in BALLS}
        return {norm: probe for norm, probe in found.items() if probe is not None}

    @property
    def probe(self) -> Probe | None:
        """The first of them, for what depends little on the norm; None where nothing was attacked.

        Checks that ask whether an attack has found what there is look at all of them.
        """
        return next(iter(self.probes.values()), None)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check's answer.

    Attributes:
        title: What was checked, in a few words.
        verdict: ok; look: a person should; fail: do not trust the curve.
        number: What was measured.
        threshold: Where the verdict turns, in words.
        meaning: What it says and what to do.
    """

    title: str
    verdict: Verdict
    number: float
    threshold: str
    meaning: str

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return dataclasses.asdict(self)


def worst(findings: Iterable[Finding]) -> Finding | None:
    """The severest of findings of one check; None of none."""
    severity = lambda finding: (VERDICTS.index(finding.verdict), finding.number)
    return max(findings, key=severity, default=None)


def counted(
    title: str,
    count: int,
    images: int,
    *,
    look: float,
    fail: float,
    meaning: str,
    chance: bool = True,
) -> Finding:
    """The finding about a share of images that ought to be zero.

    Sound networks are seldom without a few in some checks. There the share is a limit for the whole
    data set, of which only some was looked at: the verdict turns where so many images would be a
    rare accident, below 1 %, if the share were at its limit.

    Args:
        title: What was checked.
        count: Images at fault.
        images: Images looked at.
        look: Share above which a person should look.
        fail: Share above which the curve is not to be trusted.
        meaning: What it says and what to do.
        chance: Whether the limits allow for chance; else they are for the images looked at.
    """
    above = lambda share: (
        statistics.exceeds(count, images, share) if chance else count > share * images
    )
    return Finding(
        title=title,
        verdict="fail" if above(fail) else "look" if above(look) else "ok",
        number=count / images,
        threshold=(
            f"look above {look:.2g}, fail above {fail:.2g}{', chance allowed for' * chance}"
        ),
        meaning=meaning,
    )
