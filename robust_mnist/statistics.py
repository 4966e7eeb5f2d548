"""Sampling error of accuracies: intervals, bands and paired differences.

They speak of the finite test set alone. That a stronger attack exists, or that another training
seed would do better, is a different uncertainty and never part of these numbers.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


Counts = Int[np.ndarray, "*batch"] | int
Values = Float[np.ndarray, "*batch"]


def wilson(correct: Counts, images: Counts, *, confidence: float = 0.95) -> tuple[Values, Values]:
    """Wilson score interval of an accuracy, for each pair of counts.

    Args:
        correct: Number of successes, between 0 and `images`.
        images: Number of trials, at least 1.
        confidence: Coverage, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Reference:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    # `binomtest(...).proportion_ci` of scipy is the same, one pair of counts at a time.
    n = np.asarray(images, dtype=np.float64)
    share = np.asarray(correct, dtype=np.float64) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 and 1 the end is exact in theory; rounding would leave it 1e-17 outside.
    return (
        np.where(share == 0.0, 0.0, np.maximum(centre - half, 0.0)),
        np.where(share == 1.0, 1.0, np.minimum(centre + half, 1.0)),
    )


def clopper_pearson(successes: Counts, trials: Counts, *, alpha: float) -> Values:
    """Lower end of the exact one-sided confidence interval of a probability.

    Args:
        successes: Between 0 and `trials`.
        trials: At least 1.
        alpha: Probability, at most, that the end lies above the truth; in (0, 1).

    Returns:
        Ends in [0, 1); 0 where there was no success.

    Reference:
        Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of
        the binomial", Biometrika, 1934.
    """
    from scipy import stats  # noqa: PLC0415 a second that training should not wait for

    won, tried = np.asarray(successes), np.asarray(trials)
    some = np.maximum(won, 1)
    return np.where(won > 0, stats.beta.ppf(alpha, some, tried - some + 1), 0.0)


def band_half_width(images: int, *, confidence: float = 0.95) -> float:
    """Half-width of a band that holds a whole survival curve at once.

    The exact Kolmogorov quantile; the Dvoretzky-Kiefer-Wolfowitz bound with Massart's constant,
    sqrt(ln(2 / alpha) / 2n), is slightly above it.

    Args:
        images: Sample size, at least 1.
        confidence: Simultaneous coverage, in (0, 1).

    Returns:
        The half-width, as a share of the images.
    """
    from scipy import stats  # noqa: PLC0415 a second that training should not wait for

    return float(stats.kstwo.ppf(confidence, images))


def survival(
    radii: Float[np.ndarray, " images"], eps: Float[np.ndarray, " eps"], *, inclusive: bool = False
) -> Float[np.ndarray, " eps"]:
    """Share of images whose radius exceeds each eps.

    Args:
        radii: One radius per image; infinity where none is known.
        eps: Where to read the curve.
        inclusive: Count a radius equal to eps too, as certified accuracy does (`lower >= eps`).

    Returns:
        The curve, non-increasing in eps.
    """
    ordered = np.sort(radii)
    below = np.searchsorted(ordered, eps, side="left" if inclusive else "right")
    return 1.0 - below / radii.size


def mcnemar(first: Bool[np.ndarray, " images"], second: Bool[np.ndarray, " images"]) -> float:
    """Exact two-sided p-value that two paired accuracies are equal.

    Only the images on which the two disagree carry information.

    Reference:
        McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika, 1947.
    """
    from scipy import stats  # noqa: PLC0415 a second that training should not wait for

    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(second & ~first))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def paired_bootstrap(
    first: Bool[np.ndarray, " images"],
    second: Bool[np.ndarray, " images"],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `mean(second) - mean(first)` over resampled images.

    A resample of images is a multinomial draw of the three kinds they come in (only the first
    right, only the second right, no difference), so no image is ever copied.

    Returns:
        Lower and upper end of the difference, in [-1, 1].
    """
    images = first.size
    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(second & ~first))
    shares = np.array([only_first, only_second, images - only_first - only_second]) / images
    draws = np.random.default_rng(seed).multinomial(images, shares, size=resamples)
    difference = (draws[:, 1] - draws[:, 0]) / images
    tail = (1 - confidence) / 2
    low, high = np.quantile(difference, [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(
    values: Float[np.ndarray, " images"], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of what each image has, also where most have nothing and few have much.

    Student's interval misses too low there: with one open image in fifty, one time in seven instead
    of one in twenty. A cubic transformation takes the skewness out of the statistic first.

    Args:
        values: One per image; with a single image, or all equal, there is no width to infer.
        confidence: Coverage, in (0, 1).

    Returns:
        Lower and upper end; where no value is negative, the lower may still be.

    Reference:
        Hall, "On the removal of skewness by transformation", Journal of the Royal Statistical
        Society B, 1992.
    """
    mean, n = float(np.mean(values)), values.size
    if np.all(values == values[0]):
        return mean, mean
    scale = float(np.std(values, ddof=1))
    skewness = float(np.mean(((values - mean) / np.std(values)) ** 3)) / math.sqrt(n)

    def back(quantile: float) -> float:
        if abs(skewness) < 1e-9:
            return quantile
        cubed = 1 + skewness * quantile - skewness**2 / 6
        return 3 / skewness * (float(np.cbrt(cubed)) - 1)

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    error = scale / math.sqrt(n)
    return mean - error * back(z), mean - error * back(-z)


def exceeds(count: int, images: int, share: float, *, confidence: float = 0.99) -> bool:
    """Whether so many images say that the share behind them is above `share`.

    They do where a share of exactly `share` would rarely give as many.

    Args:
        count: Images with some property.
        images: Images looked at.
        share: Limit, in [0, 1).
        confidence: One less the chance of a false alarm at the limit, in (0, 1).
    """
    from scipy import stats  # noqa: PLC0415 a second that training should not wait for

    return count > 0 and float(stats.binom.sf(count - 1, images, share)) < 1 - confidence


class Unseen(NamedTuple):
    """An estimate of how many were never found, by how many were hardly found.

    Attributes:
        found: Found at least once.
        once: Found exactly once.
        twice: Found exactly twice.
        estimate: How many more there may be.
        low: Lower end of the 95 % interval of `estimate`.
        high: Upper end.
    """

    found: int
    once: int
    twice: int
    estimate: float
    low: float
    high: float


def chao(found: Bool[np.ndarray, "searches images"]) -> Unseen:
    """Estimate what repeated searches have missed: Chao1 for a known number of searches.

    It rests on searches that are independent of each other, each of them able to find everything.
    Where some images are much harder to break than others, it is too low.

    Args:
        found: What each search found, among all that there can be.

    Returns:
        The estimate with its log-normal interval; neither exceeds what is left to be found.

    Reference:
        Chao, "Estimating the population size for capture-recapture data with unequal
        catchability", Biometrics, 1987; here in the form without bias for few searches, known as
        Chao2.
    """
    times = found.sum(axis=0)
    ever, once, twice = (int(np.sum(chosen)) for chosen in (times > 0, times == 1, times == 2))
    few = 1 - 1 / len(found)
    estimate = few * max(once * (once - 1), 0) / (2 * (twice + 1))
    variance = (
        estimate
        + few**2 * once * (2 * once - 1) ** 2 / (4 * (twice + 1) ** 2)
        + few**2 * once**2 * twice * (once - 1) ** 2 / (4 * (twice + 1) ** 4)
    )
    z = NormalDist().inv_cdf(0.975)
    if estimate > 0:
        spread = math.exp(z * math.sqrt(math.log1p(variance / estimate**2)))
        low, high = estimate / spread, estimate * spread
    else:
        low, high = 0.0, z * math.sqrt(variance)
    left = float(times.size - ever)
    return Unseen(ever, once, twice, min(estimate, left), min(low, left), min(high, left))
