import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import grey_images, network, predicted
from scipy import stats
from test_cli import complaint

from robust_mnist import statistics
from robust_mnist.certify import CERTIFIERS, AbstractCertifier, Gaussian
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.models import MLP
from robust_mnist.records import Radii, RunFolder, Smoothed
from robust_mnist.sweep import certify_batch, smooth


def test_the_lower_end_is_too_high_as_seldom_as_promised():
    """Exactly: over all counts a known binomial can give, not by drawing some."""
    for trials, chance, alpha in [(100, 0.9, 0.001), (1000, 0.7, 0.05), (30, 0.5, 0.01)]:
        counts = np.arange(trials + 1)
        ends = statistics.clopper_pearson(counts, trials, alpha=alpha)
        wrong = stats.binom.pmf(counts, trials, chance)[ends > chance].sum()
        assert 0 < wrong <= alpha
        # The count next to it would break the promise.
        assert wrong + stats.binom.pmf(counts[ends <= chance][-1], trials, chance) > alpha
    assert statistics.clopper_pearson(0, 10, alpha=0.001) == 0.0
    assert statistics.clopper_pearson(10, 10, alpha=0.001) == pytest.approx(0.001**0.1)


def affine(key, pixels=64):
    """Two classes and a plane: the smoothed classifier is the same, its radius the distance."""
    weight = jax.random.normal(key, (2, pixels)) / 8
    model = MLP((pixels, 2), key=key)
    return jax.tree.unflatten(jax.tree.structure(model), [weight, jnp.zeros(2)])


def part_of(model, images):
    return Part(images, predicted(model, images), np.arange(len(images)))


def distance(model, images):
    weight = np.asarray(model.layers[0].weight, np.float64)
    normal = weight[0] - weight[1]
    return np.abs(images / 255 @ normal) / np.linalg.norm(normal)


def test_an_affine_classifier_is_certified_up_to_its_plane(getkey):
    model, images, sigma, samples = affine(getkey()), grey_images(getkey(), 40), 0.5, 20_000
    draws = {"samples": samples, "select": samples, "key": getkey()}
    found = smooth(Gaussian(sigma), model, part_of(model, images), **draws)
    exact = distance(model, images)
    assert np.all(found.radii <= exact)
    assert found.largest == pytest.approx(sigma * stats.norm.ppf(0.001 ** (1 / samples)))
    # As close as so many draws allow, on each image: five standard errors of the probability.
    chance = stats.norm.cdf(exact / sigma)
    worse = chance - (stats.norm.ppf(0.999) + 5) * np.sqrt(chance * (1 - chance) / samples) - 1e-3
    assert np.all(found.radii >= sigma * stats.norm.ppf(np.maximum(worse, 0.5)))
    near = exact < 1e-3
    assert np.all(found.radii[near] == 0)
    assert np.array_equal(found.predicted >= 0, found.radii > 0)


def test_a_certificate_is_wrong_as_seldom_as_promised(getkey):
    """Of 2,000 certificates at 5 %, each of the same image with other draws."""
    model, images = affine(getkey()), np.tile(grey_images(getkey(), 1), (2000, 1))
    found = smooth(
        Gaussian(0.5), model, part_of(model, images), samples=500, alpha=0.05, key=getkey(),
        chunk=500,
    )  # fmt: skip
    wrong = np.sum(found.radii > distance(model, images))
    assert 40 <= wrong <= stats.binom.ppf(0.9999, 2000, 0.05)


def test_noise_drawn_in_the_first_layer_is_noise_in_the_pixels(getkey):
    model, x, samples = network(getkey(), gain=1.5), jax.random.uniform(getkey(), (64,)), 40_000
    votes = np.asarray(Gaussian(0.7).votes(model, x, samples=samples, key=getkey()))
    noise = 0.7 * jax.random.normal(getkey(), (samples, 64))
    direct = np.bincount(np.argmax(jax.vmap(model)(x[None] + noise), axis=1), minlength=10)
    assert votes.sum() == samples
    seen = (votes + direct) > 20
    assert seen.sum() >= 2
    table = np.stack([votes[seen], direct[seen]])
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_a_tie_and_a_nan_vote_for_nobody(getkey):
    model = affine(getkey())
    for value in (0.0, jnp.nan):
        same = jax.tree.map(lambda leaf, v=value: leaf * v, model)
        assert not Gaussian(0.5).votes(same, jnp.ones(64), samples=50, key=getkey()).any()


def test_votes_depend_on_the_index_of_an_image_and_on_nothing_else(getkey):
    model, images, key = network(getkey()), grey_images(getkey(), 7), getkey()
    part = part_of(model, images)
    draw = lambda part, **more: smooth(Gaussian(0.5), model, part, samples=1500, key=key, **more)
    whole, split = draw(part, chunk=7), draw(part, chunk=3)
    assert np.array_equal(whole.votes, split.votes)
    some = draw(part.take(np.array([5, 2, 6])), chunk=3)
    assert np.array_equal(some.votes, whole.votes[[5, 2, 6]])
    assert np.array_equal(some.first, whole.first[[5, 2, 6]])
    # The draws that choose are others than those that count.
    again = draw(part, chunk=3, select=1500)
    assert not np.array_equal(again.first, again.votes)


def known(votes, first=None, **change):
    votes = np.asarray(votes)
    first = votes if first is None else np.asarray(first)
    labels = np.zeros(len(votes), np.uint8)
    found = Smoothed(0.5, 0.001, labels, first, votes, int(votes[0].sum()))
    return dataclasses.replace(found, **change)


def test_abstentions_and_mistakes_count_against_the_smoothed_classifier():
    found = known([[990, 10], [520, 480], [10, 990], [1000, 0]])
    sure = 0.5 * stats.norm.ppf(stats.beta.ppf(0.001, 990, 11))
    assert found.radii == pytest.approx([sure, 0.0, sure, found.largest])
    assert found.predicted.tolist() == [0, -1, 1, 0]
    assert found.abstained == 1
    assert found.certified_accuracy([0.0, 0.9 * found.largest]).tolist() == [0.5, 0.25]
    assert found.average_radius == pytest.approx((sure + found.largest) / 4)
    # Those that chose another class than the votes favour prove nothing.
    assert known([[990, 10]], first=[[1, 5]]).abstained == 1


def test_answers_are_those_of_the_two_sided_test():
    votes = [[60, 40], [67, 33], [33, 67], [50, 50], [0, 0]]
    found = known(votes, alpha=0.001)
    expected = [
        int(np.argmax(pair)) if sum(pair) and stats.binomtest(max(pair), sum(pair)).pvalue <= 0.001
        else -1
        for pair in votes
    ]  # fmt: skip
    assert found.answers().tolist() == expected == [-1, 0, 1, -1, -1]


def test_nothing_that_bounds_the_network_takes_what_is_known_of_the_smoothed_one(getkey):
    model, images = affine(getkey()), grey_images(getkey(), 4)
    part = part_of(model, images)
    found = smooth(Gaussian(0.5), model, part, samples=100, key=getkey())
    assert not isinstance(found, Radii)
    assert not isinstance(Gaussian(0.5), AbstractCertifier)
    assert all(isinstance(certifier, AbstractCertifier) for certifier in CERTIFIERS.values())
    with pytest.raises((TypeError, AttributeError)):
        Radii.clean("l2", np.ones(4, bool), part.labels.astype(np.int64)).merge(found)
    with pytest.raises(TypeError):
        certify_batch(Gaussian(0.5), model, images, part.labels, eps=0.1)


def test_impossible_settings_are_refused(getkey):
    model, images = affine(getkey()), grey_images(getkey(), 2)
    draw = lambda **change: smooth(
        Gaussian(0.5), model, part_of(model, images), **({"samples": 10, "key": getkey()} | change)
    )
    with pytest.raises(InputError, match="samples and select must be at least 1, got 0"):
        draw(samples=0)
    with pytest.raises(InputError, match="alpha must be between 0 and 1, got 1"):
        draw(alpha=1.0)
    with pytest.raises(ValueError, match="sigma must be above 0, got 0"):
        Gaussian(0.0)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_a_run_is_smoothed_and_its_own_bounds_stay_as_they_are(run, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "mine")
    folder = RunFolder(tmp_path / "mine")
    before, old = folder.arrays("radii"), folder.rows()
    words = ["smooth", "--run", "mine", "--sigma", "0.5", "--samples", "2000", "--images", "15"]
    code, out, err = run(*words, "--json", "--quiet")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    shares = found["certified_accuracy"]
    assert shares == sorted(shares, reverse=True)
    assert found["eps"][0] == 0
    assert found["eps"][-1] <= found["largest"]
    assert found["images"] == 15
    after = folder.arrays("radii")
    assert all(np.array_equal(after[name], before[name]) for name in before)
    rows = folder.rows()
    mine = rows[rows.kind == "smoothed"]
    assert len(rows) == len(old) + len(mine)
    assert mine.accuracy.tolist() == pytest.approx(shares)
    assert set(mine.images) == {15}
    # The same draws again, and rows that replace the first.
    code, text, _ = run(*words, "--quiet")
    assert code == 0
    assert f"{shares[0]:.1%}" in text
    assert f"{found['abstained']} abstentions" in text
    assert "never about the network" in text
    assert len(folder.rows()) == len(rows)
    assert run("report", "mine", "--quiet")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--run"),
        (["--run", "mine", "--sigma", "0"], "--sigma must be a positive number, got 0"),
        (["--run", "mine", "--sigma", "nan"], "--sigma must be a positive number, got nan"),
        (["--run", "mine", "--samples", "0"], "--samples must be between 1 and .*got 0"),
        (["--run", "mine", "--select", "0"], "--select must be between 1 and .*got 0"),
        (["--run", "mine", "--alpha", "1"], "--alpha must be between 0 and 1, got 1"),
        (["--run", "mine", "--images", "31"], "--images must be at most the 30 test images, got"),
        (["--run", "gone"], "gone"),
    ],
)
def test_a_wrong_request_is_one_line(run, finished, tmp_path, words, said):
    shutil.copytree(finished, tmp_path / "mine")
    asked = complaint(run("smooth", *words, "--quiet"))
    assert re.search(said, asked), asked
