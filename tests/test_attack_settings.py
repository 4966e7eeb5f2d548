"""A published name is held to the published settings, and APGD to a second writing of its rules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case, grey_images, network, predicted

from robust_mnist.attacks import (
    APGD,
    APGDL1,
    ATTACKS,
    DDN,
    DLR,
    EAD,
    FABT,
    FGM,
    FMN,
    JSMA,
    MIFGSM,
    PGD,
    CarliniWagner,
    CrossEntropy,
    DeepFool,
    Margin,
    Noise,
    Restarts,
    Square,
    TargetedDLR,
    Toward,
    Within,
)
from robust_mnist.attacks._schedule import cosine
from robust_mnist.attacks.carlini_wagner import _INSIDE
from robust_mnist.threat import L2, Linf


NORMS = ("linf", "l2")


@pytest.mark.parametrize("norm", NORMS)
def test_apgd_has_the_settings_of_autoattack(norm):
    ce, dlr, targeted = (ATTACKS[f"apgd100-{name}-{norm}"] for name in ("ce", "dlr", "targeted"))
    assert isinstance(ce.loss, CrossEntropy)
    assert isinstance(dlr.loss, DLR)
    assert (targeted.targets, targeted.toward) == (9, TargetedDLR)
    for attack in (ce, dlr, targeted.attack):
        assert isinstance(attack, APGD)
        assert (attack.steps, attack.rho, attack.ball.name) == (100, 0.75, norm)
        # Checkpoints after these iterations, in the authors' code.
        assert np.cumsum(attack.windows()).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]


def test_apgd_in_l1_has_the_settings_of_autoattack():
    ce, targeted = ATTACKS["apgd100-ce-l1"], ATTACKS["apgd100-targeted-l1"]
    assert isinstance(ce, APGDL1)
    assert isinstance(ce.loss, CrossEntropy)
    assert (targeted.targets, targeted.toward) == (5, TargetedDLR)
    for attack in (ce, targeted.attack):
        assert (attack.steps, attack.fewer, attack.shortest, attack.sparser) == (
            100, 1.5, 0.1, 0.95,
        )  # fmt: skip
        assert [multiple for multiple, _ in attack.balls] == [3.0, 2.0, 1.0]
        assert attack.rounds() == [30, 30, 40]


@pytest.mark.parametrize("norm", [*NORMS, "l1"])
def test_fab_has_the_settings_of_autoattack(norm):
    attack = ATTACKS[f"fab100-targeted-{norm}"]
    assert isinstance(attack, FABT)
    assert attack.ball.name == norm
    settings = (attack.steps, attack.targets, attack.alpha_max, attack.eta, attack.beta)
    assert settings == (100, 9, 0.1, 1.05, 0.9)


@pytest.mark.parametrize("norm", NORMS)
def test_autoattack_runs_the_four_attacks_above_and_below_in_their_order(norm):
    names = ("apgd100-ce", "apgd100-targeted", "fab100-targeted", "square5000")
    ce, targeted, fab, square = (ATTACKS[f"{name}-{norm}"] for name in names)
    assert ATTACKS[f"autoattack-standard-{norm}"].attacks == (ce, targeted, Within(fab), square)


def test_square_has_the_settings_of_autoattack():
    for norm, ends in (("linf", [25, 18, 13, 9, 6, 4, 3, 2]), ("l2", [25, 19, 13, 9, 7, 5, 3, 3])):
        attack = ATTACKS[f"square5000-{norm}"]
        assert isinstance(attack, Square)
        assert (attack.queries, attack.p_init, attack.rescale) == (5000, 0.8, False)
        # The side falls after these queries, on the scale of 10,000; 5,000 end at p / 128.
        sides = attack.sides(28)
        assert [sides[query] for query in (0, 11, 51, 201, 501, 1001, 2001, 4001)] == ends
        assert [sides[query] for query in (10, 50, 200, 500, 1000, 2000, 4000)] == ends[:-1]
    stretched = Square(queries=1000, rescale=True).sides(28)
    assert (stretched[0], stretched[2], stretched[-1]) == (25, 18, 1)


def test_minimal_attacks_default_to_what_their_authors_used():
    assert (DDN().steps, DDN().init_eps, DDN().gamma) == (100, 1.0, 0.05)
    assert isinstance(DDN().loss, CrossEntropy)
    assert (FMN().steps, FMN().alpha, FMN().gamma) == (100, 1.0, 0.05)
    assert (DeepFool().steps, DeepFool().overshoot) == (50, 0.02)
    carlini = CarliniWagner()
    assert (carlini.searches, carlini.steps, carlini.learning_rate) == (9, 10_000, 0.01)
    assert (carlini.init_weight, carlini.confidence) == (1e-3, 0.0)
    elastic = EAD()
    assert (elastic.searches, elastic.steps, elastic.learning_rate) == (9, 10_000, 0.01)
    assert (elastic.init_weight, elastic.regularization) == (1e-3, 0.01)
    assert (MIFGSM().steps, MIFGSM().decay) == (10, 1.0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_fmn_of_every_norm_has_the_settings_of_its_authors(norm):
    attack = ATTACKS[f"fmn100-{norm}"]
    assert isinstance(attack, FMN)
    assert isinstance(attack.loss, Margin)
    # In Linf the first step is ten times as long, as AttackBench has it.
    settings = (attack.ball.name, attack.steps, attack.alpha, attack.gamma)
    assert settings == (norm, 100, 10.0 if norm == "linf" else 1.0, 0.05)


def test_ddn_and_deepfool_have_the_settings_of_their_authors():
    for name, loss in (("ddn100-l2", CrossEntropy), ("ddn100-margin-l2", Margin)):
        attack = ATTACKS[name]
        assert isinstance(attack, DDN)
        assert isinstance(attack.loss, loss)
        assert (attack.steps, attack.init_eps, attack.gamma) == (100, 1.0, 0.05)
    for norm in NORMS:
        attack = ATTACKS[f"deepfool50-{norm}"]
        assert isinstance(attack, DeepFool)
        assert (attack.ball.name, attack.steps, attack.overshoot) == (norm, 50, 0.02)


def test_bim_and_mifgsm_have_their_published_settings():
    bim, momentum = ATTACKS["bim10-linf"], ATTACKS["mifgsm10-linf"]
    assert isinstance(bim, PGD)
    assert (bim.ball.name, bim.steps, bim.rel_step_size, bim.random_start) == (
        "linf", 10, 0.2, False,
    )  # fmt: skip
    assert isinstance(momentum, MIFGSM)
    assert (momentum.ball.name, momentum.steps, momentum.decay) == ("linf", 10, 1.0)
    assert isinstance(bim.loss, CrossEntropy)
    assert isinstance(momentum.loss, CrossEntropy)


def test_fast_gradient_methods_ascend_cross_entropy():
    for norm in ("linf", "l2", "l1"):
        name = "fgsm-linf" if norm == "linf" else f"fgm-{norm}"
        assert isinstance(ATTACKS[name], FGM)
        assert isinstance(ATTACKS[name].loss, CrossEntropy)
        assert ATTACKS[name].ball.name == norm


@pytest.mark.parametrize("norm", [*NORMS, "l1"])
def test_pgd_takes_forty_steps_of_a_tenth_of_the_radius_from_a_random_start(norm):
    attack = ATTACKS[f"pgd40-{norm}"]
    assert type(attack) is PGD
    assert isinstance(attack.loss, Margin)
    assert (attack.ball.name, attack.steps, attack.rel_step_size) == (norm, 40, 0.1)
    assert attack.random_start


def test_variants_differ_from_published_attacks_in_what_their_names_say():
    assert ATTACKS["pgd40-ce-linf"] == dataclasses.replace(
        ATTACKS["pgd40-linf"], loss=CrossEntropy()
    )
    for name, targets in (("targeted", 9), ("targeted4", 4)):
        attack = ATTACKS[f"pgd20-{name}-linf"]
        assert attack.attack == dataclasses.replace(ATTACKS["pgd40-linf"], steps=20)
        assert (attack.targets, attack.toward) == (targets, Toward)
    for norm in NORMS:
        whole = ATTACKS[f"apgd100-targeted-{norm}"]
        assert ATTACKS[f"apgd100-targeted4-{norm}"] == dataclasses.replace(whole, targets=4)
        assert ATTACKS[f"square1000-{norm}"] == dataclasses.replace(
            ATTACKS[f"square5000-{norm}"], queries=1000, rescale=True
        )
        fab = ATTACKS[f"fab100-targeted-{norm}"]
        assert ATTACKS[f"fab10-targeted-{norm}"] == dataclasses.replace(fab, steps=10)
    fab = ATTACKS["fab100-targeted-l2"]
    assert ATTACKS["fab30-targeted-l2"] == dataclasses.replace(fab, steps=30)
    carlini = ATTACKS["cw5x200-l2"]
    assert ATTACKS["cw3x100-l2"] == dataclasses.replace(carlini, searches=3, steps=100)
    kinds = {"uniform-linf", "corners-linf", "gaussian-l2"}
    for kind in kinds:
        attack = ATTACKS[f"noise100-{kind}"]
        assert isinstance(attack, Noise)
        assert (f"{attack.kind}-{attack.ball.name}", attack.samples) == (kind, 100)


@pytest.mark.parametrize("norm", NORMS)
def test_ten_restarts_are_of_the_published_pgd(norm):
    attack = ATTACKS[f"pgd10x40-{norm}"]
    assert isinstance(attack, Restarts)
    assert (attack.restarts, attack.attack) == (10, ATTACKS[f"pgd40-{norm}"])


def test_jsma_flips_whole_pixels_up_to_a_tenth_of_them():
    attack = ATTACKS["jsma-l0"]
    assert isinstance(attack, JSMA)
    assert (attack.ball.name, attack.theta, attack.gamma, attack.targets) == ("l0", 1.0, 0.1, 9)


def test_the_short_carlini_wagner_and_ead_differ_from_their_authors_in_what_they_search():
    carlini, elastic = ATTACKS["cw5x200-l2"], ATTACKS["ead5x200-l1"]
    assert isinstance(carlini, CarliniWagner)
    assert isinstance(elastic, EAD)
    for attack in (carlini, elastic):
        searched = (attack.searches, attack.steps, attack.learning_rate, attack.init_weight)
        assert searched == (5, 200, 0.05, 0.1)
    assert (carlini.confidence, _INSIDE) == (0.0, 0.999999)
    assert (elastic.regularization, elastic.rule, EAD().rule) == (0.01, "l1", "en")


def test_a_cosine_goes_from_its_first_value_to_its_last():
    at = lambda step: float(cosine(jnp.asarray(step), 100, 2.0, 0.02))
    assert [at(step) for step in (0, 50, 100)] == pytest.approx([2.0, 1.01, 0.02])


def apgd_again(gradient, value, is_wrong, start, x, eps, norm):
    """The rules of APGD in plain loops over lists, for 100 steps, in float64."""

    def project(z):
        delta = z - x
        if norm == "linf":
            return np.clip(np.clip(z, x - eps, x + eps), 0, 1)
        length = np.linalg.norm(delta)
        return np.clip(x + delta / max(length, 1e-12) * min(eps, length), 0, 1)

    def direction(g):
        return np.sign(g) if norm == "linf" else g / (np.linalg.norm(g) + 1e-300)

    z, before, step = start.copy(), start.copy(), 2 * eps
    losses = [0.0] * 100  # the entry at -1 is read before it is written
    best, best_value, best_gradient = z, value(z), gradient(z)
    current = best_gradient
    wrong = z if is_wrong(z) else None
    window, counter, last_value, reduced = 22, 0, best_value, True
    for i in range(100):
        share = 0.75 if i else 1.0
        aim = project(z + step * direction(current))
        z, before = project(z + share * (aim - z) + (1 - share) * (z - before)), z
        current, losses[i] = gradient(z), value(z)
        if is_wrong(z):
            wrong = z
        if losses[i] > best_value:
            best, best_value, best_gradient = z, losses[i], current
        counter += 1
        if counter == window:
            rises = sum(losses[i - k] > losses[i - k - 1] for k in range(window))
            halve = rises <= 0.75 * window or (not reduced and last_value >= best_value)
            reduced, last_value = halve, best_value
            if halve:
                step, z, current = step / 2, best, best_gradient
            window, counter = max(window - 3, 6), 0
    return best if wrong is None else wrong


@pytest.mark.parametrize(
    ("ball", "eps", "loss"),
    [
        case(Linf(), 0.02, DLR(), name="linf-dlr"),
        case(L2(), 0.15, CrossEntropy(), name="l2-ce"),
        case(Linf(), 0.02, CrossEntropy(), name="linf-ce", long=True),
        case(L2(), 0.15, DLR(), name="l2-dlr", long=True),
    ],
)
def test_apgd_takes_the_very_steps_of_its_rules(ball, eps, loss, getkey):
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
        model, images = network(getkey()), grey_images(getkey(), 4)
        labels, model, attack = predicted(model, images), wide(model), APGD(ball, loss)
        run = jax.jit(lambda x, y, key: attack(model, x, y, eps=jnp.asarray(eps), key=key))
        value = jax.jit(lambda z, y: loss(model(z), y))
        slope, answer = jax.jit(jax.grad(value)), jax.jit(lambda z: jnp.argmax(model(z)))
        for image, label in zip(images, labels, strict=True):
            x, y, key = jnp.asarray(image / 255.0), jnp.asarray(int(label), jnp.int32), getkey()
            found = run(x, y, key)
            again = apgd_again(
                gradient=lambda z, y=y: np.asarray(slope(z, y)),
                value=lambda z, y=y: float(value(z, y)),
                is_wrong=lambda z, y=y: int(answer(z)) != int(y),
                start=np.clip(np.asarray(x + eps * attack._draw(key, 64)), 0, 1),
                x=np.asarray(x), eps=eps, norm=ball.name,
            )  # fmt: skip
            assert np.allclose(found, again, atol=1e-9)


def project_again(x, delta, eps):
    """The projection on ball and box, by bisection of the level."""
    size = np.abs(delta)
    limit = np.where(delta > 0, 1 - x, x)
    low, high = 0.0, size.max()
    at = lambda level: np.clip(size - level, 0, limit)
    if at(0.0).sum() <= eps:
        return np.sign(delta) * at(0.0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() > eps else (low, middle)
    return np.sign(delta) * at(high)


def apgd_l1_again(gradient, value, is_wrong, start, x, eps, steps):
    """The rules of APGD in L1 in plain loops, in one ball."""
    z, step, count = start, eps, x.size
    best, best_value, best_gradient = z, value(z), gradient(z)
    current, wrong = best_gradient, z if is_wrong(z) else None
    before = np.sum(z != x)
    share = before / count / 1.5
    for i in range(steps):
        bound = np.sort(np.abs(current))[int(np.clip((1 - share) * count + 1e-9, 0, count - 1))]
        signs = np.where(np.abs(current) >= bound, np.sign(current), 0)
        delta = z + step * signs / np.abs(signs).sum() - x
        z = x + project_again(x, delta, eps)
        current = gradient(z)
        if is_wrong(z):
            wrong = z
        if value(z) > best_value:
            best, best_value, best_gradient = z, value(z), current
        if (i + 1) % max(int(0.04 * steps), 1) == 0:
            now = np.sum(best != x)
            share = now / count / 1.5
            if now / before < 0.95:
                step, z, current = eps, best, best_gradient
            else:
                step = max(step / 1.5, eps / 10)
            before = now
    return best, wrong


def test_apgd_in_l1_takes_the_very_steps_of_its_rules(getkey):
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
        model, images = network(getkey()), grey_images(getkey(), 3)
        labels, model = predicted(model, images), wide(model)
        attack, eps = APGDL1(), 0.8
        run = jax.jit(lambda x, y, key: attack(model, x, y, eps=jnp.asarray(eps), key=key))
        value = jax.jit(lambda z, y: attack.loss(model(z), y))
        slope = jax.jit(jax.grad(lambda z, y: attack.loss(model(z), y)))
        for image, label in zip(images, labels, strict=True):
            x, y, key = image / 255.0, jnp.asarray(int(label), jnp.int32), getkey()
            z, wrong = x + np.asarray(attack._draw(key, 64)), None
            for (multiple, _), steps in zip(attack.balls, attack.rounds(), strict=True):
                radius = multiple * eps
                z, wrong = apgd_l1_again(
                    gradient=lambda z, y=y: np.asarray(slope(z, y)),
                    value=lambda z, y=y: float(value(z, y)),
                    is_wrong=lambda z, y=y: int(jnp.argmax(model(jnp.asarray(z)))) != int(y),
                    start=x + project_again(x, z - x, radius), x=x, eps=radius, steps=steps,
                )  # fmt: skip
            found = run(jnp.asarray(x), y, key)
            assert np.allclose(found, z if wrong is None else wrong, atol=1e-9)
