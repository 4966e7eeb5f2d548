"""What checks look at and what they answer."""

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from robust_mnist.data import Part
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii


if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["ok", "look", "fail"]


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
    """

    model: AbstractClassifier
    part: Part
    rows: "pd.DataFrame"
    radii: dict[str, Radii]
    witnesses: dict[str, np.ndarray]
    cells: dict[str, dict[str, float]]


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
