import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_mnist.threat import BALLS


every_ball = pytest.mark.parametrize("ball", BALLS.values(), ids=BALLS.keys())


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


@every_ball
def test_samples_fill_the_ball(ball, getkey):
    points = jax.vmap(lambda k: ball.sample(k, 3, jnp.array(0.5)))(jax.random.split(getkey(), 4000))
    sizes = np.asarray(jax.vmap(ball.size)(points))
    assert sizes.max() <= 0.5 * (1 + 1e-6)
    # Volume grows as the cube of the size in three dimensions: half of it lies beyond 0.794 eps.
    assert abs(np.mean(sizes > 0.5 * 0.5 ** (1 / 3)) - 0.5) < 0.04
