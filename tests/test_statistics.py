import numpy as np
import pytest
from scipy import stats

from robust_mnist import statistics


@pytest.mark.parametrize("images", [1, 10, 1000, 10_000])
def test_wilson_agrees_with_scipy_one_by_one(images):
    correct = np.unique(np.linspace(0, images, 23).astype(np.int64))
    low, high = statistics.wilson(correct, np.full(correct.shape, images))
    for k, below, above in zip(correct, low, high, strict=True):
        expected = stats.binomtest(int(k), images).proportion_ci(method="wilson")
        assert below == pytest.approx(expected.low, abs=1e-12)
        assert above == pytest.approx(expected.high, abs=1e-12)


def test_wilson_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    low, high = statistics.wilson(rng.binomial(400, 0.9, size=20_000), 400)
    assert np.mean((low <= 0.9) & (high >= 0.9)) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("images", [100, 1000, 10_000])
def test_the_band_is_just_inside_the_dkw_bound(images):
    bound = np.sqrt(np.log(2 / 0.05) / (2 * images))
    width = statistics.band_half_width(images)
    assert 0.95 * bound < width <= bound


def test_the_band_holds_the_whole_curve_as_often_as_it_says():
    rng, images = np.random.default_rng(0), 200
    eps = np.linspace(0, 1, 2001)
    truth = 1 - eps  # survival of uniform radii
    width, inside = statistics.band_half_width(images), []
    for _ in range(2000):
        curve = statistics.survival(rng.uniform(size=images), eps)
        inside.append(np.max(np.abs(curve - truth)) <= width)
    # The grid misses a little of the largest gap, so coverage is at least nominal.
    assert 0.94 <= np.mean(inside) <= 0.97


def test_survival_counts_strictly_or_inclusively():
    radii = np.array([0.0, 0.1, 0.1, 0.2, np.inf, -np.inf])
    eps = np.array([0.0, 0.1, 0.2])
    assert np.allclose(statistics.survival(radii, eps), [4 / 6, 2 / 6, 1 / 6])
    assert np.allclose(statistics.survival(radii, eps, inclusive=True), [5 / 6, 4 / 6, 2 / 6])


def test_mcnemar_looks_only_at_disagreements():
    first = np.array([True] * 8 + [False] * 2 + [True] * 50)
    second = np.array([False] * 8 + [True] * 2 + [True] * 50)
    assert statistics.mcnemar(first, second) == pytest.approx(stats.binomtest(8, 10).pvalue)
    assert statistics.mcnemar(first, first) == 1.0


def test_paired_bootstrap_agrees_with_resampling_images():
    rng = np.random.default_rng(1)
    first = rng.uniform(size=500) < 0.8
    second = np.where(rng.uniform(size=500) < 0.1, ~first, first)
    low, high = statistics.paired_bootstrap(first, second)
    difference = second.astype(float) - first
    draws = difference[rng.integers(0, 500, size=(20_000, 500))].mean(axis=1)
    expected = np.quantile(draws, [0.025, 0.975])
    assert np.allclose([low, high], expected, atol=0.004)
    assert low <= difference.mean() <= high


def test_what_was_never_found_is_estimated_from_what_was_found_once_or_twice():
    times = np.array([1, 1, 1, 1, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0])
    found = np.arange(3)[:, None] < times
    unseen = statistics.chao(found)
    assert (unseen.found, unseen.once, unseen.twice) == (7, 4, 1)
    assert unseen.estimate == pytest.approx(2)
    spread = np.exp(1.959964 * np.sqrt(np.log(1 + (2 + 49 / 9 + 1) / 4)))
    assert np.allclose([unseen.low, unseen.high], [2 / spread, 8])  # 8 are left, no more


def test_what_is_found_again_and_again_leaves_nothing_unseen():
    assert statistics.chao(np.ones((5, 10), bool)) == (10, 0, 0, 0, 0, 0)
    once = np.zeros((5, 10), bool)
    once[0, 0] = True
    assert statistics.chao(once).estimate == 0
    assert statistics.chao(once).high > 0


def test_the_estimate_of_the_unseen_holds_for_independent_searches():
    rng = np.random.default_rng(3)
    covered, estimates = [], []
    for _ in range(400):
        found = np.zeros((6, 300), bool)
        found[:, :200] = rng.uniform(size=(6, 200)) < 0.3
        unseen = statistics.chao(found)
        truth = 200 - unseen.found
        estimates.append(unseen.estimate - truth)
        covered.append(unseen.low <= truth <= unseen.high)
    assert abs(np.mean(estimates)) < 1.5  # of 24 on average
    assert np.mean(covered) > 0.9
