"""Silent bugs of attacks themselves; `test_silent_bugs.py` lists them all."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from problems import Affine, case, grey_images, network, predicted

from robust_mnist import metrics
from robust_mnist.attacks import (
    APGD,
    APGDL1,
    DDN,
    DLR,
    EAD,
    FABT,
    FGM,
    FMN,
    JSMA,
    MIFGSM,
    PGD,
    AbstractBallAttack,
    AbstractLoss,
    CarliniWagner,
    CrossEntropy,
    DeepFool,
    HopSkipJump,
    Margin,
    Noise,
    RescaledCrossEntropy,
    Square,
    Targeted,
    TargetedDLR,
    Toward,
)
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import sizes
from robust_mnist.threat import L1, L2, Linf


# --- what an attack has seen ----------------------------------------------------------------------

# Every way to search, with few steps, of lengths that lead past wrong images and out again.
SEARCHES = {
    "noise": Noise(L2(), samples=10),
    "pgd": PGD(L2(), steps=8, rel_step_size=0.8),
    "bim": PGD(Linf(), steps=8, rel_step_size=0.8, loss=CrossEntropy(), random_start=False),
    "targeted": Targeted(PGD(Linf(), steps=8, rel_step_size=0.8), targets=2),
    "mifgsm": MIFGSM(steps=8),
    "apgd": APGD(L2(), steps=12),
    "apgd-l1": APGDL1(steps=12),
    "square": Square(Linf(), queries=12),
    "ddn": DDN(steps=12, init_eps=0.4, gamma=0.2),
    "fmn": FMN(Linf(), steps=12),
    "deepfool": DeepFool(steps=6),
    "fab": FABT(Linf(), steps=6, targets=2),
    "carlini-wagner": CarliniWagner(searches=2, steps=12, learning_rate=0.3, init_weight=1.0),
    "ead": EAD(searches=2, steps=12, learning_rate=0.3, init_weight=1.0, rule="l1"),
    "jsma": JSMA(gamma=0.3, targets=2),
    "hopskipjump": HopSkipJump(L2(), steps=1, first_queries=10),
}
BALL_SEARCHES = [name for name, a in SEARCHES.items() if isinstance(a, AbstractBallAttack)]
# These evaluate images closer than their answer: FAB goes on from nine tenths of it, the elastic
# net from beyond its images, and HopSkipJump probes directions.
FARTHER = {"fab": 1 / 0.9, "ead": np.inf, "hopskipjump": np.inf}
every_search = pytest.mark.parametrize("name", SEARCHES)
RADIUS = {"linf": 0.1, "l2": 0.6, "l1": 3.0}

_seen = []


class Watched(AbstractClassifier):
    """A network that takes down what it is asked."""

    model: AbstractClassifier

    def __call__(self, x):
        logits = self.model(x)
        jax.debug.callback(lambda *pair: _seen.append(pair), x, logits)
        return logits


@eqx.filter_jit
def answer(attack, model, x, y, eps, key):
    if isinstance(attack, AbstractBallAttack):
        return attack(model, x, y, eps=eps, key=key)
    return attack(model, x, y, key=key)


@pytest.fixture(scope="module")
def watched():
    """A rough network, with images that it is right about."""
    model = network(jax.random.key(0), gain=6.0)
    images = grey_images(jax.random.key(1), 24)
    return Watched(model), images / np.float32(255), predicted(model, images).astype(np.int32)


def ask(attack, model, x, y, number, scale=1.0):
    """An attack's answer, all images it has seen with their margins, and its radius."""
    eps = jnp.array(scale * RADIUS.get(attack.ball.name, 1.0), jnp.float32)
    jax.effects_barrier()
    _seen.clear()
    key = jax.random.fold_in(jax.random.key(2), number)
    z = np.asarray(answer(attack, model, jnp.asarray(x), jnp.asarray(y), eps, key))
    jax.effects_barrier()
    points, logits = (np.array(column) for column in zip(*_seen, strict=True))
    return z, points, logits[:, y] - np.max(np.delete(logits, y, axis=1), axis=1), float(eps)


def size_of(name, x, points):
    return sizes(SEARCHES[name].ball.name, np.broadcast_to(x, points.shape), points)


# Of two that go the same way through the images, one is of every run.
@pytest.mark.parametrize(
    "name",
    [
        case(name, long=name in {"bim", "noise", "ead", "apgd-l1", "fab", "targeted"})
        for name in SEARCHES
    ],
)
def test_a_wrong_image_that_was_seen_is_not_forgotten(name, watched):
    """3: Foolbox, torchattacks, ART and deepmind return their last iterate."""
    model, images, labels = watched
    left_behind = 0
    for number, (x, y) in enumerate(zip(images, labels, strict=True)):
        z, points, margins, eps = ask(SEARCHES[name], model, x, y, number)
        size = size_of(name, x, points)
        allowed = np.all((points >= 0) & (points <= 1), axis=1)
        if name in BALL_SEARCHES:
            allowed &= size <= eps * (1 + 1e-5)
        wrong = allowed & (margins < -1e-4)  # by more than rounding
        if not wrong.any():
            continue
        left_behind += np.any(margins[np.argmax(wrong) :] > 1e-4)
        assert metrics.margin(model.model(jnp.asarray(z)), jnp.asarray(y)) <= 0
        if name not in BALL_SEARCHES:
            nearest = size[wrong].min() * FARTHER.get(name, 1.0)
            assert size_of(name, x, z[None])[0] <= nearest * (1 + 1e-5)
    # Otherwise nothing could have been forgotten. Of the others three stop where they are wrong.
    assert left_behind or name in {"deepfool", "jsma", "square", "mifgsm"}


@pytest.mark.parametrize("name", BALL_SEARCHES)
def test_a_ball_is_filled_and_not_left(name, watched):
    """2: CleverHans' L2 step in JAX ignores eps, and Foolbox' L2 projection changes nothing."""
    model, images, labels = watched
    for scale in (0.05, 0.02):
        filled = []
        for number in range(3):
            z, _, _, eps = ask(SEARCHES[name], model, images[number], labels[number], number, scale)
            filled.append(size_of(name, images[number], z[None])[0] / eps)
            assert np.all((z >= 0) & (z <= 1))
        assert max(filled) <= 1 + 1e-4
        assert max(filled) >= 0.75


@every_search
def test_a_network_without_gradient_gives_no_nan(name, watched):
    """15: MI-FGSM of torchattacks divides by a mean gradient of 0; HopSkipJump in ART #307."""
    model, images, _ = watched
    flat = jax.tree.map(jnp.zeros_like, model)
    flat = eqx.tree_at(lambda m: m.model.layers[-1].bias, flat, jnp.arange(10.0)[::-1])
    z, points, margins, _ = ask(SEARCHES[name], flat, images[0], np.int32(0), 0)
    assert np.all((z >= 0) & (z <= 1))
    assert np.isfinite(points).all()
    assert np.allclose(margins, 1.0)


@pytest.mark.parametrize("name", [name for name in SEARCHES if name not in BALL_SEARCHES])
def test_no_minimal_attack_rounds_to_grey_levels(name, watched):
    """19: DDN of adversarial-library gives images of 8 bits unless told otherwise."""
    model, images, labels = watched
    grey = ask(SEARCHES[name], model, images[0], labels[0], 0)[0] * 255
    off_grid = np.abs(grey - np.round(grey)) > 0.05
    # The saliency map sends a pixel to an end of its range, which is a grey level.
    assert off_grid.any() != (name == "jsma")


class Misleading(AbstractClassifier):
    """Of three classes, on the way from 0 to 1 in the first pixel.

    Cross-entropy rises all the way, while the true class comes second about the middle alone.
    """

    def __call__(self, x):
        way = jnp.array([0.0, 0.5, 1.0])
        rival = jnp.interp(x[0], way, jnp.array([-1.0, 0.01, -0.01]))
        third = jnp.interp(x[0], way, jnp.array([-3.0, -3.0, -0.01]))
        return jnp.stack([0.0 * rival, rival, third])


@pytest.mark.parametrize(
    "attack",
    [
        PGD(Linf(), steps=10, loss=CrossEntropy(), random_start=False),
        MIFGSM(steps=10),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_a_wrong_image_counts_more_than_a_right_one_of_higher_loss(attack, getkey):
    """3: to keep the highest loss is not enough where the loss is none of the margin."""
    model, x, y = Misleading(), jnp.zeros(2), jnp.array(0)
    assert CrossEntropy()(model(jnp.ones(2)), y) > CrossEntropy()(model(jnp.full(2, 0.5)), y)
    z = attack(model, x, y, eps=jnp.array(1.0), key=getkey())
    assert metrics.margin(model(z), y) <= 0


def test_apgd_does_not_forget_that_its_start_was_wrong():
    """3: as above; it takes long steps, and goes back to its best image again and again."""
    model, y, attack, keys = Misleading(), jnp.array(0), APGD(Linf(), steps=4), jnp.arange(64)
    draws = jax.vmap(lambda number: attack._draw(jax.random.key(number), 2))(keys)
    run = lambda number: attack(
        model, jnp.zeros(2), y, eps=jnp.array(1.0), key=jax.random.key(number)
    )
    margins = jax.vmap(lambda z: metrics.margin(model(z), y))
    wrong = margins(jnp.clip(draws, 0.0, 1.0)) < 0
    assert wrong.any()
    assert jnp.all(margins(jax.jit(jax.vmap(run))(keys))[wrong] < 0)


# --- one by one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        PGD(Linf(), steps=1, rel_step_size=1.0, random_start=False),
        MIFGSM(steps=1),
        DDN(steps=1),
        FMN(L2(), steps=1),
        FABT(Linf(), steps=1, targets=1),
        CarliniWagner(searches=1, steps=1, learning_rate=1.0),
        EAD(searches=1, steps=1, learning_rate=1.0, init_weight=1.0),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_one_step_is_judged_after_it_was_taken(attack):
    """4: PGD of adversarial-library, and DDN and FMN there and in Foolbox, judge before a step."""
    model = Affine(jnp.stack([jnp.zeros(64), jnp.ones(64)]), jnp.array([0.0, -32.0 - 1e-3]))
    x, y, key = jnp.full(64, 0.5), jnp.array(0), jax.random.key(3)
    assert metrics.margin(model(x), y) > 0
    z = answer(attack, model, x, y, jnp.array(0.3), key)
    assert metrics.margin(model(z), y) <= 0


@pytest.mark.parametrize(
    "loss",
    [Margin(), DLR(), RescaledCrossEntropy(), Toward(jnp.array(2)), TargetedDLR(jnp.array(2))],
    ids=lambda loss: type(loss).__name__,
)
def test_neither_scale_nor_shift_of_logits_turns_a_loss(loss):
    """1: 1e6 more on every logit makes PGD weaker in advertorch #63; see also CleverHans #350."""
    logits, y = jnp.array([2.0, 5.0, -1.0, 0.5, 3.0]), jnp.array(1)
    direction = lambda at: L2().steepest(jax.grad(loss)(at, y))
    # Powers of two, so that rounding takes no part.
    for factor, shift in ((2.0**-10, 0.0), (2.0**10, 0.0), (1.0, 2.0**20), (2.0**10, 2.0**20)):
        assert jnp.allclose(direction(factor * logits + shift), direction(logits), atol=1e-5)


class Louder(AbstractLoss):
    """The margin with its class fixed, and more for later classes, whatever the image."""

    target: Array

    def __call__(self, logits, y):
        return Toward(self.target)(logits, y) + 1000.0 * self.target.astype(logits.dtype)


def test_targets_are_compared_by_margin_and_not_by_their_losses(getkey):
    """23: restarts of ART and Foolbox keep the first to fail; two kinds of loss do not rank."""
    slopes = jnp.stack([jnp.zeros(4), jnp.ones(4), jnp.full(4, -0.2)])
    model = Affine(slopes, jnp.array([0.0, -3.0, -0.2]))
    x, y = jnp.full(4, 0.5), jnp.array(0)
    attack = Targeted(PGD(Linf(), steps=4, rel_step_size=0.8), targets=2, toward=Louder)
    # Brighter by 0.3 the second class leads by 0.2; the third is likelier at first and never leads.
    z = attack(model, x, y, eps=jnp.array(0.3), key=getkey())
    assert metrics.margin(model(z), y) == pytest.approx(-0.2, abs=1e-5)


def test_pgd_takes_up_what_the_box_leaves_of_a_step(getkey):
    """9: where most pixels are at an end, half of every clipped step is wasted."""
    x = jnp.round(jax.random.uniform(getkey(), (64,)))
    weight = jax.random.normal(getkey(), (2, 64))
    model, y, eps = Affine(weight, jnp.array([100.0, 0.0])), jnp.array(0), jnp.array(0.5)
    attack = PGD(L2(), steps=1, rel_step_size=1.0, random_start=False)
    delta = attack(model, x, y, eps=eps, key=getkey()) - x
    assert jnp.linalg.norm(delta) == pytest.approx(0.5, rel=1e-5)


def test_the_fast_gradient_method_in_l1_moves_the_steepest_pixel(getkey):
    """24: Foolbox moves all pixels, ART one, CleverHans all of equal slope."""
    weight = jnp.zeros((2, 16)).at[1].set(jnp.linspace(0.1, 0.2, 16)).at[1, 5].set(-0.9)
    x, y = jnp.full(16, 0.5), jnp.array(0)
    z = FGM(L1())(Affine(weight, jnp.array([1.0, 0.0])), x, y, eps=jnp.array(0.25), key=getkey())
    assert jnp.array_equal(z - x, jnp.zeros(16).at[5].set(-0.25))


def test_square_changes_squares_of_the_picture(watched):
    """27: Square of AutoAttack asks for channels, rows and columns, and takes no flat images."""
    model, images, labels = watched
    attack = Square(Linf(), queries=1, p_init=0.3)
    assert attack.sides(8) == [4]
    for number, (x, y) in enumerate(zip(images[:4], labels[:4], strict=True)):
        _, points, *_ = ask(attack, model, x, y, number)
        start, proposed = points.reshape(2, 8, 8)
        rows, columns = np.nonzero(np.abs(proposed - start) > 1e-6)
        assert max(np.ptp(rows), np.ptp(columns)) < 4
        # The start has vertical stripes.
        sign = np.sign(start - x.reshape(8, 8))
        assert np.all((sign == np.sign(sign.sum(axis=0))[None]) | (sign == 0))
    with pytest.raises(ValueError, match="square images of 5 x 5 or more, got 60 pixels"):
        attack(model, jnp.zeros(60), jnp.array(0), eps=jnp.array(0.3), key=jax.random.key(0))
