"""Attacks: every one in the registry, so that a new one is timed without another line."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_mnist import metrics, sweep
from robust_mnist.attacks import (
    ATTACKS,
    AbstractBallAttack,
    AbstractMinimalAttack,
    AbstractStepAttack,
    LinearRegion,
)
from robust_mnist.config import DEFAULT_NORMS, EPS, METHODS, SweepSettings
from robust_mnist.console import Console
from robust_mnist.data.pixels import to_float
from robust_mnist.models import MLP
from robust_mnist.records import RunFolder
from robust_mnist.sweep import attack_batch, break_batch, cost, method_key


IMAGES = 1000
# Attacks of more passes than this run on fewer images, and in fewer rounds.
LONG, FEW = 250, 100
STEP = 1000.0
# Where the lab's network is neither right nor wrong about nearly everything.
HALFWAY = {"linf": 0.04, "l2": 0.6}
BALL_ATTACKS = [name for name, a in ATTACKS.items() if isinstance(a, AbstractBallAttack)]
MINIMAL_ATTACKS = [name for name, a in ATTACKS.items() if isinstance(a, AbstractMinimalAttack)]
# A cell of a sweep is the same work for any attack, beside the attack itself.
CELLS = [name for name in BALL_ATTACKS if name in METHODS["linf"] + METHODS["l2"]]
STEP_ATTACKS = [name for name, a in ATTACKS.items() if isinstance(a, AbstractStepAttack)]


@pytest.fixture(scope="module")
def images(mnist):
    return jnp.asarray(to_float(mnist.test_images[:IMAGES]))


@pytest.fixture(scope="module")
def labels(mnist):
    return jnp.asarray(mnist.test_labels[:IMAGES], jnp.int32)


@pytest.mark.parametrize("name", BALL_ATTACKS)
def bench_ball_attack(benchmark, time_compiled, network, images, labels, name):
    eps = EPS[ATTACKS[name].ball.name][-1]

    images, attacked = time_attack(benchmark, time_compiled, network, images, labels, name, eps)

    sizes = jax.vmap(ATTACKS[name].ball.size)(attacked - images)
    assert jnp.max(sizes) <= eps * (1 + 1e-5)


@pytest.mark.parametrize("name", MINIMAL_ATTACKS)
def bench_minimal_attack(benchmark, time_compiled, network, images, labels, name):
    if isinstance(ATTACKS[name], LinearRegion):
        network = relu(network)

    time_attack(benchmark, time_compiled, network, images, labels, name, np.inf)


def time_attack(benchmark, time_compiled, network, images, labels, name, eps):
    """Time an attack on as many images as its cost allows; those, and its answers."""
    attack, key = ATTACKS[name], method_key(jax.random.key(0), name)
    count = IMAGES if sum(cost(attack, network)) <= LONG else FEW

    def run(model, images, labels, ids, radii):
        return attack_batch(attack, model, images, labels, ids=ids, eps=radii, key=key)

    ids, radii = jnp.arange(count, dtype=jnp.int32), jnp.full(count, eps, jnp.float32)
    images, labels = images[:count], labels[:count]
    attacked = time_compiled(
        run, network, images, labels, ids, radii, items=count, rounds=15 if count > FEW else 3
    )

    count_evaluations(benchmark, network)
    check(network, images, labels, attacked)
    return images, attacked


def relu(network):
    """The same weights with another activation: no network that was trained, but as much work."""
    sizes = (network.layers[0].weight.shape[1], *(len(layer.bias) for layer in network.layers))
    blank = MLP(sizes, "relu", key=jax.random.key(0))
    return eqx.tree_at(lambda model: model.layers, blank, network.layers)


@pytest.mark.parametrize("name", STEP_ATTACKS)
def bench_step_attack(benchmark, time_compiled, network, images, labels, name):
    attack = ATTACKS[name]
    count = IMAGES if sum(cost(attack, network)) <= LONG else FEW
    keys = jax.random.split(method_key(jax.random.key(0), name), count)

    def run(model, images, labels, keys, step):
        one = lambda x, y, key: attack(model, x, y, step=step, key=key)
        return jax.vmap(one)(images, labels, keys)

    step = jnp.asarray(min(STEP, attack.largest_step), jnp.float32)
    images, labels = images[:count], labels[:count]
    attacked = time_compiled(
        run, network, images, labels, keys, step, items=count, rounds=30 if count > FEW else 3
    )

    count_evaluations(benchmark, network)
    check(network, images, labels, jnp.clip(attacked, 0.0, 1.0))


@pytest.mark.parametrize("name", ["pgd40-linf", "pgd40-l2"])
def bench_radii(benchmark, time_compiled, network, mnist, name):
    """The searches of a curve, ten radii on all test images, without the decisions of the host."""
    if jax.default_backend() == "cpu":
        pytest.skip(
            "for accelerators: a CPU does what bench_ball_attack says, a hundred times over"
        )
    attack, key = ATTACKS[name], method_key(jax.random.key(0), name)
    images = jnp.asarray(to_float(mnist.test_images))
    labels, ids = (
        jnp.asarray(mnist.test_labels, jnp.int32),
        jnp.arange(len(images), dtype=jnp.int32),
    )
    largest = 2.0 * HALFWAY[attack.ball.name]
    eps = jnp.asarray(np.linspace(largest / 10, largest, 10), jnp.float32)

    def run(model, images, labels, ids, eps):
        def one(radius):
            radii = jnp.full(len(ids), radius)
            found = attack_batch(attack, model, images, labels, ids=ids, eps=radii, key=key)
            return jax.vmap(metrics.margin)(jax.vmap(model)(found), labels) > 0

        return jax.lax.map(one, eps)

    right = time_compiled(run, network, images, labels, ids, eps, items=len(eps) * len(ids))

    count_evaluations(benchmark, network)
    accuracy = jnp.mean(right, axis=1)
    assert jnp.all(jnp.diff(accuracy) <= 0.001)
    assert accuracy[0] > 0.7
    assert accuracy[-1] < 0.2


@pytest.mark.parametrize("name", CELLS)
def bench_break(benchmark, time_call, network, mnist, name):
    """A cell of a sweep on all test images: search on the device, decision on the host."""
    attack = ATTACKS[name]
    eps, count = HALFWAY[attack.ball.name], len(mnist.test_labels)
    run = lambda: break_batch(
        attack, network, mnist.test_images, mnist.test_labels,
        ids=np.arange(count), eps=eps, key=method_key(jax.random.key(0), name),
    )  # fmt: skip

    found = time_call(run, items=count, rounds=5)

    wrong = np.isfinite(found.size)
    assert 0.25 < wrong.mean() < 0.75
    assert np.all(found.size[wrong] <= eps)
    assert found.nonfinite == 0
    benchmark.extra_info.update(
        eps=eps,
        robust_accuracy=1 - float(wrong.mean()),
        flags=np.packbits(wrong).tobytes().hex(),
        near_zero=found.close,
    )


def bench_standard_evaluation(time_call, network, split, tmp_path):
    """What `run` does with a trained network by default, without figures: every cell and stage."""
    number = itertools.count()
    plan = sweep.plan(SweepSettings(), network.activation)
    about = dict.fromkeys(("dataset", "model", "objective", "accelerator"), "")

    def evaluate():
        folder = RunFolder(tmp_path / str(next(number)))
        folder.update({"settings": {"seed": 0, "seeds": 1}})
        task = sweep.Task(folder, split.test, plan, attack_seed=0, about=about)
        sweep.sweep_run(task, {0: network}, Console(quiet=True))
        return folder.load(panels=False)

    found = time_call(evaluate, items=len(split.test.labels), rounds=1, once=True)
    [linf], [l2] = (found.radii_of(norm) for norm in DEFAULT_NORMS)
    assert 0.05 < linf.attacked_accuracy([0.05])[0] < 0.6
    assert 0.05 < l2.attacked_accuracy([0.8])[0] < 0.6
    assert linf.certified_accuracy([0.0025])[0] > 0.5


def count_evaluations(benchmark, network):
    """Put the cost of an attack in forward passes of one image beside its images per second."""
    forward = 2 * sum(layer.weight.size for layer in network.layers)
    facts = benchmark.extra_info
    if "flops_per_s" in facts:  # not for what does not tell, nor under --benchmark-disable
        facts["image_evaluations"] = facts["flops"] / forward
        facts["image_evaluations_per_s"] = facts["flops_per_s"] / forward


def check(network, images, labels, attacked):
    """Images stayed images, and most of those that were right were moved and lost margin.

    The one pixel that FGM moves in L1 often stands at its end.
    """
    assert jnp.all((attacked >= 0) & (attacked <= 1))
    margins = lambda x: jax.vmap(metrics.margin)(jax.vmap(network)(x), labels)
    right = margins(images) > 0
    moved = right & jnp.any(attacked != images, axis=1)
    lower = moved & (margins(attacked) < margins(images))
    assert jnp.sum(moved) > 0.5 * jnp.sum(right)
    assert jnp.sum(lower) > 0.9 * jnp.sum(moved)
