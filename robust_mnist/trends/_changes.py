"""Change points of a short, noisy series: pieces that are constant, fitted by least deviations.

Least deviations rather than least squares, because a launch that was disturbed lies far off, and
one such launch must not make a piece of its own.
"""

import bisect
import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


SIDE = 3  # launches on either side of a change point
_ALARMS = 0.05  # chance that a series without a change shows one


def change_points(values: Sequence[float]) -> list[int]:
    """Where a series jumps to another level.

    The Potts fit: pieces of at least three values minimise the sum of absolute deviations from the
    median of their piece, plus `penalty` for every jump. The minimum is exact, by dynamic
    programming over the end of the last piece.

    Args:
        values: Logarithms of seconds, in order of time.

    Returns:
        Indices of the first value of every piece but the first; none for fewer than six values.
    """
    n = len(values)
    if n < 2 * SIDE:
        return []
    price = penalty(values)
    best, start = [-price] + [math.inf] * n, [0] * (n + 1)
    for first in range(n - SIDE + 1):
        if math.isinf(best[first]):
            continue
        for last, cost in enumerate(_deviations(values[first:]), first + 1):
            total = best[first] + price + cost
            # Not by rounding: a jump has to gain something.
            if last - first >= SIDE and total < best[last] - 1e-12:
                best[last], start[last] = total, first
    found, end = [], n
    while start[end] > 0:
        end = start[end]
        found.append(end)
    return found[::-1]


def penalty(values: Sequence[float]) -> float:
    """What a jump has to gain, in units of the values.

    Where nothing changes, one given jump lowers the sum of absolute deviations by about
    `chi2 / (4 f)`: chi2 has one degree of freedom and f is the density of the noise at its median,
    `1 / (sigma sqrt(2 pi))` for a normal one. There are `n - 5` places for it, so the quantile is
    Bonferroni's, for a false alarm in 5 % of the series. Sigma is read from the median of the
    `n - 1` absolute differences of neighbours, which a jump hardly moves; of so few it is
    uncertain, which turns chi2 into F. In simulations 3 % of series of six without a jump show one
    and about 2 % or less of longer ones, be the noise normal, Laplace's or t with 3 degrees of
    freedom; noise that drifts from launch to launch alarms more often.

    Args:
        values: At least six.
    """
    steps = np.abs(np.diff(values))
    sigma = float(np.median(steps)) / (math.sqrt(2) * float(stats.norm.ppf(0.75)))
    return math.sqrt(2 * math.pi) / 4 * sigma * _quantile(len(values))


@functools.cache
def _quantile(n: int) -> float:
    return float(stats.f.ppf(1 - _ALARMS / (n - 2 * SIDE + 1), 1, n - 1))


def _deviations(values: Sequence[float]) -> list[float]:
    """Sum of absolute deviations from the median, for the first 1, 2, 3, ... values."""
    ordered: list[float] = []
    costs, cost = [], 0.0
    for value in values:
        if ordered:
            # Any point between the two middle ones is a median; a new value costs its distance.
            low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
            cost += max(low - value, value - high, 0.0)
        bisect.insort(ordered, value)
        costs.append(cost)
    return costs
