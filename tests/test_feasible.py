import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from robust_mnist.data.pixels import to_float
from robust_mnist.sweep import pull, sizes


greys = hnp.arrays(np.uint8, (3, 20))
moves = hnp.arrays(np.float32, (3, 20), elements=st.floats(-2, 2, width=32))
radii = st.sampled_from([0.0, 1e-9, 1 / 255, 0.1, 0.3, 0.30000001, 1.0, 7.0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=200, deadline=None)
@given(grey=greys, move=moves, eps=radii)
def test_pulled_images_are_exactly_feasible(norm, grey, move, eps):
    clean = to_float(grey)
    pulled = pull(norm, clean, clean + move, np.full(3, eps))
    assert pulled.dtype == np.float32
    assert np.all((pulled >= 0) & (pulled <= 1))
    assert np.all(sizes(norm, clean, pulled) <= eps)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_inside_is_left_alone(norm):
    rng = np.random.default_rng(0)
    clean = to_float(rng.integers(0, 256, (50, 784)).astype(np.uint8))
    found = np.clip(clean + rng.uniform(-0.01, 0.01, clean.shape), 0, 1).astype(np.float32)
    assert np.array_equal(pull(norm, clean, found, np.full(50, 10.0)), found)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_little_is_lost_by_pulling(norm):
    """An overshoot by rounding costs a hundred-thousandth of the radius, not the perturbation."""
    rng = np.random.default_rng(0)
    clean = rng.uniform(0.3, 0.7, (50, 784)).astype(np.float32)
    move, eps = rng.normal(size=clean.shape), 0.1
    move *= eps * (1 + 1e-6) / sizes(norm, np.zeros_like(clean), move.astype(np.float32))[:, None]
    pulled = pull(norm, clean, (clean + move).astype(np.float32), np.full(50, eps))
    assert np.all(sizes(norm, clean, pulled) > eps * (1 - 2e-5))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_nan_stays_a_nan(norm):
    clean = np.full((1, 4), 0.5, np.float32)
    found = np.array([[np.nan, 0.5, 0.5, 0.5]], np.float32)
    assert np.isnan(pull(norm, clean, found, np.array([0.1]))).any()
