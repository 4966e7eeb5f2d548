"""Rotations and translations, against scipy and against all of the grid."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import grey_images, network, predicted
from scipy import ndimage

from robust_mnist import metrics
from robust_mnist.attacks import ATTACKS, GradientStep, SpatialGrid
from robust_mnist.attacks.spatial_grid import moved
from robust_mnist.data import Part
from robust_mnist.sweep import cost, step_sweep


def test_the_grid_is_the_published_one():
    grid = ATTACKS["spatial-grid"].grid()
    assert grid.shape == (5 * 5 * 31, 3)
    assert np.unique(grid[:, 0]).tolist() == [-3.0, -1.5, 0.0, 1.5, 3.0]
    assert np.array_equal(np.unique(grid[:, 0]), np.unique(grid[:, 1]))
    assert np.allclose(np.degrees(np.unique(grid[:, 2])), np.arange(-30, 31, 2))


@pytest.mark.parametrize("move", [(1.0, -2.0, 0.0), (0.0, 0.0, 0.5), (-0.75, 1.5, -0.3)])
def test_an_image_moves_as_scipy_moves_it(move, getkey):
    image = np.array(jax.random.uniform(getkey(), (8, 8)))
    image[[0, -1]] = image[:, [0, -1]] = 0  # the two treat what lies half outside differently
    down, right, turn = move
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    middle = np.full(2, 3.5)
    offset = middle - rotation @ (middle + np.array([down, right]))
    expected = ndimage.affine_transform(image, rotation, offset, order=1, mode="constant")
    found = moved(jnp.asarray(image.ravel()), jnp.array(move)).reshape(8, 8)
    assert np.allclose(found, expected, atol=1e-5)


def test_a_quarter_turn_is_exact_and_anticlockwise(getkey):
    image = jax.random.uniform(getkey(), (8, 8))
    turned = moved(image.ravel(), jnp.array([0.0, 0.0, math.pi / 2]))
    assert jnp.allclose(turned.reshape(8, 8), jnp.rot90(image), atol=1e-5)


def test_the_worst_of_the_grid_is_found(getkey):
    model, x, step = network(getkey()), jax.random.uniform(getkey(), (64,)), jnp.array(0.5)
    y, attack = jnp.argmax(model(x)), SpatialGrid(translations=3, rotations=5)
    z = attack(model, x, y, step=step, key=getkey())
    moves = [moved(x, step * jnp.asarray(move, jnp.float32)) for move in attack.grid()]
    margins = [float(metrics.margin(model(image), y)) for image in moves]
    assert metrics.margin(model(z), y) == pytest.approx(min(margins), abs=1e-5)
    assert min(margins) < metrics.margin(model(x), y) - 0.1
    assert jnp.array_equal(attack(model, x, y, step=jnp.array(0.0), key=getkey()), x)


def test_a_sweep_ends_at_the_largest_step_of_the_attack(getkey):
    model, images = network(getkey()), grey_images(getkey(), 4)
    part = Part(images, predicted(model, images), np.arange(4))
    attack = SpatialGrid(translations=1, rotations=3, degrees=1e-3)  # which fools nobody
    steps = [step for step, _ in step_sweep(attack, model, part, getkey())]
    assert np.allclose(steps, 10 ** np.arange(-2, 0.1, 0.5))
    assert GradientStep().largest_step == math.inf


def test_it_costs_a_pass_for_every_move_and_one_for_the_image(getkey):
    assert cost(SpatialGrid(translations=3, rotations=5), network(getkey())) == (46, 0)


def test_impossible_settings_and_images_are_refused():
    with pytest.raises(ValueError, match="got translations=0"):
        SpatialGrid(translations=0)
    with pytest.raises(ValueError, match="got 12 pixels"):
        moved(jnp.zeros(12), jnp.zeros(3))
