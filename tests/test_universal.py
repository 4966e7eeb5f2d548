"""Universal perturbations, where the best one is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Affine, grey_images, network, predicted

from robust_mnist import sweep
from robust_mnist.config import EPS
from robust_mnist.data import Part, Split
from robust_mnist.data.pixels import to_float
from robust_mnist.sweep import _universal, universal_eps, universal_panel
from robust_mnist.threat import L2, Linf


def split_of(model, key, count):
    parts = [grey_images(k, count) for k in jax.random.split(key, 2)]
    train, test = (Part(x, predicted(model, x), np.arange(count)) for x in parts)
    return Split(train=train, valid=test, test=test)


@pytest.mark.parametrize(("ball", "eps"), [(Linf(), 0.02), (L2(), 0.15)], ids=["linf", "l2"])
def test_on_an_affine_classifier_it_is_along_the_weights_wherever_that_suffices(ball, eps, getkey):
    """Between two classes the best change is the same for every image: along w0 - w1."""
    weight = jax.random.normal(getkey(), (10, 64))
    within = jnp.arange(10)[:, None] < 2
    middle = -jnp.sum(weight, axis=1) / 2  # so that there are as many images of either
    model = Affine(jnp.where(within, weight, 0.0), jnp.where(within[:, 0], middle, -1e3))
    split = split_of(model, getkey(), 300)
    panel = universal_panel(model, split, eps=eps, ball=ball)
    slope = np.asarray(weight[1] - weight[0])
    best = eps * (np.sign(slope) if ball.name == "linf" else slope / np.linalg.norm(slope))
    assert (float(panel["universal/eps"]), str(panel["universal/norm"])) == (eps, ball.name)
    for source, sign in ((0, 1), (1, -1)):
        found = panel["universal/perturbations"][source]
        assert float(ball.size(jnp.asarray(found))) <= np.float32(eps) * (1 + 1e-6)
        test = split.test.take(np.flatnonzero(split.test.labels == source))
        worst = np.clip(to_float(test.images) + (sign * best).astype(np.float32)[None], 0, 1)
        possible = np.mean(sweep.judge_batch(model, worst, test.labels)[0] <= 0)
        assert 0.1 < possible < 1
        assert panel["universal/fooled"][source] == pytest.approx(possible, abs=0.06)
        # With two classes a wrong image is one of the other class.
        other = panel["universal/flow"][source, 1 - source]
        assert other == pytest.approx(panel["universal/fooled"][source], abs=0.06)
    # What helps one of the two classes helps not the other.
    assert panel["universal/fooled"][10] < possible


def test_its_radius_is_one_of_the_sweep():
    assert universal_eps(EPS["linf"][1:]) == 0.1
    assert universal_eps(EPS["l2"][1:]) == 2.0
    assert universal_eps([0.01, 0.02, 0.03]) == 0.03
    assert universal_eps([0.03]) == 0.03


def test_shares_are_of_held_out_images_that_are_right_without(getkey, monkeypatch):
    monkeypatch.setattr(_universal, "STEPS", 5)
    model = network(getkey())
    split = split_of(model, getkey(), 200)
    split.test.labels[:20] = (split.test.labels[:20] + 1) % 10
    panel = universal_panel(model, split, eps=0.2)
    right = predicted(model, split.test.images) == split.test.labels
    seen = np.isin(split.test.labels, split.train.labels)
    assert panel["universal/images"][10] == right.sum() == 180
    counts = [np.sum(right & seen & (split.test.labels == label)) for label in range(10)]
    assert panel["universal/images"][:10].tolist() == counts
    moved = to_float(split.test.images) + panel["universal/perturbations"][split.test.labels]
    margins, _ = sweep.judge_batch(model, np.clip(moved, 0, 1), split.test.labels)
    for label in np.flatnonzero(counts):
        of = right & (split.test.labels == label)
        assert panel["universal/fooled"][label] == pytest.approx(np.mean(margins[of] <= 0))
    # A class that no image has is told as unknown.
    missing = np.array(counts) == 0
    assert missing.any()
    assert np.isnan(panel["universal/fooled"][:10][missing]).all()
    assert np.isnan(np.diag(panel["universal/flow"])).all()
