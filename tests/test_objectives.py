import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Affine, bounds, case, grey_images, network, predicted, reached

from robust_mnist import data, metrics, training
from robust_mnist.attacks import PGD, CrossEntropy as AttackCrossEntropy
from robust_mnist.certify import IBP
from robust_mnist.config import TrainSettings
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.models import MLP
from robust_mnist.objectives import OBJECTIVES, Adversarial, CrossEntropy, Interval
from robust_mnist.threat import L2, Linf


every_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
START, LATE = jnp.array(0), jnp.array(10**6)
SETTINGS = TrainSettings(sizes=(784, 16, 10), epochs=60, batch_size=50, record_every=30, seeds=2)


@pytest.fixture
def problem(getkey):
    model, images = network(getkey()), grey_images(getkey(), 8)
    return model, jnp.asarray(to_float(images)), jnp.asarray(predicted(model, images), jnp.int32)


@pytest.fixture(scope="module")
def parts():
    split = data.split(data.load("mnist"), "lab")
    cut = lambda part, count: Part(part.images[:count], part.labels[:count], part.ids[:count])
    return cut(split.train, 200), cut(split.valid, 100)


@pytest.fixture(scope="module")
def trained(parts):
    """What training with an objective gives, and how many programs it took."""

    @functools.cache
    def trained(name):
        calls, program = [], training.advance

        def counted(*args):
            calls.append(args)
            return program(*args)

        training._jitted.cache_clear()  # as if it were the first in its process
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "advance", counted)
            found = training.train(dataclasses.replace(SETTINGS, objective=name), *parts)
        return found, len(calls)

    return trained


def losses(objective, problem, key, step=LATE):
    return np.asarray(_losses(objective, *problem, step, key))


# Compiled once for all tests of an objective.
@eqx.filter_jit
def _losses(objective, model, images, labels, step, key):
    return jax.vmap(lambda x, y: objective(model, x, y, step=step, key=key))(images, labels)


@eqx.filter_jit
def loss_and_gradient(objective, model, images, labels, step, key):
    """What a step of training descends, with its gradient."""

    @eqx.filter_value_and_grad
    def total(model):
        mean = jnp.mean(_losses(objective, model, images, labels, step, key))
        return mean + objective.penalty(model, step=step)

    return total(model)


# --- what holds of every objective ---------------------------------------------------------------


@every_objective
@pytest.mark.parametrize("step", [START, LATE], ids=["start", "late"])
def test_loss_and_gradient_are_finite(objective, step, problem, getkey):
    value, gradient = loss_and_gradient(objective, *problem, step, getkey())
    assert value >= 0
    leaves = jax.tree.leaves(gradient)
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    assert any(np.any(leaf) for leaf in leaves)


@every_objective
def test_the_same_key_gives_the_same_loss(objective, problem, getkey):
    key = getkey()
    assert np.array_equal(losses(objective, problem, key), losses(objective, problem, key))


@every_objective
def test_no_objective_asks_less_than_the_clean_image(objective, problem, getkey):
    """Every entry bounds the clean cross-entropy from above, be it by half of itself."""
    plain = losses(CrossEntropy(), problem, getkey())
    assert np.all(losses(objective, problem, getkey()) >= plain - 1e-4)


@pytest.mark.parametrize(
    "name", [case(name, long=name == "adversarial-linf-0.3") for name in OBJECTIVES]
)
def test_training_learns_in_one_compiled_program(name, trained):
    found, programs = trained(name)
    assert programs == 1
    assert all(record["valid_accuracy"] > 0.6 for record in found.history[-2:])
    assert not np.array_equal(*(np.asarray(m.layers[0].weight) for m in found.models))


# --- adversarial training ------------------------------------------------------------------------


def test_an_adversarial_loss_of_an_affine_network_has_a_closed_form(getkey):
    """Two classes, away from the box: the worst margin is `w.x - eps |w|_1` in Linf."""
    weight = jax.random.normal(getkey(), (16,)) / 4
    model = Affine(jnp.stack([weight, -weight]) / 2, jnp.zeros(2))
    x, eps = jnp.full(16, 0.5), 0.1
    attack = PGD(Linf(), steps=7, rel_step_size=0.5, loss=AttackCrossEntropy())
    problem = model, x[None], jnp.array([0])
    [found] = losses(Adversarial(attack, eps), problem, getkey(), START)
    worst = weight @ x - eps * jnp.sum(jnp.abs(weight))
    assert jnp.allclose(found, jnp.log1p(jnp.exp(-worst)), atol=1e-5)


def test_the_radius_of_adversarial_training_grows_with_the_step(getkey):
    """From the clean loss to that at the full radius: by the closed form above, on the way too."""
    weight = jax.random.normal(getkey(), (16,)) / 4
    model, x = Affine(jnp.stack([weight, -weight]) / 2, jnp.zeros(2)), jnp.full(16, 0.5)
    attack = PGD(Linf(), steps=7, rel_step_size=0.5, loss=AttackCrossEntropy())
    objective = Adversarial(attack, 0.1, ramp=200)
    for step, eps in ((0, 0.0), (50, 0.025), (200, 0.1), (5000, 0.1)):
        [found] = losses(objective, (model, x[None], jnp.array([0])), getkey(), jnp.array(step))
        worst = weight @ x - eps * jnp.sum(jnp.abs(weight))
        assert jnp.allclose(found, jnp.log1p(jnp.exp(-worst)), atol=1e-5)


@pytest.mark.parametrize("ball", [Linf(), L2()], ids=["linf", "l2"])
def test_the_image_under_attack_counts_as_given(ball, problem, getkey):
    """The gradient is that of plain training on the very images that the attack returns."""
    model, images, labels = problem
    attack, key = PGD(ball, steps=3, loss=AttackCrossEntropy()), getkey()
    objective, search = Adversarial(attack, 0.2), jax.random.split(key)[0]
    attacked = jax.vmap(lambda x, y: attack(model, x, y, eps=jnp.array(0.2), key=search))
    worst = jax.jit(attacked)(images, labels)

    def given(model):
        return jnp.mean(jax.vmap(lambda z, y: metrics.cross_entropy(model(z), y))(worst, labels))

    _, ours = loss_and_gradient(objective, *problem, START, key)
    theirs = jax.jit(jax.grad(given))(model)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("eps", "ramp"), [(0.1, 0), (0.3, 2000)])
def test_the_entry_attacks_as_its_name_says(eps, ramp):
    entry = OBJECTIVES[f"adversarial-linf-{eps}"]
    assert (entry.eps, entry.ramp, entry.objective) == (eps, ramp, CrossEntropy())
    assert entry.attack == PGD(Linf(), steps=7, rel_step_size=0.25, loss=AttackCrossEntropy())


def test_adversarial_training_moves_robust_accuracy(parts, trained):
    """After the same steps, many more images stand at its radius than after plain training."""
    x, y = jnp.asarray(to_float(parts[0].images)), parts[0].labels
    attack, key = PGD(Linf(), steps=10), jax.random.key(0)

    def standing(name):
        model = trained(name)[0].models[0]
        return np.mean(np.asarray(reached(attack, model, x, y, 0.1, key)) > 0)

    assert standing("adversarial-linf-0.1") > standing("cross-entropy") + 0.3


# --- interval training ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "eps", "share"),
    [(0, 0.0, 1.0), (500, 0.0, 1.0), (1500, 0.05, 0.75), (2500, 0.1, 0.5), (9999, 0.1, 0.5)],
)
def test_radius_and_share_move_linearly_after_the_warm_up(step, eps, share):
    found = OBJECTIVES["interval-linf-0.1"].schedule(jnp.array(step))
    assert np.allclose(found, (eps, share), atol=1e-6)


def test_an_interval_loss_of_an_affine_network_has_a_closed_form(getkey):
    """Intervals are exact there: each margin falls by eps times the dual norm of its row."""
    weight = jax.random.normal(getkey(), (10, 64)) / 8
    model = MLP((64, 10), key=getkey())
    model = jax.tree.unflatten(jax.tree.structure(model), [weight, jnp.zeros(10)])
    x, y = jnp.full(64, 0.5), jnp.array(3)
    rows = weight[3][None] - weight
    worst = -(rows @ x - 0.1 * jnp.sum(jnp.abs(rows), axis=1))
    expected = (metrics.cross_entropy(model(x), y) + jax.nn.logsumexp(worst)) / 2
    [found] = losses(OBJECTIVES["interval-linf-0.1"], (model, x[None], y[None]), getkey())
    assert jnp.allclose(found, expected, atol=1e-3)


def test_what_is_trained_is_above_what_any_attack_reaches(problem, getkey):
    """The worst logits are a bound: their cross-entropy is at least that of each wrong image."""
    model, images, labels = problem
    bound = losses(Interval(0.02, warm_up=0, ramp=1, clean=0.0), problem, getkey())
    attack = Adversarial(PGD(Linf(), steps=20, loss=AttackCrossEntropy()), 0.02)
    assert np.all(bound >= losses(attack, (model, images, labels), getkey()) - 1e-4)


def test_before_the_ramp_interval_training_is_plain(problem, getkey):
    plain = losses(CrossEntropy(), problem, getkey())
    assert np.allclose(losses(OBJECTIVES["interval-linf-0.1"], problem, getkey(), START), plain)


def test_interval_training_certifies_what_plain_training_does_not(parts, trained, monkeypatch):
    quick = Interval(0.05, warm_up=20, ramp=200)
    monkeypatch.setitem(training.OBJECTIVES, "interval-linf-0.1", quick)
    settings = dataclasses.replace(SETTINGS, objective="interval-linf-0.1")
    ours, plain = training.train(settings, *parts), trained("cross-entropy")[0]
    x, y = jnp.asarray(to_float(parts[0].images)), parts[0].labels
    certified = lambda model: np.mean(np.asarray(bounds(IBP(), model, x, y, 0.05)) > 0)
    assert certified(ours.models[0]) > certified(plain.models[0]) + 0.5


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"precision": "bf16"}, "got Rounded; take --model mlp and --precision float32"),
        ({"activation": "gelu"}, "knows the activations elu, .*, got gelu"),
    ],
)
def test_networks_without_intervals_are_refused(change, complaint):
    settings = TrainSettings(objective="interval-linf-0.1", **change)
    with pytest.raises(InputError, match=complaint):
        training.check(settings)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: Adversarial(PGD(), -0.1),
            "adversarial training needs eps of at least 0, got -0.1",
        ),
        (lambda: Adversarial(PGD(), 0.1, ramp=-1), "ramp of at least 0, got -1"),
        (lambda: Interval(-0.1, 0, 1), "interval training needs eps of at least 0, got -0.1"),
        (lambda: Interval(0.1, 0, 0), "ramp of at least 1 steps, got 0 and 0"),
        (lambda: Interval(0.1, 0, 1, clean=2.0), r"clean in \[0, 1\], got 2.0"),
    ],
)
def test_impossible_numbers_are_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
