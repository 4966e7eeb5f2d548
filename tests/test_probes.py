"""Small experiments on the attacks agree with what the driver decides."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from problems import Affine, grey_images, network, predicted

from robust_mnist.attacks import ATTACKS
from robust_mnist.clock import stopwatch
from robust_mnist.data import Part
from robust_mnist.records import Alone, Radii, Records
from robust_mnist.sweep import _probes, break_batch, method_key, probe_panels


EPS = 0.02


@pytest.fixture(scope="module")
def model():
    return network(jax.random.key(0))


@pytest.fixture(scope="module")
def part(model):
    images = grey_images(jax.random.key(1), 24)
    labels = predicted(model, images)
    labels[:2] = (labels[:2] + 1) % 10
    return Part(images, labels, np.arange(100, 124))


def records_of(*, methods=("pgd40-linf", "fmn100-linf"), stages=True):
    upper = np.where(np.arange(24) < 2, 0.0, np.inf)
    upper[20:] = EPS
    nobody = np.full(24, "")
    row = {"norm": "linf", "kind": "attacked", "eps": EPS, "seed": 0}
    return Records(
        name="toy",
        info={
            "settings": {"seed": 0, "seeds": 1}, "sweep": {"attack_seed": 7},
            "stages": {"0": ["linf/fmn100-linf"]} if stages else {},
        },
        history=pd.DataFrame(),
        rows=pd.DataFrame([row | {"method": method} for method in methods]),
        radii={
            "upper/linf": upper, "lower/linf": np.zeros(24), "certifier/linf": nobody,
            "method/linf": nobody, "reached/linf": np.full(24, -1),
            **{f"upper/linf/{name}": upper for name in methods},
        },
        panels={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def panels(model, part):
    witness = part.images.astype(np.float32) / 255
    return probe_panels(model, part, records_of(), {"linf": witness})


def found(panels, name):
    return panels[f"{name.partition('/')[0]}/linf/{name.partition('/')[2]}"]


def broken(model, part, name, key):
    """What the driver decides, of the right answers."""
    result = break_batch(
        ATTACKS[name], model, part.images, part.labels, ids=part.ids, eps=EPS, key=key
    )
    return np.arange(24) >= 2, result


def test_the_steps_of_the_registered_pgd_are_one_of_the_cells(model, part, panels):
    key = jax.random.fold_in(method_key(jax.random.key(7), "probe"), 0)
    right, result = broken(model, part, "pgd40-linf", key)
    assert result.close == 0  # nothing is left to rounding
    row, column = (
        list(found(panels, "grid/shares")).index(0.1),
        list(found(panels, "grid/steps")).index(40),
    )
    standing = right & ~result.broken
    assert 0 < standing.sum() < 22
    assert found(panels, "grid/accuracy")[row, column] == standing.mean()
    np.testing.assert_array_equal(found(panels, "restarts/broken")[0], right & result.broken)
    # A single step as long as the radius gets further than one of a hundredth of it.
    assert found(panels, "grid/accuracy")[0, 0] > found(panels, "grid/accuracy")[-1, 0]


def test_convergence_ends_where_the_attack_itself_does(model, part, panels):
    methods = list(found(panels, "convergence/methods"))
    assert methods == ["fmn100-linf", "pgd40-linf"]
    curves = found(panels, "convergence/accuracy")
    assert curves.shape == (2, 101)
    assert np.isnan(curves[1, 41:]).all()
    for name, end in (("fmn100-linf", 100), ("pgd40-linf", 40)):
        right, result = broken(model, part, name, method_key(jax.random.key(7), name))
        within = result.broken if name.startswith("pgd") else result.own <= EPS
        curve = curves[methods.index(name)]
        # The driver shortens what FMN found, which may bring an image or two within eps.
        assert 0 <= curve[end] - np.mean(right & ~within) <= (2 / 24 if end == 100 else 0)
        assert np.all(np.diff(curve[: end + 1]) <= 0)
        assert curve[0] > curve[end]
    assert np.all(found(panels, "convergence/seconds") > 0)


def test_restarts_and_lengths_of_step_share_one_program(model, part):
    alone = Alone.of(records_of(), "linf")
    radii = records_of().radii_of("linf")[0]
    probe = _probes._Probe(model, part, radii, alone, jax.random.key(7))
    pgd = ATTACKS["pgd40-linf"]
    probe._step_grid(pgd)
    with stopwatch() as elapsed:
        probe._step_grid(pgd)
        probe._restarts(pgd)
    assert elapsed.compilations == 0


def test_attacks_that_are_not_compared_are_not_tried(model, part):
    witness = part.images.astype(np.float32) / 255
    for records in (records_of(stages=False), records_of(methods=("pgd40-linf",))):
        assert set(probe_panels(model, part, records, {"linf": witness})) == {"uint8/linf"}


def test_the_images_of_an_experiment_are_spread_over_all(model):
    records = records_of()
    alone = Alone.of(records, "linf")
    many = dataclasses.replace(
        alone, upper=np.zeros((2, 2000)), best=np.zeros(2000), places=np.arange(2000)
    )
    radii = Radii.clean("linf", np.zeros(2000, bool), np.zeros(2000, np.int64))
    big = Part(np.zeros((2000, 64), np.uint8), np.zeros(2000, np.uint8), np.arange(2000))
    places = _probes._Probe(model, big, radii, many, jax.random.key(0)).places
    assert (places.size, places[0], places[-1]) == (_probes.IMAGES, 0, 1999)
    assert set(np.diff(places)) == {7, 8}


def test_a_wrong_image_survives_rounding_if_its_grey_levels_are_wrong_too():
    """Wrong from 0.503 on: 128 of 255 is just below, and 153 of 255 is 0.6."""
    slope = jnp.eye(64)[0]
    model = Affine(jnp.stack([jnp.zeros(64), slope]), jnp.array([0.503, 0.0]))
    part = Part(np.zeros((4, 64), np.uint8), np.zeros(4, np.uint8), np.arange(4))
    witness = np.zeros((4, 64), np.float32)
    witness[:, 0] = [0.5035, 0.6, 0.9, 0.9]
    upper = np.array([0.5035, 0.6, 0.0, np.inf])  # the last two are a clean mistake and unbroken
    radii = Radii.attacked("linf", "pgd40-linf", upper, np.ones(4, np.int64))
    assert list(_probes._survivors(model, radii, witness, part)) == [1, 2]
    none = dataclasses.replace(radii, upper=np.array([0.0, 0.0, np.inf, np.inf]))
    assert list(_probes._survivors(model, none, witness, part)) == [0, 0]
