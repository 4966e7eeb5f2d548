"""Attacks that see the class alone: their settings, and a second writing of their rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import case, grey_images, network, predicted

from robust_mnist.attacks import ATTACKS, Boundary, HopSkipJump, _decision
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import cost
from robust_mnist.threat import L1, L2, Linf


class Hard(AbstractClassifier):
    """The class of another model, without its logits."""

    model: AbstractClassifier

    def __call__(self, x):
        logits = self.model(x)
        return jax.nn.one_hot(jnp.argmax(logits), logits.size)


class Plain:
    """A network in numpy: tells whether it is wrong about an image of a class."""

    def __init__(self, model, label):
        self.layers = [
            (np.asarray(layer.weight, float), np.asarray(layer.bias, float))
            for layer in model.layers
        ]
        self.label = label

    def __call__(self, z):
        *hidden, (weight, bias) = self.layers
        for inner, shift in hidden:
            z = np.tanh(inner @ z + shift)
        return np.argmax(weight @ z + bias) != self.label


def wide(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


@pytest.fixture
def problem(getkey):
    model, images = network(getkey()), grey_images(getkey(), 2)
    return model, images / 255.0, predicted(model, images)


def test_hopskipjump_has_the_settings_of_its_authors():
    for norm, halvings in (("l2", 15), ("linf", 20)):
        attack = ATTACKS[f"hopskipjump64-{norm}"]
        assert isinstance(attack, HopSkipJump)
        assert (attack.steps, attack.first_queries, attack.most_queries) == (64, 100, 10_000)
        assert attack.first_width == 0.1
        assert attack.probes()[:4] == [100, 141, 173, 200]
        assert attack.probes()[-1] == 800
        # Down to 1 / 21,952 = 784^-1.5 of the distance in L2, to 784^-2 in Linf.
        assert attack.halvings(784) == halvings
    assert HopSkipJump(first_queries=20_000).probes()[0] == 10_000


def test_boundary_has_the_settings_of_its_authors():
    attack = ATTACKS["boundary25000-l2"]
    assert isinstance(attack, Boundary)
    assert (attack.steps, attack.sphere, attack.source) == (25_000, 0.01, 0.01)
    assert (attack.converged, attack.adaptation, attack.every) == (1e-7, 1.5, 10)


def test_they_cost_the_classes_they_ask_for_and_no_gradient(problem):
    model, _, _ = problem
    for attack in (HopSkipJump(L2(), steps=5), HopSkipJump(Linf(), steps=5)):
        pulls = 6 * attack.halvings(64)
        assert cost(attack, model) == (100 + pulls + sum(attack.probes()) + 5 * attack.lengths, 0)
    # A start, its halvings, a query per step, and one more at every tenth.
    assert cost(Boundary(steps=200), model) == (100 + 10 + 200 + 20, 0)


@pytest.mark.parametrize(
    "attack",
    [
        case(HopSkipJump(Linf(), steps=3), name="hopskipjump-linf"),
        case(HopSkipJump(L2(), steps=3), name="hopskipjump-l2", long=True),
        case(Boundary(steps=300), name="boundary", long=True),
    ],
)
def test_a_model_that_tells_its_class_alone_is_attacked_as_well(attack, problem, getkey):
    model, images, labels = problem
    # In float64: the last halvings of float32 end where two programs round a margin either way.
    with jax.enable_x64(True):
        model, x = wide(model), jnp.asarray(images[0])
        y, key = jnp.asarray(int(labels[0]), jnp.int32), getkey()
        run = jax.jit(lambda model: attack(model, x, y, key=key))
        soft, hard = run(model), run(Hard(model))
        assert jnp.argmax(model(soft)) != int(labels[0])
        assert jnp.array_equal(soft, hard)


def test_without_any_wrong_image_the_answer_is_the_image(getkey):
    class Stubborn(AbstractClassifier):
        def __call__(self, x):
            return jnp.array([1.0, 0.0]) + 0.0 * x[:2]

    x = jax.random.uniform(getkey(), (16,))
    for attack in (HopSkipJump(L2(), steps=1), Boundary(steps=10)):
        assert jnp.array_equal(attack(Stubborn(), x, jnp.array(0), key=getkey()), x)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="linf or l2, got l1"):
        HopSkipJump(L1())
    with pytest.raises(ValueError, match="got steps=0"):
        HopSkipJump(steps=0)
    with pytest.raises(ValueError, match="got steps=15 and every=10"):
        Boundary(steps=15)


def hop_skip_jump_again(is_wrong, x, z, draw, norm, steps):
    """HopSkipJump in plain loops, from a wrong image; the closest image it has pulled in."""
    size = (lambda d: np.abs(d).max()) if norm == "linf" else np.linalg.norm
    halvings = {"l2": 1.5, "linf": 2.0}[norm] * np.log2(x.size)
    number, closest = 1, z

    def pull(far):
        nonlocal number, closest
        low, high, best = 0.0, 1.0, far
        for _ in range(int(np.ceil(halvings))):
            middle, length = (low + high) / 2, size(far - x)
            if norm == "linf":
                candidate = x + np.clip(far - x, -middle * length, middle * length)
            else:
                candidate = (1 - middle) * x + middle * far
            if is_wrong(candidate):
                high, best = middle, candidate
                closest = best if size(best - x) < size(closest - x) else closest
            else:
                low = middle
            number += 1
        return best

    z = pull(z)
    for t in range(1, steps + 1):
        width = 0.1 if t == 1 else size(z - x) / x.size
        moves, signs = [], []
        for _ in range(int(100 * np.sqrt(t))):
            probe = np.clip(z + width * draw(number), 0, 1)
            moves.append(probe - z)
            signs.append(1.0 if is_wrong(probe) else -1.0)
            number += 1
        signs = np.array(signs)
        weights = signs if abs(signs.mean()) == 1 else signs - signs.mean()
        normal = np.mean(weights[:, None] * np.array(moves), axis=0)
        normal = np.sign(normal) if norm == "linf" else normal / np.linalg.norm(normal)
        length = size(z - x) / np.sqrt(t)
        for _ in range(15):
            candidate = np.clip(z + length * normal, 0, 1)
            if is_wrong(candidate):
                z = candidate
                break
            length /= 2
        number += 15
        z = pull(z)
    return closest


@pytest.mark.parametrize("ball", [Linf(), L2()], ids=["linf", "l2"])
def test_hopskipjump_asks_the_very_questions_of_its_rules(ball, problem, getkey):
    with jax.enable_x64(True):
        model, images, labels = problem
        attack, model = HopSkipJump(ball, steps=6), wide(model)
        run = jax.jit(lambda x, y, key: attack(model, x, y, key=key))
        like = jnp.asarray(images[0])
        draw = jax.jit(lambda key, number: attack._draw(jax.random.fold_in(key, number), like))
        for image, label in zip(images, labels, strict=True):
            x, y, key = jnp.asarray(image), jnp.asarray(int(label), jnp.int32), getkey()
            is_wrong = _decision.decision(model, y)
            first = _decision.start(is_wrong, ball, x, jax.random.fold_in(key, 0))
            again = hop_skip_jump_again(
                Plain(model, int(label)), image, np.asarray(first.image),
                lambda number, key=key: np.asarray(draw(key, number)), ball.name, steps=6,
            )  # fmt: skip
            assert np.allclose(run(x, y, key), again, atol=1e-9)
            assert ball.size(jnp.asarray(again - image)) < 0.6 * first.size


def boundary_again(is_wrong, x, z, noise):
    """The Boundary attack in plain loops, in rounds of ten steps; the image and its last steps."""
    size, sphere, source, spheres, afters = np.linalg.norm, 0.01, 0.01, [], []
    for draws in noise:
        for draw in draws:
            home = x - z
            distance = size(home)
            direction = home / distance
            side = draw - (draw @ direction) * direction
            side *= sphere * distance / size(side)
            on_sphere = np.clip(x + (side - home) / np.sqrt(sphere**2 + 1), 0, 1)
            back = x - on_sphere
            length = max(source * distance + size(back) - distance, 0) / size(back)
            after = np.clip(on_sphere + length * back, 0, 1)
            wrong = is_wrong(after)
            if wrong and size(after - x) < distance:
                z = after
        spheres = [*spheres, is_wrong(on_sphere)][-100:]
        afters = [*afters, wrong][-30:]
        if len(spheres) == 100 and not 0.2 <= np.mean(spheres) <= 0.5:
            factor = 1.5 if np.mean(spheres) > 0.5 else 1 / 1.5
            sphere, source, spheres = sphere * factor, source * factor, []
        if len(afters) == 30 and not 0.1 <= np.mean(afters) <= 0.25:
            source, afters = source * (1.5 if np.mean(afters) > 0.25 else 1 / 1.5), []
    return z, sphere, source


def test_boundary_walks_the_very_steps_of_its_rules(problem, getkey):
    with jax.enable_x64(True):
        model, images, labels = problem
        attack, model = Boundary(steps=2500), wide(model)
        run = jax.jit(lambda x, y, key: attack(model, x, y, key=key))
        draws = jax.jit(
            lambda key, number: jax.vmap(lambda k: jax.random.normal(k, (64,)))(
                jax.random.split(jax.random.fold_in(key, number), 10)
            )
        )
        for image, label in zip(images, labels, strict=True):
            x, y, key = jnp.asarray(image), jnp.asarray(int(label), jnp.int32), getkey()
            is_wrong = _decision.decision(model, y)
            first = _decision.start(is_wrong, L2(), x, jax.random.fold_in(key, 0))
            first = _decision.pull(is_wrong, L2(), x, first.image, 10)
            noise = [np.asarray(draws(key, number)) for number in range(1, 251)]
            again, sphere, source = boundary_again(
                Plain(model, int(label)), image, np.asarray(first), noise
            )
            assert np.allclose(run(x, y, key), again, atol=1e-9)
            # Both rules have changed the steps.
            assert sphere != 0.01
            assert source / sphere != pytest.approx(1)
