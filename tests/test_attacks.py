import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Affine, case, exact_radius, grey_images, network, predicted, promises

from robust_mnist import metrics
from robust_mnist.attacks import (
    ATTACKS,
    DLR,
    EOT,
    FGM,
    JSMA,
    PGD,
    AbstractBallAttack,
    AbstractMinimalAttack,
    AbstractStepAttack,
    AutoAttack,
    CrossEntropy,
    GradientStep,
    LinearRegion,
    Margin,
    RescaledCrossEntropy,
    Restarts,
    Targeted,
    TargetedDLR,
    Toward,
    Transfer,
    Within,
    WorstOf,
    likeliest,
    nearest,
)
from robust_mnist.certify import CERTIFIERS
from robust_mnist.clock import stopwatch
from robust_mnist.data.pixels import to_float
from robust_mnist.models import MLP, AbstractStochasticClassifier, Expectation
from robust_mnist.models.mlp import Dense
from robust_mnist.sweep import attack_batch, break_batch, judge_batch, method_key, pull, sizes
from robust_mnist.sweep._driver import CLOSE, _answers, in_chunks
from robust_mnist.threat import BALLS, L2, Linf


# AutoAttack is made of entries that are tested one by one, and takes as long as all of them.
BALL_ATTACKS = {
    name: a
    for name, a in ATTACKS.items()
    if isinstance(a, AbstractBallAttack) and not isinstance(a, AutoAttack)
}
SEARCHES = BALL_ATTACKS | {
    name: a for name, a in ATTACKS.items() if isinstance(a, AbstractMinimalAttack)
}
# What has more steps than another entry that is otherwise the same, or takes seconds for an image.
LONG = (
    "boundary", "hopskipjump", "square5000", "fab10-", "fab30", "linear-region100-l2",
    "apgd100-dlr-l2", "apgd100-targeted-l1", "pgd20-targeted-l2", "pgd10x40",
    "apgd100-targeted4-l2", "cw3x100",
)  # fmt: skip


def cases(names, key=lambda name: name):
    return [case(key(name), long=name.startswith(LONG), name=name) for name in names]


every_ball_attack = pytest.mark.parametrize("attack", cases(BALL_ATTACKS, BALL_ATTACKS.get))
every_search = pytest.mark.parametrize("attack", cases(SEARCHES, SEARCHES.get))
# One size of batch and one kind of network for all tests of an attack: most of their time goes into
# compiling, and so it is compiled once.
CHUNK = 8
# Where nothing is out of reach, for images of 64 pixels.
WHOLE_BOX = {"linf": 1.0, "l2": 8.0, "l1": 64.0, "l0": 64.0}
every_norm = pytest.mark.parametrize(("ball", "dual"), [(Linf(), 1), (L2(), 2)], ids=["linf", "l2"])

every_ball = pytest.mark.parametrize("ball", [Linf(), L2()], ids=["linf", "l2"])


@pytest.fixture
def problem(request, getkey):
    attack = (
        request.node.callspec.params.get("attack") if hasattr(request.node, "callspec") else None
    )
    relu = isinstance(attack, LinearRegion)
    model = network(getkey(), activation="relu" if relu else "tanh")
    images = grey_images(getkey(), 16)
    return model, images, predicted(model, images)


def scaled_logits(model, factor, shift):
    """The same network, its last layer multiplied and shifted."""
    *hidden, last = model.layers
    layers = (*hidden, Dense(last.weight * factor, last.bias * factor + shift))
    return eqx.tree_at(lambda m: m.layers, model, layers)


def radii_for(attack, *eps):
    """The radii at which an attack runs: for a minimal one there is but one."""
    return eps if isinstance(attack, AbstractBallAttack) else (np.inf,)


@eqx.filter_jit
def answer(attack, model, x, y, eps, key):
    """An attack's image, in one program for all tests that ask alike."""
    return attack(model, x, y, eps=eps, key=key)


def margins(model, images, labels):
    return jax.vmap(lambda x, y: metrics.margin(model(x), y))(images, labels)


def test_every_attack_is_of_a_known_kind():
    for name, attack in ATTACKS.items():
        assert isinstance(
            attack, AbstractBallAttack | AbstractMinimalAttack | AbstractStepAttack
        ), name


@every_search
def test_what_counts_is_exactly_in_ball_and_box_and_wrong(attack, problem, getkey):
    for eps in radii_for(attack, 0.0, 0.05, 0.3, 30.0):
        check_what_counts(attack, eps, problem, getkey())


def check_what_counts(attack, eps, problem, key):
    model, images, labels = problem
    found = break_batch(
        attack, model, images, labels, ids=np.arange(16), eps=eps, key=key, chunk=CHUNK
    )
    broken = np.isfinite(found.size)
    assert np.all((found.witness >= 0.0) & (found.witness <= 1.0))
    assert np.all(found.size[broken] <= eps)
    margin = np.asarray(margins(model, jnp.asarray(found.witness), jnp.asarray(labels, jnp.int32)))
    decided = np.abs(margin) > CLOSE  # the rest may fall either way in another program
    assert np.mean(decided) > 0.9
    assert np.array_equal((margin <= 0)[decided], broken[decided])
    assert np.all(found.reached[broken] != labels[broken])
    assert np.all(found.reached[~broken] == -1)
    assert eps > 0 or not broken.any()
    # A certificate that reaches as far as the witness speaks of the witness as well.
    size = np.nextafter(np.where(broken, found.size, 0).astype(np.float32), np.float32(np.inf))
    asked = jnp.asarray(images, jnp.float32) / 255, jnp.asarray(labels, jnp.int32), size
    for name, promised in promises(attack.ball.name, model, *asked).items():
        assert np.all((np.asarray(promised) <= margin)[broken]), name
    if np.isfinite(eps):
        check_certificates(attack, eps, problem, key)


def check_certificates(attack, eps, problem, key):
    """No certificate at the attack's radius promises more than its own answers leave, right or not.

    In the programs that have run already.
    """
    model, images, labels = problem
    norm, y, radius = attack.ball.name, labels.astype(np.int32), np.full(16, eps, np.float32)
    chunks = [slice(start, start + CHUNK) for start in range(0, 16, CHUNK)]
    ids = np.arange(16, dtype=np.int32)
    raw = [_answers(attack, model, images[at], y[at], ids[at], radius[at], key) for at in chunks]
    clean = to_float(images)
    answers = pull(norm, clean, np.concatenate(raw), np.full(16, eps))
    left, _ = judge_batch(model, answers, labels)
    for name, promised in promises(norm, model, clean, y, radius).items():
        assert np.all(np.asarray(promised) <= left), name


@every_search
def test_an_unbounded_attack_breaks_every_image(attack, problem, getkey):
    model, images, labels = problem
    [eps] = radii_for(attack, WHOLE_BOX[attack.ball.name])
    found = break_batch(
        attack, model, images, labels, ids=np.arange(16), eps=eps, key=getkey(), chunk=CHUNK
    )
    # One step may overshoot past a wrong region; many steps must not miss it. JSMA moves a tenth
    # of the pixels at most, and a walk through regions may come back to where it was.
    weak = isinstance(attack, JSMA | LinearRegion) or getattr(attack, "one_step", False)
    assert np.mean(np.isfinite(found.size)) >= (0.6 if weak else 1.0)


@every_search
def test_flags_and_draws_do_not_depend_on_batches_or_order(attack, problem, getkey):
    model, images, labels = problem
    key, order = getkey(), np.random.default_rng(0).permutation(16)
    [eps] = radii_for(attack, 0.05 * WHOLE_BOX[attack.ball.name])
    order = order[:13]  # other neighbours, and a batch that is not full
    run = lambda at: break_batch(
        attack, model, images[at], labels[at], ids=at, eps=eps, key=key, chunk=CHUNK
    )
    whole, split = run(np.arange(16)), run(order)
    assert np.array_equal(whole.broken[order], split.broken)
    assert np.array_equal(np.isfinite(whole.size)[order], np.isfinite(split.size))
    if eps < np.inf:
        assert np.allclose(whole.witness[order], split.witness, atol=1e-4)
    else:  # rounding decides which way a long search turns, not where it ends
        near = np.isclose(whole.size[order], split.size, rtol=0.02)
        assert np.mean(near) >= 0.9


@every_ball_attack
def test_a_sweep_over_eps_compiles_once(attack, problem, getkey):
    model, images, labels = problem
    run = lambda eps: break_batch(
        attack, model, images, labels, ids=np.arange(16), eps=eps, key=getkey(), chunk=CHUNK
    )
    run(0.3)
    with stopwatch() as elapsed:
        for eps in (0.0, 0.1, 0.2):
            run(eps)
    assert elapsed.compilations == 0


@every_norm
def test_pgd_reaches_the_exact_optimum_of_an_affine_classifier(ball, dual, getkey):
    """Far from the box, the worst two-class margin is m - eps * ||w||_dual."""
    weight, eps = jax.random.normal(getkey(), (2, 64)) / 8, jnp.array(0.1)
    model, x, y = Affine(weight, jnp.array([3.0, 0.0])), jnp.full(64, 0.5), jnp.array(0)
    adversarial = PGD(ball, steps=100)(model, x, y, eps=eps, key=getkey())
    difference = weight[0] - weight[1]
    expected = metrics.margin(model(x), y) - eps * jnp.linalg.norm(difference, ord=dual)
    assert jnp.allclose(metrics.margin(model(adversarial), y), expected, atol=1e-4)


@every_norm
@pytest.mark.parametrize("loss", [CrossEntropy(), Margin()], ids=["ce", "margin"])
def test_one_step_is_exact_on_an_affine_classifier_of_two_classes(ball, dual, loss, getkey):
    weight, eps = jax.random.normal(getkey(), (2, 64)) / 8, jnp.array(0.1)
    model, x, y = Affine(weight, jnp.array([1.0, 0.0])), jnp.full(64, 0.5), jnp.array(0)
    adversarial = answer(FGM(ball, loss), model, x, y, eps, getkey())
    expected = metrics.margin(model(x), y) - eps * jnp.linalg.norm(weight[0] - weight[1], ord=dual)
    assert jnp.allclose(metrics.margin(model(adversarial), y), expected, atol=1e-5)


def test_pgd_with_the_box_finds_the_clipped_optimum(getkey):
    """In Linf each pixel moves alone, so the box only clips: brute force over pixels."""
    weight = jax.random.normal(getkey(), (2, 64))
    model, x, y = Affine(weight, jnp.zeros(2)), jax.random.uniform(getkey(), (64,)), jnp.array(0)
    difference, eps = weight[0] - weight[1], 0.3
    ends = jnp.stack([jnp.clip(x - eps, 0, 1), jnp.clip(x + eps, 0, 1)])
    expected = jnp.sum(jnp.min(ends * difference[None], axis=0))
    adversarial = PGD(Linf(), steps=100)(model, x, y, eps=jnp.array(eps), key=getkey())
    assert jnp.allclose(metrics.margin(model(adversarial), y), expected, atol=1e-4)


@every_norm
def test_targeted_finds_the_worst_class_of_an_affine_classifier(ball, dual, getkey):
    weight, eps = jax.random.normal(getkey(), (10, 64)) / 8, jnp.array(0.05)
    model, x = Affine(weight, jnp.zeros(10)), jnp.full(64, 0.5)
    y = jnp.argmax(model(x))
    attack = Targeted(PGD(ball, steps=60), targets=9)
    adversarial = attack(model, x, y, eps=eps, key=getkey())
    logits, others = model(x), jnp.delete(jnp.arange(10), y, assume_unique_indices=True)
    reduction = jnp.linalg.norm(weight[y][None] - weight[others], ord=dual, axis=1)
    expected = jnp.min(logits[y] - logits[others] - eps * reduction)
    assert jnp.allclose(metrics.margin(model(adversarial), y), expected, atol=1e-4)


@every_norm
def test_the_nearest_target_of_an_affine_classifier_is_the_one_that_breaks_first(
    ball, dual, getkey
):
    # Gradients of very different sizes: the likeliest class is not the nearest.
    weight = jax.random.normal(getkey(), (10, 64)) * jnp.linspace(0.05, 1.0, 10)[:, None]
    model, x = Affine(weight, jax.random.normal(getkey(), (10,))), jnp.full(64, 0.5)
    logits = model(x)
    y = jnp.argmax(logits)
    others = jnp.delete(jnp.arange(10), y, assume_unique_indices=True)
    slopes = weight[others] - weight[y][None]
    distance = (logits[y] - logits[others]) / jnp.linalg.norm(slopes, ord=dual, axis=1)
    order = nearest(model, x, y, ball)
    assert jnp.array_equal(order, jnp.append(others[jnp.argsort(distance)], y))
    assert not jnp.array_equal(order, likeliest(model, x, y, ball))
    # One target is enough at a radius that no other class is within.
    first, second = jnp.sort(distance)[:2]
    aimed = Targeted(PGD(ball, steps=60), targets=1, order=nearest)
    found = aimed(model, x, y, eps=(first + second) / 2, key=getkey())
    assert jnp.argmax(model(found)) == order[0]


def test_the_raw_step_is_the_gradient_of_cross_entropy_by_finite_differences(getkey):
    with jax.enable_x64(True):
        weight = jnp.asarray(np.random.default_rng(0).normal(size=(10, 12)))
        model, x, y = Affine(weight, jnp.zeros(10)), jnp.full(12, 0.5), jnp.array(3)
        moved = GradientStep()(model, x, y, step=jnp.array(2.0), key=getkey())
        value = lambda z: metrics.cross_entropy(model(z), y)
        width = 1e-6
        differences = jnp.stack(
            [(value(x + width * e) - value(x - width * e)) / (2 * width) for e in jnp.eye(12)]
        )
        assert jnp.allclose(moved - x, 2.0 * differences, atol=1e-8)


@pytest.mark.parametrize("name", ["pgd40-linf", "apgd100-ce-l2", "ddn100-l2", "fmn100-linf"])
def test_the_way_of_an_attack_leads_to_its_answer(name, getkey):
    model = network(getkey())
    images = grey_images(getkey(), 16)
    labels, attack = jnp.asarray(predicted(model, images), jnp.int32), ATTACKS[name]
    x, keys = to_float(images), jax.random.split(getkey(), 16)
    if isinstance(attack, AbstractMinimalAttack):
        run = lambda x, y, k: attack.path(model, x, y, key=k)
    else:
        eps = jnp.asarray(0.03 if name.endswith("linf") else 0.25)
        run = lambda x, y, k: attack.path(model, x, y, eps=eps, key=k)
    answers, way = jax.jit(jax.vmap(run))(jnp.asarray(x), labels, keys)
    assert way.shape == (16, attack.steps + 1)
    margins = jax.vmap(metrics.margin)(jax.vmap(model)(answers), labels)
    wrong = np.asarray(margins) < 1e-5  # the closest image is wrong by a hair
    if isinstance(attack, AbstractMinimalAttack):
        assert np.array_equal(way, np.minimum.accumulate(way, axis=1))
        assert np.array_equal(np.isfinite(way[:, -1]), wrong)
        size = jax.vmap(attack.ball.size)(answers - x)
        assert np.allclose(size[wrong], way[wrong, -1], atol=1e-6)
        assert np.all(np.isinf(way[:, 0]))  # the image itself, and right
    else:
        assert np.array_equal(np.any(way, axis=1), wrong)
        assert 0 < wrong.sum() < 16


@every_ball
def test_more_steps_never_hurt(ball, problem, getkey):
    """Runs with one key share their first steps, so a longer one can only improve."""
    model, images, labels = problem
    key, x, y = getkey(), jnp.asarray(images, jnp.float32) / 255, jnp.asarray(labels, jnp.int32)

    def reached(steps):
        attack = PGD(ball, steps=steps, rel_step_size=0.5)
        eps = jnp.full(16, 0.3, jnp.float32)
        z = attack_batch(attack, model, x, y, ids=jnp.arange(16), eps=eps, key=key)
        return margins(model, z, y)

    few, many = reached(5), reached(20)
    assert jnp.all(many <= few + 1e-5)
    assert jnp.any(many < few)


@every_ball
def test_a_single_step_of_pgd_is_scored_after_it_was_taken(ball, getkey):
    model, x, y = network(getkey()), jnp.full(64, 0.5), jnp.array(0)
    y = jnp.argmax(model(x))
    attack = PGD(ball, steps=1, rel_step_size=1.0)
    z = attack(model, x, y, eps=jnp.array(0.1), key=getkey())
    assert metrics.margin(model(z), y) < metrics.margin(model(x), y)


SCALE_FREE = (
    "pgd40-l", "pgd20", "apgd100-dlr", "apgd100-targeted", "square", "deepfool", "fmn", "fab",
    "ddn100-margin", "noise", "jsma",
)  # fmt: skip


@pytest.mark.parametrize("name", cases(name for name in SEARCHES if name.startswith(SCALE_FREE)))
@pytest.mark.parametrize(("factor", "shift"), [(1e3, 0.0), (1e-3, 0.0), (1.0, 1e3)])
def test_the_scale_and_shift_of_logits_do_not_matter(name, factor, shift, problem, getkey):
    model, images, labels = problem
    key = getkey()
    [eps] = radii_for(ATTACKS[name], 0.05 * WHOLE_BOX[ATTACKS[name].ball.name])
    run = lambda m: break_batch(
        ATTACKS[name], m, images, labels, ids=np.arange(16), eps=eps, key=key, chunk=CHUNK
    )
    plain, scaled = run(model), run(scaled_logits(model, factor, shift))
    assert np.mean(plain.broken != scaled.broken) <= 1 / 16
    if eps == np.inf and factor >= 1:  # else the margin that must be kept is no longer small
        assert np.median(scaled.size / plain.size) == pytest.approx(1, abs=0.05)


def test_cross_entropy_underflows_where_the_margin_does_not(problem):
    """The reason for the default loss: the same decisions, no gradient."""
    model, images, labels = problem
    confident = scaled_logits(model, 1e3, 0.0)
    attack = lambda loss: break_batch(
        PGD(Linf(), loss=loss), confident, images, labels,
        ids=np.arange(16), eps=0.05, key=method_key(jax.random.key(0), "x"), chunk=CHUNK,
    )  # fmt: skip
    assert attack(Margin()).broken.sum() > attack(CrossEntropy()).broken.sum()


@every_search
def test_an_attack_never_makes_a_mistake_right(attack, problem, getkey):
    model, images, labels = problem
    wrong = (labels + 1) % 10
    [eps] = radii_for(attack, 0.1)
    found = break_batch(
        attack, model, images, wrong, ids=np.arange(16), eps=eps, key=getkey(), chunk=CHUNK
    )
    assert np.all(found.size == 0)


@every_search
def test_an_answer_has_the_type_of_its_image_in_a_process_in_float64_as_well(attack, getkey):
    """There a draw, or a counter, is wider than an image unless it is told its type."""
    with jax.enable_x64(True):
        narrow = lambda leaf: jnp.asarray(leaf, jnp.float32)
        relu = isinstance(attack, LinearRegion)
        model = jax.tree.map(narrow, network(getkey(), activation="relu" if relu else "tanh"))
        x, y = jnp.full(64, 0.5, jnp.float32), jnp.array(0, jnp.int32)
        radius = {"eps": narrow(0.1)} if isinstance(attack, AbstractBallAttack) else {}
        run = lambda x, y, key: attack(model, x, y, key=key, **radius)
        assert jax.eval_shape(run, x, y, getkey()).dtype == jnp.float32


def test_nan_is_never_a_success(getkey):
    class Fragile(Affine):
        def __call__(self, x):
            logits = self.weight @ x + self.bias
            return jnp.where(jnp.max(x) > 0.9, jnp.nan, logits)

    # Brighter images look a little more like class 1, so that the attack goes where NaN is.
    lift = jnp.outer(jax.nn.one_hot(1, 10), jnp.full(64, 0.01))
    model = Fragile(lift, jnp.arange(10.0)[::-1])
    images = np.full((4, 64), 128, np.uint8)
    found = break_batch(
        FGM(Linf(), Margin()), model, images, np.zeros(4, np.uint8),
        ids=np.arange(4), eps=0.5, key=getkey(), chunk=4,
    )  # fmt: skip
    assert found.nonfinite == 4
    assert not found.broken.any()
    assert np.all(found.size == np.inf)


def test_losses_match_values_worked_by_hand():
    logits, y = jnp.array([1.0, 4.0, 2.0, 0.0]), jnp.array(1)
    assert jnp.allclose(Margin()(logits, y), -2.0)
    # Sorted 4, 2, 1: -(4 - 2) / (4 - 1)
    assert jnp.allclose(DLR()(logits, y), -2 / 3)
    assert jnp.allclose(Toward(jnp.array(0))(logits, y), -3.0)
    # Sorted 4, 2, 1, 0: (1 - 4) / (4 - (1 + 0) / 2)
    assert jnp.allclose(TargetedDLR(jnp.array(0))(logits, y), -3 / 3.5)
    # Over a spread of 3.
    scaled = logits / 3
    expected = jnp.log(jnp.sum(jnp.exp(scaled))) - scaled[1]
    assert jnp.allclose(RescaledCrossEntropy()(logits, y), expected)
    assert jnp.allclose(CrossEntropy()(logits, y), jnp.log(jnp.sum(jnp.exp(logits))) - 4.0)


@pytest.mark.parametrize("change", [{"steps": 0}, {"rel_step_size": 0.0}, {"rel_step_size": -1.0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=r"got"):
        dataclasses.replace(PGD(), **change)
    with pytest.raises(ValueError, match="target"):
        Targeted(PGD(), targets=0)


def test_every_method_says_what_it_does_with_its_own_numbers():
    told = {name: method.about for name, method in (ATTACKS | CERTIFIERS).items()}
    assert len(set(told.values())) == len(told)
    for name, about in told.items():
        assert "\n" not in about
        assert len(about) < 110
        for norm in ("linf", "l2", "l1", "l0"):
            assert (norm.capitalize() in about) == name.endswith(norm)
    assert "FGSM" in told["fgsm-linf"]
    assert "FGSM" not in told["fgm-l2"]
    assert "40 steps" in told["pgd40-l2"]
    assert "20 steps" in told["pgd20-targeted-linf"]


# --- closed forms: the nearest wrong image of an affine classifier is known -----------------------


# Noise, single steps and pairs of pixels do not aim at the nearest point; a walk through the
# regions of ReLU networks knows none of this one.
AIMLESS = ("noise", "fg", "mifgsm", "bim", "square", "linear-region", "jsma")
# APGD in L1 stays with two pixels where one would do, as it never moves fewer than 2 / 1.5.
AIMLESS += ("apgd100-ce-l1", "apgd100-targeted-l1")
# Relative excess that the settings leave over the radius of two classes. Cross-entropy is tested
# where it is gentle, so that the margin by which a shortened image stays wrong counts. The authors'
# APGD clips to the box after the ball, which wastes a little of the budget in L2. The last steps of
# PGD go back and forth by a tenth of eps.
EXCESS = {
    "ddn100-l2": 5e-4,
    "pgd40-l2": 5e-3,
    "pgd10x40-l2": 5e-3,
    "pgd40-l1": 3e-2,
    "pgd20-targeted-l2": 5e-2,
    "apgd100-ce-l2": 1e-2,
    "apgd100-dlr-l2": 1e-2,
    "apgd100-targeted-l2": 1e-2,
    "apgd100-targeted4-l2": 1e-2,
}
# The same of the images that minimal attacks give themselves. DeepFool and FAB go too far by what
# they are told to; the others stop where their last steps, searches or draws do.
OWN_EXCESS = {
    "hopskipjump64-linf": 3e-2,
    "hopskipjump64-l2": 2e-2,
    "boundary25000-l2": 2e-2,
    "deepfool50-linf": 2.01e-2,
    "deepfool50-l2": 2.01e-2,
    "ddn100-l2": 4e-3,
    "ddn100-margin-l2": 4e-3,
    "fmn100-linf": 3e-4,
    "fmn100-l2": 2e-3,
    "fmn100-l1": 4e-2,
    "fmn100-l0": 0.0,
    "fab10-targeted-linf": 1e-2,
    "fab10-targeted-l2": 1e-2,
    "fab30-targeted-l2": 1e-2,
    "fab100-targeted-linf": 1e-2,
    "fab100-targeted-l2": 1e-2,
    "fab100-targeted-l1": 1e-2,
    "cw3x100-l2": 1.1,
    "cw5x200-l2": 8e-2,
    "ead5x200-l1": 0.3,
}
# Of ten classes these take the likeliest, which need not be the nearest.
ONE_CLASS = ("ddn", "fmn", "cw", "ead", "pgd40", "apgd100-ce", "apgd100-dlr", "hopskip", "boundary")


def affine_problem(attack, classes):
    """An affine classifier of ten classes, of which only so many can be reached.

    As an MLP whose units stay so close to 0 that tanh is the identity to the last bits: the
    programs of the tests above serve here as well, and compiling them is what takes long.
    """
    # Steep, so that the margin by which a shortened image stays wrong is no distance; but
    # cross-entropy has no gradient left there.
    inner = getattr(attack, "attack", attack)
    steepness = 3.0 if isinstance(getattr(inner, "loss", None), CrossEntropy) else 100.0
    key, within = jax.random.key(7), jnp.arange(10) < classes
    weight = jnp.where(within[:, None], steepness * jax.random.normal(key, (10, 64)), 0.0)
    bias = jnp.where(within, 0.0, -1e3 * steepness)
    grey = jax.random.randint(jax.random.fold_in(key, 1), (12, 64), -200, 456)
    images = np.clip(np.asarray(grey), 0, 255).astype(np.uint8)  # most pixels at an end
    affine, small = Affine(weight, bias), 1e-5 / steepness
    layers = (
        Dense(jnp.zeros((32, 64)).at[:10].set(small * weight), jnp.zeros(32)),
        Dense(jnp.eye(32), jnp.zeros(32)),
        Dense(jnp.eye(10, 32) / small, bias),
    )
    # A type that is weak would make it another program.
    leaves = [jnp.array(leaf, jnp.float32) for leaf in jax.tree.leaves(layers)]
    model = jax.tree.unflatten(jax.tree.structure(MLP((64, 32, 32, 10), key=key)), leaves)
    labels = predicted(affine, images)
    pairs = zip(to_float(images), labels, strict=True)
    exact = np.array([exact_radius(attack.ball.name, affine, x, y) for x, y in pairs])
    return (model, images, labels), exact


def aimed(kind):
    return [
        name for name, attack in SEARCHES.items()
        if isinstance(attack, kind) and not name.startswith(AIMLESS)
    ]  # fmt: skip


def test_an_affine_classifier_as_a_network_has_its_logits():
    (model, images, _), _ = affine_problem(ATTACKS["pgd40-linf"], 10)
    weight = 100 * np.asarray(jax.random.normal(jax.random.key(7), (10, 64)), np.float64)
    logits = jax.vmap(model)(jnp.asarray(to_float(images)))
    assert np.allclose(logits, to_float(images) @ weight.T, rtol=1e-6, atol=1e-3)


def own_answers(attack, model, images, labels):
    """What a minimal attack answers itself: its margins, and the sizes of its perturbations.

    The driver refines every wrong image to the exact radius of an affine classifier, however far
    it was found: its sizes say nothing of an attack.
    """
    none, key = np.full(len(labels), np.inf, np.float32), jax.random.key(0)
    run = lambda *arrays: (_answers(attack, model, *arrays, key),)
    y, ids = labels.astype(np.int32), np.arange(len(labels), dtype=np.int32)
    [found] = in_chunks(run, CHUNK, images, y, ids, none)
    assert np.all((found >= -1e-6) & (found <= 1 + 1e-6))
    return np.asarray(margins(model, found, y)), sizes(attack.ball.name, to_float(images), found)


@pytest.mark.parametrize("name", cases(aimed(AbstractMinimalAttack)))
@pytest.mark.parametrize("classes", [2, 10])
def test_what_a_minimal_attack_answers_itself_is_wrong_and_near(name, classes):
    problem, radius = affine_problem(ATTACKS[name], classes)
    margin, size = own_answers(ATTACKS[name], *problem)
    assert np.max(margin) <= 1e-3  # of logits in the hundreds
    assert np.min(size / radius) >= 1 - 1e-5
    excess = OWN_EXCESS[name]
    if classes == 10 and name.startswith(ONE_CLASS):
        assert np.median(size / radius) <= 1.02 + excess
    else:
        assert np.max(size / radius) <= 1 + excess


@pytest.mark.parametrize("name", cases(aimed(AbstractMinimalAttack)))
@pytest.mark.parametrize("classes", [2, 10])
def test_minimal_attacks_find_the_exact_radius(name, classes):
    problem, radius = affine_problem(ATTACKS[name], classes)
    found = break_batch(
        ATTACKS[name], *problem, ids=np.arange(12), key=jax.random.key(0), chunk=CHUNK
    )
    assert np.min(found.size / radius) >= 1 - 1e-5
    if classes == 10 and name.startswith(ONE_CLASS):
        assert np.isfinite(found.size).all()
        assert np.median(found.size / radius) <= 1.1
    else:
        assert np.max(found.size / radius) <= 1 + EXCESS.get(name, 1e-4)


@pytest.mark.parametrize("name", cases(aimed(AbstractBallAttack)))
@pytest.mark.parametrize("classes", [2, 10])
def test_ball_attacks_break_from_the_exact_radius_on(name, classes):
    problem, radius = affine_problem(ATTACKS[name], classes)
    run = lambda eps: break_batch(
        ATTACKS[name], *problem, ids=np.arange(12), eps=eps, key=jax.random.key(0), chunk=CHUNK
    )
    # By their own answers, not by those that were shortened and refined.
    broken = run(radius * (1 + EXCESS.get(name, 1e-4))).broken
    assert np.mean(broken) >= (0.75 if classes == 10 and name.startswith(ONE_CLASS) else 1.0)
    assert not np.isfinite(run(radius * (1 - 1e-4)).size).any()


every_region_ball = pytest.mark.parametrize(
    "ball", [case(ball, long=norm in {"l1", "l0"}, name=norm) for norm, ball in BALLS.items()]
)


@eqx.filter_jit
def own_regions(ball, model, images, labels):
    """What a walk through ten regions answers itself."""
    attack, key = LinearRegion(ball, steps=10), jax.random.key(0)
    return jax.vmap(lambda x, y: attack(model, x, y, key=key))(images, labels)


@every_region_ball
def test_a_walk_through_one_region_ends_at_the_exact_radius(ball, getkey):
    """A ReLU network whose units are active wherever a pixel may be is affine."""
    weight, hidden = jax.random.normal(getkey(), (10, 32)), jax.random.normal(getkey(), (32, 64))
    lift = jnp.sum(jnp.abs(hidden), axis=1) + 1.0
    layers = (Dense(hidden, lift), Dense(jnp.eye(32), jnp.zeros(32)), Dense(weight, -weight @ lift))
    model = network(getkey(), activation="relu")
    model = jax.tree.unflatten(jax.tree.structure(model), jax.tree.leaves(layers))
    grey = jax.random.randint(getkey(), (8, 64), -200, 456)
    images = np.clip(np.asarray(grey), 0, 255).astype(np.uint8)  # most pixels at an end
    x, y = to_float(images), predicted(model, images).astype(np.int32)
    found = own_regions(ball, model, x, y)
    assert np.max(margins(model, found, y)) <= 1e-3
    affine = Affine(weight @ hidden, jnp.zeros(10))
    radius = np.array([exact_radius(ball.name, affine, *pair) for pair in zip(x, y, strict=True)])
    ratio = sizes(ball.name, x, np.asarray(found)) / radius
    assert np.min(ratio) >= 1 - 1e-4
    assert np.max(ratio) <= 1 + 2e-3  # the way from nine tenths of it, and a hundredth of that


@every_region_ball
def test_logits_a_thousand_times_as_large_do_not_mislead_a_walk_through_regions(ball, getkey):
    model, images = network(getkey(), activation="relu"), grey_images(getkey(), 8)
    x, y = to_float(images), predicted(model, images).astype(np.int32)
    plain = own_regions(ball, model, x, y)
    masked = own_regions(ball, scaled_logits(model, 1e3, 0.0), x, y)
    assert np.mean(margins(model, masked, y) <= 1e-4) >= 0.8
    assert np.allclose(plain, masked, atol=1e-4)


# --- combinators ----------------------------------------------------------------------------------


def broken(attack, problem, key, eps):
    model, images, labels = problem
    found = break_batch(
        attack, model, images, labels, ids=np.arange(16), eps=eps, key=key, chunk=CHUNK
    )
    return found.broken


def test_restarts_share_their_first_runs_and_only_add(problem, getkey):
    key, weak = getkey(), PGD(Linf(), steps=2, rel_step_size=0.3)
    counts = [broken(Restarts(weak, restarts), problem, key, 0.04) for restarts in (1, 3, 12)]
    for fewer, more in itertools.pairwise(counts):
        assert np.all(more[fewer])
    assert counts[-1].sum() > counts[0].sum()


def test_the_worst_of_several_breaks_what_any_of_them_breaks(problem, getkey):
    key, attacks = getkey(), (FGM(Linf()), PGD(Linf(), steps=2), ATTACKS["noise100-corners-linf"])
    union = np.any([broken(attack, problem, key, 0.04) for attack in attacks], axis=0)
    assert np.array_equal(broken(WorstOf(attacks), problem, key, 0.04), union)


def test_transfer_attacks_the_siblings_alone(problem, getkey):
    model, images, labels = problem
    sibling, key = network(getkey()), getkey()
    x, y = jnp.asarray(images[0], jnp.float32) / 255, jnp.asarray(labels[0], jnp.int32)
    attack, eps = PGD(Linf(), steps=5), jnp.array(0.1)
    transferred = Transfer(attack, (sibling,))(model, x, y, eps=eps, key=key)
    assert jnp.array_equal(transferred, attack(sibling, x, y, eps=eps, key=key))


def test_a_minimal_attack_counts_in_a_ball_only_where_it_ends_inside(problem, getkey):
    model, images, labels = problem
    x, y = jnp.asarray(images[0], jnp.float32) / 255, jnp.asarray(labels[0], jnp.int32)
    attack, key = ATTACKS["deepfool50-l2"], getkey()
    closest = attack(model, x, y, key=key)
    size = attack.ball.size(closest - x)
    assert size > 0
    within = lambda eps: Within(attack)(model, x, y, eps=eps, key=key)
    assert jnp.array_equal(within(1.01 * size), closest)
    assert jnp.array_equal(within(0.99 * size), x)


@pytest.mark.long
def test_autoattack_breaks_what_its_parts_break(problem, getkey):
    key, attack = getkey(), AutoAttack(Linf())
    all_at_once = broken(attack, problem, key, 0.03)
    for part in (attack.attacks[0], attack.attacks[2]):
        alone = broken(part, problem, key, 0.03)
        assert alone.any()
        assert np.all(all_at_once[alone])
    assert not all_at_once.all()


class Dropping(AbstractStochasticClassifier):
    """Logits of a random fifth of the pixels, scaled so that they are right on average."""

    model: Affine

    def __call__(self, x, *, key):
        kept = jax.random.bernoulli(key, 0.2, x.shape)
        return self.model(jnp.where(kept, x / 0.2, 0.0))


def test_the_expectation_takes_the_step_that_single_draws_only_take_in_part(getkey):
    """In two classes the best step in Linf lowers the margin by eps * ||w||_1."""
    weight, eps = jax.random.normal(getkey(), (2, 64)) / 8, jnp.array(0.1)
    model, x, y = Affine(weight, jnp.zeros(2)), jnp.full(64, 0.5), jnp.array(0)
    size = jnp.sum(jnp.abs(weight[0] - weight[1]))

    def gained(samples, key):
        attack = EOT(FGM(Linf(), Margin()), Dropping(model), samples)
        z = answer(attack, model, x, y, eps, key)
        return (metrics.margin(model(x), y) - metrics.margin(model(z), y)) / (eps * size)

    assert gained(100, getkey()) == pytest.approx(1, abs=1e-5)
    singles = [float(gained(1, getkey())) for _ in range(10)]
    assert 0.1 < np.mean(singles) < 0.3


def test_an_expectation_is_the_log_of_mean_probabilities_and_a_function_of_the_image(getkey):
    weight, x = jax.random.normal(getkey(), (3, 64)), jax.random.uniform(getkey(), (64,))
    dropping = Dropping(Affine(weight, jnp.zeros(3)))
    few, many = (Expectation(dropping, getkey(), samples) for samples in (1, 20_000))
    assert jnp.array_equal(few(x), few(x))
    assert not jnp.allclose(few(x), few(x.at[0].add(1e-3)), atol=0.1)
    draws = jax.vmap(lambda key: jax.nn.softmax(dropping(x, key=key)))
    mean = jnp.mean(draws(jax.random.split(getkey(), 20_000)), axis=0)
    assert jnp.allclose(jnp.exp(many(x)), mean, atol=0.02)


def test_combinators_refuse_what_makes_no_sense():
    stochastic = Dropping(Affine(jnp.zeros((2, 4)), jnp.zeros(2)))
    with pytest.raises(ValueError, match="at least one sample, got 0"):
        EOT(PGD(), stochastic, 0)
    with pytest.raises(ValueError, match="at least one sample, got 0"):
        Expectation(stochastic, jax.random.key(0), 0)
    with pytest.raises(ValueError, match="restarts of at least 1, got 0"):
        Restarts(PGD(), 0)
    with pytest.raises(ValueError, match="one norm, got"):
        WorstOf((FGM(Linf()), FGM(L2())))
    with pytest.raises(ValueError, match="another network"):
        Transfer(PGD(), ())
