import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from robust_mnist.threat import BALLS, L1, cutoff
from robust_mnist.threat._budget import spend


every_ball = pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS.keys())
# What L0 allows is no ball in the sense of volume.
every_norm_ball = pytest.mark.parametrize(
    "ball", [ball for name, ball in BALLS.items() if name != "l0"], ids=lambda ball: ball.name
)


@every_ball
def test_a_ball_knows_its_name(ball):
    assert BALLS[ball.name] is ball


@every_ball
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_projection_is_inside_and_no_other_point_is_closer(ball, eps, getkey):
    delta, radius = jax.random.normal(getkey(), (16,)), jnp.array(eps)
    projected = ball.project(delta, radius)
    assert ball.size(projected) <= eps * (1 + 1e-6)
    others = jax.vmap(lambda k: ball.sample(k, 16, radius))(jax.random.split(getkey(), 500))
    nearest = jnp.min(jnp.linalg.norm(others - delta[None], axis=1))
    assert jnp.linalg.norm(projected - delta) <= nearest + 1e-6


@every_ball
def test_projection_leaves_the_inside_alone(ball, getkey):
    delta = ball.sample(getkey(), 16, jnp.array(0.2))
    assert jnp.allclose(ball.project(delta, jnp.array(0.3)), delta)


@pytest.mark.parametrize("eps", [0.0, 0.5, 3.0, 100.0])
def test_projection_on_ball_and_box_at_once_is_the_closest_point_of_both(eps, getkey):
    """Against soft thresholding at a level found by bisection, in float64."""
    x = jnp.clip(jax.random.uniform(getkey(), (40,), minval=-0.5, maxval=1.5), 0, 1)
    delta = jax.random.normal(getkey(), (40,))
    projected = np.asarray(L1().project_in_box(x, delta, jnp.array(eps)))
    size = np.abs(np.asarray(delta, np.float64))
    limit = np.where(delta > 0, 1 - np.asarray(x, np.float64), np.asarray(x, np.float64))
    low, high = 0.0, float(size.max())
    at = lambda level: np.clip(size - level, 0, limit)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() > eps else (low, middle)
    assert np.allclose(projected, np.sign(delta) * at(high), atol=1e-6)
    assert (eps == 100.0) == (at(0.0).sum() < eps)


@every_ball
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_steepest_has_size_one_and_ascends_most(ball, scale, getkey):
    gradient = jax.random.normal(getkey(), (16,))
    direction = ball.steepest(gradient * scale)
    assert jnp.allclose(ball.size(direction), 1.0, atol=1e-6)
    others = jax.vmap(lambda k: ball.sample(k, 16, jnp.array(1.0)))(jax.random.split(getkey(), 500))
    assert gradient @ direction >= jnp.max(others @ gradient) - 1e-5


@every_ball
def test_steepest_of_nothing_is_nothing(ball):
    assert jnp.all(ball.steepest(jnp.zeros(16)) == 0)


@every_norm_ball
def test_samples_fill_the_ball(ball, getkey):
    points = jax.vmap(lambda k: ball.sample(k, 3, jnp.array(0.5)))(jax.random.split(getkey(), 4000))
    sizes = np.asarray(jax.vmap(ball.size)(points))
    assert sizes.max() <= 0.5 * (1 + 1e-6)
    # Volume grows as the cube of the size in three dimensions: half of it lies beyond 0.794 eps.
    assert abs(np.mean(sizes > 0.5 * 0.5 ** (1 / 3)) - 0.5) < 0.04


# --- in the box -----------------------------------------------------------------------------------


def highest_rise(ball, x, gradient, eps):
    """The most that `gradient @ change` can reach, by other means than ours, in float64."""
    x, w = np.asarray(x, np.float64), np.asarray(gradient, np.float64)
    room = np.where(w > 0, 1 - x, x)
    if ball.name == "linf":
        return linprog(-w, bounds=[(max(-eps, -p), min(eps, 1 - p)) for p in x]).fun * -1
    if ball.name == "l1":
        # Up and down are separate variables, whose sum is bounded.
        ends = [(0, 1 - p) for p in x] + [(0, p) for p in x]
        cost = np.concatenate([-w, w])
        return linprog(cost, A_ub=np.ones((1, cost.size)), b_ub=[eps], bounds=ends).fun * -1
    if ball.name == "l0":
        gains = np.abs(w) * room
        subsets = itertools.combinations(range(x.size), min(int(eps), x.size))
        return max(sum(gains[list(subset)]) for subset in subsets)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        inside = np.linalg.norm(np.minimum(middle * np.abs(w), room)) <= eps
        low, high = (middle, high) if inside else (low, middle)
    return float(np.abs(w) @ np.minimum(low * np.abs(w), room))


BUDGETS = {
    "linf": (0.02, 0.3, 2.0),
    "l2": (0.05, 0.7, 9.0),
    "l1": (0.1, 1.5, 20.0),
    "l0": (1, 3, 9),
}
budgets = pytest.mark.parametrize(
    ("ball", "eps"),
    [(BALLS[name], eps) for name, sizes in BUDGETS.items() for eps in sizes],
    ids=lambda value: getattr(value, "name", str(value)),
)
starts = pytest.mark.parametrize(
    "start", [lambda u: u, jnp.round, lambda u: jnp.clip(3 * u - 1, 0, 1)],
    ids=["inside", "at-the-ends", "mixed"],
)  # fmt: skip


@budgets
@starts
def test_ascend_is_the_best_change_that_ball_and_box_allow(ball, eps, start, getkey):
    x = start(jax.random.uniform(getkey(), (9,)))
    gradient = jax.random.normal(getkey(), (9,)).at[4].set(0.0)
    change = ball.ascend(x, gradient, jnp.array(float(eps)))
    assert ball.size(change) <= eps * (1 + 1e-6)
    assert jnp.all((x + change >= -1e-6) & (x + change <= 1 + 1e-6))
    expected = highest_rise(ball, x, gradient, eps)
    assert float(gradient @ change) == pytest.approx(expected, abs=1e-5)


@budgets
@starts
def test_nearest_is_the_smallest_change_that_reaches_the_half_space(ball, eps, start, getkey):
    x = start(jax.random.uniform(getkey(), (9,)))
    gradient = jax.random.normal(getkey(), (9,))
    rise = highest_rise(ball, x, gradient, eps)
    change = ball.nearest(x, gradient, jnp.asarray(rise, jnp.float32))
    assert jnp.all((x + change >= -1e-6) & (x + change <= 1 + 1e-6))
    assert float(gradient @ change) == pytest.approx(rise, abs=1e-5)
    # Nothing smaller reaches as far; where the whole box is allowed, much smaller ones may do.
    size = float(ball.size(change))
    assert size <= eps * (1 + 1e-5)
    smaller = size - 1 if ball.name == "l0" else 0.99 * size
    assert highest_rise(ball, x, gradient, smaller) < rise - 1e-6


@budgets
@starts
def test_the_least_value_is_close_and_never_above_the_truth(ball, eps, start, getkey):
    x = start(jax.random.uniform(getkey(), (9,)))
    weights = jax.random.normal(getkey(), (9,)).at[4].set(0.0)
    wide = lambda array: np.asarray(array, np.float64)
    truth = wide(weights) @ wide(x) - highest_rise(ball, x, -weights, eps)
    least = float(ball.least(x, weights, jnp.array(float(eps))))
    assert least <= truth
    # The dual norm knows no more of the box than which pixels are at an end.
    assert least >= truth - (0.7 if ball.name == "l2" and eps == 0.7 else 1e-2)


@every_ball
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_a_gradient_does_not_matter_in_the_box(ball, scale, getkey):
    x, gradient = jax.random.uniform(getkey(), (9,)), jax.random.normal(getkey(), (9,))
    eps, rise = jnp.array(1.0), jnp.array(0.5)
    scaled = ball.ascend(x, gradient * scale, eps)
    assert jnp.allclose(scaled, ball.ascend(x, gradient, eps), atol=1e-5)
    scaled = ball.nearest(x, gradient * scale, rise * scale)
    assert jnp.allclose(scaled, ball.nearest(x, gradient, rise), atol=1e-5)


@every_ball
def test_no_gradient_and_no_rise_change_nothing(ball, getkey):
    x, gradient = jax.random.uniform(getkey(), (9,)), jax.random.normal(getkey(), (9,))
    assert jnp.all(ball.ascend(x, jnp.zeros(9), jnp.array(1.0)) == 0)
    assert jnp.all(ball.ascend(x, gradient, jnp.array(0.0)) == 0)
    assert jnp.all(ball.nearest(x, jnp.zeros(9), jnp.array(1.0)) == 0)
    assert jnp.all(ball.nearest(x, gradient, jnp.array(-1.0)) == 0)


@every_ball
def test_a_half_space_beyond_the_box_ends_in_its_nearest_corner(ball, getkey):
    x, gradient = jax.random.uniform(getkey(), (9,)), jax.random.normal(getkey(), (9,))
    corner = (gradient > 0).astype(jnp.float32)
    assert jnp.allclose(x + ball.nearest(x, gradient, jnp.array(1e3)), corner, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("budget", [-1.0, 0.0, 0.5, 7.0, 40.3, 1e6, np.inf])
def test_a_budget_is_spent_as_if_pixels_had_been_sorted(scale, budget, getkey):
    # Few different values, so that many pixels are equal and the first of them come first.
    values = jax.random.randint(getkey(), (200,), 0, 9).astype(jnp.float32) * scale
    prices = jax.random.uniform(getkey(), (200,)).at[::7].set(0.0)

    found = spend(values, prices, jnp.float32(budget))

    order = np.argsort(-np.asarray(values), kind="stable")
    sorted_prices = np.asarray(prices, np.float64)[order]
    before = np.cumsum(sorted_prices) - sorted_prices
    expected = np.zeros(200)
    expected[order] = np.clip(budget - before, 0.0, sorted_prices)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("place", [1, 2, 50, 199, 200])
def test_a_cutoff_is_the_value_at_a_place(place, getkey):
    values = jax.random.uniform(getkey(), (200,)).at[::3].set(0.25)

    found = cutoff(values, jnp.ones(200), jnp.float32(place - 1))

    assert found == np.sort(values)[-place]
