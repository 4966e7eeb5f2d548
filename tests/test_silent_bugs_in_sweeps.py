"""Silent bugs of what runs, judges and counts attacks; `test_silent_bugs.py` lists them all."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.experimental import io_callback
from problems import Affine, grey_images, network

from robust_mnist.attacks import ATTACKS, FGM, AbstractBallAttack, Margin, Transfer
from robust_mnist.audit import CHECKS, Evidence
from robust_mnist.bench._peaks import seconds_per_call
from robust_mnist.clock import stopwatch
from robust_mnist.config import SweepSettings
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii, RunFolder
from robust_mnist.sweep import Task, break_batch, plan, radii, sizes, sweep_run
from robust_mnist.threat import BALLS, Linf


# Wrong where the first pixel is brighter than a hundredth; the second has no say.
FIRST = jnp.eye(64)[0]
FIRST_PIXEL = Affine(jnp.outer(jnp.array([0.0, 100.0]), FIRST), jnp.array([1.0, 0.0]))


class Toy(AbstractBallAttack):
    """Lifts the first pixel by `eps` where the second is `bright`, up to some radius.

    Attributes:
        bright: Value of the second pixel of the images that are attacked.
        most: Largest radius at which anything is done.
    """

    bright: float
    most: float = 1.0

    @property
    def about(self):
        return "toy"

    @property
    def ball(self):
        return Linf()

    @property
    def one_step(self):
        return True

    def __call__(self, model, x, y, *, eps, key):
        del model, y, key
        acts = (x[1] == self.bright) & (eps <= self.most)
        return jnp.clip(x + jnp.where(acts, eps, 0.0) * FIRST, 0.0, 1.0)


TOYS = {"a-dark": Toy(0.0), "b-bright": Toy(1.0), "c-fickle": Toy(1.0, most=0.05)}


@pytest.fixture
def part():
    """Eight images: four dark and three bright ones, and a bright one that is a clean mistake."""
    images = np.zeros((8, 64), np.uint8)
    images[4:, 1] = 255
    images[7, 0] = 255
    return Part(images, np.zeros(8, np.uint8), np.arange(8))


@pytest.fixture
def toys(monkeypatch):
    for name, toy in TOYS.items():
        monkeypatch.setitem(ATTACKS, name, toy)


@pytest.fixture
def swept(tmp_path, part, toys):  # noqa: ARG001 the toys are wanted, not their value
    folder = RunFolder(tmp_path / "run")
    folder.update({"settings": {"seed": 0, "seeds": 1}})
    settings = SweepSettings(norm=("linf",), eps=(0.02, 0.1), methods=tuple(TOYS))
    about = {"dataset": "toy", "model": "mlp", "objective": "none", "accelerator": "cpu"}
    task = Task(folder, part, plan(settings, "tanh"), 0, about)
    assert sweep_run(task, {0: FIRST_PIXEL}, Console(quiet=True))
    return folder


def correct(folder, kind, method, eps):
    rows = folder.rows()
    [count] = rows[(rows.kind == kind) & (rows.method == method) & (rows.eps == eps)].correct
    return count


def test_every_share_is_of_all_images(swept):
    """6: ART divides by the images that are right and attacks its own answers, see also ART #512.

    21: CleverHans and ART take the network's answers for the labels, so there are no mistakes.
    """
    rows = swept.rows()
    assert set(rows.images) == {8}
    assert np.allclose(rows.accuracy, rows.correct / 8)
    assert rows[rows.kind == "clean"].correct.tolist() == [7]
    assert correct(swept, "worst", "all", 0.0) == 7
    assert correct(swept, "attacked", "a-dark", 0.02) == 3
    assert correct(swept, "attacked", "b-bright", 0.02) == 4


def test_the_worst_case_is_taken_image_by_image(swept):
    """7: AutoAttack #45: the lowest of four accuracies is not the accuracy under four attacks."""
    assert correct(swept, "worst", "all", 0.02) == 0


def test_a_break_settles_every_larger_radius(swept):
    """8: accuracy rises with eps in ART #687; here only the plain reading of one step may."""
    assert correct(swept, "step", "c-fickle", 0.02) == 4
    assert correct(swept, "step", "c-fickle", 0.1) == 7
    assert correct(swept, "attacked", "c-fickle", 0.02) == 4
    assert correct(swept, "attacked", "c-fickle", 0.1) == 4


def test_no_attack_is_credited_with_a_clean_mistake(part, monkeypatch):
    """22: a transferred image that fools a network which was wrong before is no success."""
    sibling = Affine(FIRST_PIXEL.weight, jnp.array([2.0, 0.0]))
    borrowed = Transfer(FGM(Linf(), Margin()), (sibling,))
    monkeypatch.setitem(ATTACKS, "a-borrowed", borrowed)
    found = radii(
        FIRST_PIXEL, part, norm="linf", methods="a-borrowed", eps=0.02, key=jax.random.key(0)
    )
    assert found.method.tolist() == ["a-borrowed"] * 7 + ["clean"]
    assert found.upper[7] == 0


class Coarse(AbstractClassifier):
    """Sees pixels rounded up to a fiftieth, unless the highest precision is asked for.

    An accelerator rounds what it multiplies, and leaves the gradient as it is.
    """

    model: AbstractClassifier

    def __call__(self, x):
        if jax.config.jax_default_matmul_precision == "highest":
            return self.model(x)
        return self.model(x + jax.lax.stop_gradient(jnp.ceil(x * 50) / 50 - x))


def test_what_is_wrong_in_reduced_precision_alone_does_not_count(part):
    """12: a product in TensorFloat-32 or bfloat16 is enough for a success elsewhere."""
    found = lambda model: break_batch(
        FGM(Linf(), Margin()), model, part.images, part.labels,
        ids=part.ids, eps=0.009, key=jax.random.key(0), chunk=8,
    )  # fmt: skip
    coarse, x = Coarse(FIRST_PIXEL), 0.009 * FIRST
    assert coarse(x)[0] < coarse(x)[1]
    assert FIRST_PIXEL(x)[0] > FIRST_PIXEL(x)[1]
    assert found(coarse).broken.tolist() == [False] * 7 + [True]
    assert found(coarse).size.tolist() == [np.inf] * 7 + [0.0]


class Tied(AbstractClassifier):
    """Sure of the first of two classes on black, undecided between the two elsewhere."""

    def __call__(self, x):
        return jnp.stack([jnp.where(jnp.max(x) > 0, 0.0, 1.0) - 0.0 * x[0], 0.0 * x[0]])


def test_a_tie_is_wrong_before_and_after_an_attack(part):
    """16: the largest of equal logits is the first, so that a tie is right for class 0 alone."""
    dark, bright = (
        break_batch(
            Toy(second), Tied(), part.images, part.labels,
            ids=part.ids, eps=0.5, key=jax.random.key(0), chunk=8,
        )
        for second in (0.0, 1.0)
    )  # fmt: skip
    assert dark.broken.all()
    assert np.all(dark.size[:4] == 0.5)
    assert np.all(bright.size[4:] == 0.0)
    assert np.all(dark.reached == 1)


# --- what the network gives -----------------------------------------------------------------------


class Softmaxed(AbstractClassifier):
    model: AbstractClassifier

    def __call__(self, x):
        return jax.nn.softmax(self.model(x))


_asked = []


class Restless(AbstractClassifier):
    """Another answer each time."""

    model: AbstractClassifier

    def __call__(self, x):
        def turn(_):
            _asked.append(None)
            return np.float32(1 + 1e-3 * (len(_asked) % 7))

        factor = io_callback(turn, jax.ShapeDtypeStruct((), jnp.float32), x[0])
        return self.model(x) * factor


@pytest.fixture
def logits_check():
    """The check of a network's logits, on some images."""
    images = grey_images(jax.random.key(1), 8)
    part = Part(images, np.zeros(8, np.uint8), np.arange(8))
    clean = Radii.clean("linf", np.ones(8, bool), np.zeros(8, np.int64))
    rows = pd.DataFrame([{"norm": "linf", "kind": "worst", "eps": 0.1}])
    return lambda model: CHECKS["G19-logits"](
        Evidence(model, part, rows, {"linf": clean}, {"linf": images / np.float32(255)}, {})
    )


def test_probabilities_are_told_from_logits(logits_check):
    """17: probabilities saturate in Foolbox #618 and #158, CleverHans #763."""
    model = network(jax.random.key(0))
    assert logits_check(model).verdict == "ok"
    found = logits_check(Softmaxed(model))
    assert found.verdict == "fail"
    assert "they are probabilities" in found.meaning


def test_a_network_that_changes_its_mind_is_noticed(logits_check):
    """18: dropout left on in AutoAttack #74, batch statistics in RobustBench #7."""
    found = logits_check(Restless(network(jax.random.key(0))))
    assert found.verdict == "fail"
    assert 1e-4 < found.number < 1e-2


# --- sizes and times ------------------------------------------------------------------------------


def test_sizes_are_those_of_the_norm_by_hand():
    """26: advertorch reports Linf for its L1 and L2 attacks, and the largest signed change."""
    clean = np.full((1, 4), 0.5, np.float32)
    found = clean + np.array([[-0.5, 0.25, 0.0, 0.0]], np.float32)
    by_hand = {"linf": 0.5, "l2": np.sqrt(0.3125), "l1": 0.75, "l0": 2.0}
    assert set(by_hand) == set(BALLS)
    for norm, size in by_hand.items():
        assert sizes(norm, clean, found)[0] == pytest.approx(size, rel=1e-12)
        assert BALLS[norm].size(jnp.asarray((found - clean)[0])) == pytest.approx(size, rel=1e-6)


def test_a_timing_leaves_compilation_out():
    """25: the first call to a program takes the time of its compilation."""

    def long(x):
        for _ in range(150):
            x = jnp.sin(x) @ x
        return x

    with stopwatch() as elapsed:
        jax.block_until_ready(jax.jit(long)(jnp.eye(3)))
    assert elapsed.compilations >= 1
    assert elapsed.seconds < 0.5 * elapsed.compile_seconds


def test_a_timing_waits_for_the_device(monkeypatch):
    """25: JAX returns before the device is done."""
    queue = []

    def wait(_):
        time.sleep(0.01 * min(len(queue), 20))
        queue.clear()

    monkeypatch.setattr(jax, "block_until_ready", wait)
    assert seconds_per_call(queue.append, None) == pytest.approx(0.01, rel=0.5)
