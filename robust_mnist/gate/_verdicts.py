"""Which of two versions is slower, and how sure that is.

The unit is a pair of launches: two fresh processes, one of each version, run one after the other.
Rounds within a process share its memory layout, its threads and its neighbours, so they are no
independent samples; only their median enters. All statistics act on log-ratios, B over A, because
noise is proportional to the time and because twice as slow and twice as fast then weigh the same.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import stats


REGRESSED, IMPROVED, UNCHANGED = "REGRESSED", "IMPROVED", "UNCHANGED"
INCONCLUSIVE = "INCONCLUSIVE"
# Of REGRESSED and IMPROVED, after the correction for the number of benchmarks.
ALPHA = 0.01
# Of UNCHANGED: two one-sided tests at 5 % are a 90 % interval inside the floor.
EQUIVALENCE = 0.05
# Below 3 pairs a standard deviation means nothing.
FEWEST_PAIRS, USUAL_PAIRS = 3, 6
# A change below the first is nobody's concern; the second holds where the noise is unknown.
SMALLEST_FLOOR, UNCALIBRATED_FLOOR = 0.03, 0.05
MOST_FURTHER = 100
POWER = 0.8
# Clocks tick: times that agree to the last digit are no proof of a spread of zero.
_SMALLEST_SD = 1e-9
_QUANTILES = (np.arange(200) + 0.5) / 200

Values = Float[np.ndarray, "*comparisons benchmarks"]
Pairs = Int[np.ndarray, "*comparisons benchmarks"]
Words = Shaped[np.ndarray, "*comparisons benchmarks"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is known of one benchmark, or of the geometric mean of all.

    Attributes:
        word: REGRESSED, IMPROVED, UNCHANGED or INCONCLUSIVE.
        pairs: Pairs of launches.
        ratio: Geometric mean of B's time over A's.
        low: Lower end of the 95 % confidence interval of `ratio`; None below two pairs.
        high: Upper end.
        floor: Smallest relative change that counts, such as 0.03.
        p: Adjusted p-value of the direction in which the estimate points; 1 below three pairs.
        power: Probability of REGRESSED if the truth were 5 % and nothing else had changed; None
            below three pairs.
        further: Pairs to add for a decision with 80 % probability, if mean and spread stay; 0 for
            a decision, None for more than 100.
    """

    word: str
    pairs: int
    ratio: float
    low: float | None
    high: float | None
    floor: float
    p: float
    power: float | None
    further: int | None


def judge(
    log_ratios: Mapping[str, Sequence[float]], floors: Mapping[str, float]
) -> dict[str, Verdict]:
    """The verdict on every benchmark of a comparison.

    Args:
        log_ratios: By benchmark, `log(B / A)` of the launches' medians, one per pair, at least one.
        floors: By benchmark, the smallest relative change that counts.
    """
    if not log_ratios:
        return {}
    series = [np.asarray(values, float) for values in log_ratios.values()]
    mean = np.array([values.mean() for values in series])
    sd = np.array([values.std(ddof=1) if values.size > 1 else 0.0 for values in series])
    pairs = np.array([values.size for values in series])
    floor = np.array([floors[name] for name in log_ratios])
    words, p = decide(mean, sd, pairs, floor)
    level = ALPHA / (2 * len(series))
    lists = [array.tolist() for array in (words, mean, sd, pairs, floor, p)]
    return {
        name: _verdict(*facts, level=level) for name, *facts in zip(log_ratios, *lists, strict=True)
    }


def decide(mean: Values, sd: Values, pairs: Pairs, floors: Values) -> tuple[Words, Values]:
    """The rule itself, for any number of comparisons at once.

    REGRESSED needs both: a one-sided t test that rejects "not slower" at 1 %, corrected after
    Benjamini and Hochberg over both directions of all benchmarks of a comparison, and an estimate
    beyond the floor. IMPROVED is its mirror image. UNCHANGED is a claim of its own, proven by
    equivalence: the 90 % interval lies inside the floor. Everything else is INCONCLUSIVE.

    Args:
        mean: Mean log-ratio of each benchmark; leading axes are comparisons.
        sd: Standard deviation of the log-ratios.
        pairs: How many there were; below three nothing is decided.
        floors: Smallest relative change that counts.

    Returns:
        The words, and the adjusted p-values of the direction in which each estimate points.

    Reference:
        Benjamini and Hochberg, "Controlling the false discovery rate", 1995; Schuirmann, "A
        comparison of the two one-sided tests procedure", 1987.
    """
    tested = pairs >= FEWEST_PAIRS
    freedom = np.maximum(pairs - 1, 1)
    error = np.maximum(sd, _SMALLEST_SD) / np.sqrt(pairs)
    raw = [stats.t.sf(mean / error, freedom), stats.t.cdf(mean / error, freedom)]
    raw = [np.where(tested, p, 1.0) for p in raw]
    adjusted = stats.false_discovery_control(np.concatenate(raw, axis=-1), axis=-1)
    slower, faster = np.split(adjusted, 2, axis=-1)
    limit = np.log1p(floors)
    inside = np.abs(mean) + stats.t.isf(EQUIVALENCE, freedom) * error < limit
    words = np.select(
        [(slower < ALPHA) & (mean > limit), (faster < ALPHA) & (mean < -limit), tested & inside],
        [REGRESSED, IMPROVED, UNCHANGED],
        default=INCONCLUSIVE,
    )
    return words, np.where(mean > 0, slower, faster)


def detection_power(
    effect: float, sd: float, pairs: Int[np.ndarray, " sizes"], floor: float, *, level: float
) -> Float[np.ndarray, " sizes"]:
    """Probability of REGRESSED where the truth is known.

    The test and the floor are met together: the mean has to exceed whichever asks for more, and
    what the test asks for varies with the standard deviation that happens to be seen.

    Args:
        effect: True mean log-ratio.
        sd: True standard deviation of the log-ratios.
        pairs: Numbers of pairs, each at least 2.
        floor: Smallest relative change that counts.
        level: Of the t test. With Benjamini and Hochberg, a benchmark that is the only one to
            change has to reach `ALPHA / (2 * benchmarks)`.
    """
    error, seen = _errors(sd, pairs)
    needed = np.maximum(np.log1p(floor), stats.t.isf(level, pairs[:, None] - 1) * seen)
    return stats.norm.cdf((effect - needed) / error).mean(axis=1)


def equivalence_power(
    effect: float, sd: float, pairs: Int[np.ndarray, " sizes"], floor: float
) -> Float[np.ndarray, " sizes"]:
    """Probability of UNCHANGED where the truth is known; arguments as in `detection_power`."""
    error, seen = _errors(sd, pairs)
    room = np.log1p(floor) - stats.t.isf(EQUIVALENCE, pairs[:, None] - 1) * seen
    room = np.maximum(room, 0.0)
    inside = stats.norm.cdf((room - effect) / error) - stats.norm.cdf((-room - effect) / error)
    return inside.mean(axis=1)


def interval(mean: float, sd: float, pairs: int) -> tuple[float, float]:
    """95 % confidence interval of a mean log-ratio, by the t distribution; needs two pairs."""
    half = float(stats.t.isf(0.025, pairs - 1)) * sd / float(np.sqrt(pairs))
    return mean - half, mean + half


def noise_floor(sd: float) -> float:
    """Half-width of the 95 % interval of a comparison of 6 pairs, as a relative change.

    `exp(t(0.975, 5) * sd / sqrt(6)) - 1`: what such a comparison cannot tell from nothing.

    Args:
        sd: Standard deviation of the log-ratios of pairs of launches of the same code.
    """
    return float(np.expm1(interval(0.0, sd, USUAL_PAIRS)[1]))


def _errors(
    sd: float, pairs: Int[np.ndarray, " sizes"]
) -> tuple[Float[np.ndarray, "sizes 1"], Float[np.ndarray, "sizes quantiles"]]:
    """The true standard error for each number of pairs, and equally likely estimates of it."""
    freedom = (pairs - 1)[:, None]
    error = max(sd, _SMALLEST_SD) / np.sqrt(pairs)[:, None]
    return error, error * np.sqrt(stats.chi2.ppf(_QUANTILES, freedom) / freedom)


def _verdict(
    word: str, mean: float, sd: float, pairs: int, floor: float, p: float, *, level: float
) -> Verdict:
    low, high = interval(mean, sd, pairs) if pairs > 1 else (None, None)
    power: float | None = None
    further: int | None = USUAL_PAIRS - pairs
    if pairs >= FEWEST_PAIRS:
        power = float(detection_power(np.log(1.05), sd, np.array([pairs]), floor, level=level)[0])
        further = _further(mean, sd, pairs, floor, level) if word == INCONCLUSIVE else 0
    return Verdict(
        word=word,
        pairs=pairs,
        ratio=float(np.exp(mean)),
        low=None if low is None else float(np.exp(low)),
        high=None if high is None else float(np.exp(high)),
        floor=floor,
        p=p,
        power=power,
        further=further,
    )


def _further(mean: float, sd: float, pairs: int, floor: float, level: float) -> int | None:
    sizes = pairs + np.arange(1, MOST_FURTHER + 1)
    changed = detection_power(abs(mean), sd, sizes, floor, level=level)
    enough = np.maximum(changed, equivalence_power(mean, sd, sizes, floor)) >= POWER
    return int(enough.argmax()) + 1 if enough.any() else None
