"""How many times as fast, and how sure that is."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from robust_mnist.records import Timing


LAUNCHES = 3  # from which on their spread says something
_ROUNDS = 3
_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A speed-up with its 95 % interval.

    Attributes:
        value: Seconds of the baseline over seconds of the other; above 1 the other is faster.
        low: Lower end; NaN where too little was measured for an interval.
        high: Upper end.
        kind: What the interval comes from: the spread between launches, or that between the rounds
            of one launch. The latter knows nothing of what changes from process to process and is
            too narrow.
    """

    value: float
    low: float
    high: float
    kind: Literal["launches", "rounds"]


def ratio(base: Sequence[Sequence[Timing]], other: Sequence[Sequence[Timing]]) -> Ratio:
    """The speed-up of `other` against `base`, the geometric mean over benchmarks and launches.

    With at least three launches on both sides the interval is Welch's, on the logarithms of the
    launches: rounds of one process share its memory layout and its neighbours, so they are no
    independent samples. Otherwise it is a bootstrap over the rounds, which is better than nothing.

    Args:
        base: For each launch, the timings of the same benchmarks in the same order.
        other: Likewise.
    """
    a, b = (np.array([_log(launch) for launch in side]) for side in (base, other))
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) >= LAUNCHES:
        half = _welch(a, b)
        ends, kind = (difference - half, difference + half), "launches"
    else:
        ends, kind = _bootstrap(base, other), "rounds"
    value, low, high = np.exp([difference, *ends])
    return Ratio(float(value), float(low), float(high), kind)  # type: ignore[arg-type]


def _log(launch: Sequence[Timing]) -> float:
    return float(np.mean([np.log(timing.median_s) for timing in launch]))


def _welch(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> float:
    """Half the width of the interval of `mean(a) - mean(b)`."""
    parts = np.array([a.var(ddof=1) / a.size, b.var(ddof=1) / b.size])
    variance = parts.sum()
    if variance == 0:
        return 0.0
    freedom = variance**2 / np.sum(parts**2 / np.array([a.size - 1, b.size - 1]))
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(variance))


def _bootstrap(
    base: Sequence[Sequence[Timing]], other: Sequence[Sequence[Timing]]
) -> tuple[float, float]:
    draws = np.random.default_rng(0)
    if min(len(t.rounds_s) for side in (base, other) for one in side for t in one) < _ROUNDS:
        return np.nan, np.nan
    a, b = (
        np.mean([[_resampled(t, draws) for t in launch] for launch in side], axis=(0, 1))
        for side in (base, other)
    )
    low, high = np.quantile(a - b, [0.025, 0.975])
    return float(low), float(high)


def _resampled(timing: Timing, draws: np.random.Generator) -> Float[np.ndarray, " resamples"]:
    rounds = np.log(timing.rounds_s)
    return np.median(draws.choice(rounds, size=(_RESAMPLES, rounds.size)), axis=1)
