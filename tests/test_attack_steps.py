"""Attacks against a second writing of their rules: both ask the network about the same images.

The attacks are those of the registry, with fewer steps. The second writings are plain loops in
float64, made from the papers and the authors' settings; they share with the attacks the derivative
of the network and the random draws, and nothing else.
"""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Affine, exact_radius, grey_images, network, predicted

from robust_mnist.attacks import ATTACKS
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L1, L2, Linf


_seen = []


class Watched(AbstractClassifier):
    """A network that takes down, in order, what it is asked."""

    model: AbstractClassifier

    def __call__(self, x):
        jax.debug.callback(_seen.append, x, ordered=True)
        return self.model(x)


@eqx.filter_jit
def _run(attack, model, x, y, key, radius):
    return attack(Watched(model), x, y, key=key, **radius)


def shorter(name, **changes):
    """An attack of the registry with fewer steps, targets or queries."""
    return dataclasses.replace(ATTACKS[name], **changes)


def asked(attack, model, x, y, key, **radius):
    """The images about which an attack asks the network, in order."""
    _seen.clear()
    radius = {name: jnp.asarray(eps, jnp.float32) for name, eps in radius.items()}
    _run(attack, model, jnp.asarray(x), jnp.asarray(y, jnp.int32), key, radius)
    jax.effects_barrier()
    return np.array(_seen, np.float64)


@eqx.filter_jit
def _linear(model, z):
    return model(z), jax.jacrev(model)(z)


def linear(model, z):
    """Logits and their slopes at an image."""
    return [np.asarray(part, np.float64) for part in _linear(model, jnp.asarray(z, jnp.float32))]


def lead(model, z, y):
    """By how much another class leads, and the slope of that."""
    logits, slopes = linear(model, z)
    other = max((c for c in range(len(logits)) if c != y), key=lambda c: logits[c])
    return logits[other] - logits[y], slopes[other] - slopes[y]


def entropy_slope(model, z, y):
    """The slope of cross-entropy."""
    logits, slopes = linear(model, z)
    share = np.exp(logits - logits.max())
    return (share / share.sum() - np.eye(len(logits))[y]) @ slopes


def falling(first, last, step, steps):
    """Half a cosine."""
    return last + (first - last) * (1 + np.cos(np.pi * step / steps)) / 2


def size(norm, delta):
    return {
        "linf": lambda: np.abs(delta).max(),
        "l2": lambda: np.sqrt(np.sum(delta**2)),
        "l1": lambda: np.abs(delta).sum(),
    }[norm]()


def onto_plane(norm, start, slope, rise):
    """The smallest change in the box with `slope @ change == rise`, by bisection or greedily."""
    if rise < 0:
        slope, rise = -slope, -rise
    room = np.where(slope > 0, 1 - start, start)
    if norm == "l1":
        change = np.zeros_like(start)
        for at in np.argsort(-np.abs(slope)):
            change[at] = np.clip(rise / abs(slope[at]), 0, room[at])
            rise -= abs(slope[at]) * change[at]
        return np.sign(slope) * change
    speed = np.ones_like(slope) if norm == "linf" else np.abs(slope)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        enough = np.abs(slope) @ np.minimum(middle * speed, room) >= rise
        low, high = (low, middle) if enough else (middle, high)
    return np.sign(slope) * np.minimum(high * speed, room)


@pytest.fixture(scope="module")
def problem():
    """A rough network on 8 x 8 pixels and images that it is right about."""
    model = network(jax.random.key(0), sizes=(64, 16, 5), gain=4.0)
    images = grey_images(jax.random.key(1), 3)
    return model, images / np.float32(255), predicted(model, images)


def same(seen, again):
    assert seen.shape == np.shape(again)
    assert np.allclose(seen, again, atol=2e-5)


def fab_again(model, x, y, norm, steps, targets):
    logits, _ = linear(model, x)
    order = [c for c in np.argsort(-logits) if c != y][:targets]
    images = [x]
    for target in order:
        z = x
        for _ in range(steps):
            logits, slopes = linear(model, z)
            gap, slope = logits[target] - logits[y], slopes[target] - slopes[y]
            # The plane gap + slope @ (z' - z) = 0, from the iterate and from the clean image.
            from_z = onto_plane(norm, z, slope, -gap)
            from_x = onto_plane(norm, x, slope, -gap - slope @ (x - z))
            far_z, far_x = max(size(norm, from_z), 1e-8), max(size(norm, from_x), 1e-8)
            alpha = min(far_z / (far_z + far_x), 0.1)
            moved = (1 - alpha) * (z + 1.05 * from_z) + alpha * (x + 1.05 * from_x)
            moved = np.clip(moved, 0, 1)
            images += [z, moved]
            z = x + 0.9 * (moved - x) if lead(model, moved, y)[0] >= 0 else moved
    return images


@pytest.mark.parametrize("ball", [Linf(), L2(), L1()], ids=["linf", "l2", "l1"])
def test_fab_takes_the_very_steps_of_its_rules(ball, problem, getkey):
    model, images, labels = problem
    attack = shorter(f"fab100-targeted-{ball.name}", steps=5, targets=2)
    for x, y in zip(images, labels, strict=True):
        wide = np.asarray(x, np.float64)
        same(asked(attack, model, x, y, getkey()), fab_again(model, wide, y, ball.name, 5, 2))


def corner(key, height, side):
    return [int(u * (height - side)) for u in np.asarray(jax.random.uniform(key, (2,)))]


def square_linf_again(margin, x, eps, key, sides):
    height = len(x)
    stripes = np.asarray(jax.random.rademacher(jax.random.fold_in(key, 0), (1, height)))
    best = np.clip(x + eps * stripes, 0, 1)
    images, lowest = [best], margin(best)
    for number, side in enumerate(sides, start=1):
        place, sign = jax.random.split(jax.random.fold_in(key, number))
        top, left = corner(place, height, side)
        z = best.copy()
        z[top : top + side, left : left + side] += 2 * eps * int(jax.random.rademacher(sign, ()))
        z = np.clip(np.clip(z, x - eps, x + eps), 0, 1)
        images.append(z)
        found = margin(z)
        if lowest > 0 and found < lowest:
            best, lowest = z, found
    return images


def pyramid(rows, columns):
    """A pixel at ring d around the middle has the sum of 1 / k^2 over the rings from d outwards."""
    top, left = rows // 2, columns // 2
    ring = lambda r, c: max(abs(r - top), abs(c - left))
    height = lambda d: sum(1 / (k + 1) ** 2 for k in range(d, max(top, left) + 1))
    image = np.array([[height(ring(r, c)) for c in range(columns)] for r in range(rows)])
    return image / np.linalg.norm(image)


def bump(side, turned):
    upper = side // 2
    halves = [pyramid(upper, side)] if upper else []
    image = np.concatenate([*halves, -pyramid(side - upper, side)])
    image /= np.linalg.norm(image)
    return image.T if turned else image


def square_l2_again(margin, x, eps, key, sides):
    height = len(x)
    scaled = lambda delta: np.clip(x + eps * delta / np.linalg.norm(delta), 0, 1)
    first = jax.random.fold_in(key, 0)
    tile = height // 5
    count, edge = height // tile, (height - 5 * tile) // 2
    signs = np.asarray(jax.random.rademacher(first, (count, count)))
    turns = np.asarray(jax.random.bernoulli(jax.random.fold_in(first, 1), shape=(count, count)))
    delta = np.zeros_like(x)
    for row in range(count):
        for column in range(count):
            top, left = edge + row * tile, edge + column * tile
            if max(top, left) + tile <= height:
                piece = signs[row, column] * bump(tile, turns[row, column])
                delta[top : top + tile, left : left + tile] = piece
    best = scaled(delta)
    images, lowest = [best], margin(best)
    for number, side in enumerate(sides, start=1):
        keys = jax.random.split(jax.random.fold_in(key, number), 4)
        (top, left), (down, right) = corner(keys[0], height, side), corner(keys[1], height, side)
        sign, turned = int(jax.random.rademacher(keys[2], ())), bool(jax.random.bernoulli(keys[3]))
        delta, to = best - x, (slice(top, top + side), slice(left, left + side))
        source = (slice(down, down + side), slice(right, right + side))
        in_either = np.zeros(x.shape, bool)
        in_either[to] = in_either[source] = True
        left_over = max(eps**2 - np.sum(delta**2), 0)
        new = delta[to] / max(np.linalg.norm(delta[to]), 1e-12) + sign * bump(side, turned)
        new *= np.sqrt(left_over + np.sum(delta[in_either] ** 2)) / np.linalg.norm(new)
        delta = delta.copy()
        delta[source] = 0
        delta[to] = new
        z = scaled(delta)
        images.append(z)
        found = margin(z)
        if lowest > 0 and found < lowest:
            best, lowest = z, found
    return images


@pytest.mark.parametrize(
    ("ball", "eps", "again"),
    [(Linf(), 0.05, square_linf_again), (L2(), 0.6, square_l2_again)],
    ids=["linf", "l2"],
)
def test_square_tries_the_very_windows_of_its_rules(ball, eps, again, getkey):
    # Twelve rows, so that the first tiles are more than single pixels.
    model = network(getkey(), sizes=(144, 16, 5), gain=4.0)
    images = grey_images(getkey(), 2, pixels=144)
    attack = shorter(f"square5000-{ball.name}", queries=60)
    assert len(set(attack.sides(12))) == 3
    for image, y in zip(images, predicted(model, images), strict=True):
        x, key = image / np.float32(255), getkey()
        wide = np.asarray(x, np.float64).reshape(12, 12)
        margin = lambda z, y=y: -lead(model, z.ravel(), y)[0]
        images_again = again(margin, wide, eps, key, attack.sides(12))
        same(asked(attack, model, x, y, key, eps=eps), np.reshape(images_again, (61, 144)))


def ddn_again(model, x, y, slope, steps):
    delta, eps, images = np.zeros_like(x), 1.0, []
    for k in range(steps):
        images.append(x + delta)
        wrong, gradient = lead(model, x + delta, y)[0] >= 0, slope(model, x + delta, y)
        delta = delta + falling(1, 0.01, k, steps) * gradient / np.linalg.norm(gradient)
        eps *= 0.95 if wrong else 1.05
        delta = np.clip(x + eps * delta / np.linalg.norm(delta), 0, 1) - x
    return [*images, x + delta]


@pytest.mark.parametrize(
    ("name", "slope"),
    [("ddn100-l2", entropy_slope), ("ddn100-margin-l2", lambda *at: lead(*at)[1])],
    ids=["ce", "margin"],
)
def test_ddn_takes_the_very_steps_of_its_rules(name, slope, problem, getkey):
    model, images, labels = problem
    for x, y in zip(images, labels, strict=True):
        wide = np.asarray(x, np.float64)
        seen = asked(shorter(name, steps=8), model, x, y, getkey())
        same(seen, ddn_again(model, wide, y, slope, 8))


def inside(norm, delta, eps):
    """The projection on a ball; in L1 by bisection of what is taken off each pixel."""
    if norm == "linf":
        return np.clip(delta, -eps, eps)
    if norm == "l2":
        return delta * min(1, eps / max(np.linalg.norm(delta), 1e-12))
    low, high = 0.0, np.abs(delta).max()
    if np.abs(delta).sum() <= eps:
        return delta
    for _ in range(200):
        middle = (low + high) / 2
        less = np.maximum(np.abs(delta) - middle, 0)
        low, high = (middle, high) if less.sum() > eps else (low, middle)
    return np.sign(delta) * np.maximum(np.abs(delta) - high, 0)


DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


def fmn_again(model, x, y, norm, steps):
    first = 10 if norm == "linf" else 1
    delta, eps, closest, images = np.zeros_like(x), np.inf, np.inf, []
    for k in range(steps):
        z = x + delta
        images.append(z)
        value, slope = lead(model, z, y)
        gamma, alpha = falling(0.05, 0.001, k, steps), falling(first, first / 100, k, steps)
        if value >= 0:
            closest = min(closest, size(norm, delta))
            eps = min(eps, closest) * (1 - gamma)
        elif np.isfinite(closest):
            eps *= 1 + gamma
        else:  # where the linearised boundary lies, of the pixels that are not at an end
            free = np.where(np.where(slope > 0, z < 1, z > 0), slope, 0)
            eps = size(norm, delta) + (1 + gamma) * -value / np.linalg.norm(free, DUAL[norm])
        moved = np.clip(z + alpha * slope / np.linalg.norm(slope), 0, 1) - x
        delta = inside(norm, moved, eps)
    return [*images, x + delta]


@pytest.mark.parametrize("ball", [Linf(), L2(), L1()], ids=["linf", "l2", "l1"])
def test_fmn_takes_the_very_steps_of_its_rules(ball, problem, getkey):
    model, images, labels = problem
    for x, y in zip(images, labels, strict=True):
        seen = asked(shorter(f"fmn100-{ball.name}", steps=8), model, x, y, getkey())
        same(seen, fmn_again(model, np.asarray(x, np.float64), y, ball.name, 8))


@pytest.mark.parametrize("ball", [Linf(), L2()], ids=["linf", "l2"])
def test_fmn_stays_in_the_ball_that_it_projects_on(ball, getkey):
    """Foolbox projects on nothing in L2, and a step is a hundred times as long as these balls.

    The first one is a twentieth larger than it has to be, of two classes far from the box.
    """
    weight, x = 20 * jax.random.normal(getkey(), (2, 64)), jnp.full(64, 0.5)
    model = Affine(weight, jnp.array([3.0, 0.0]) - weight @ x)
    radius = exact_radius(ball.name, model, x, 0)
    seen = asked(shorter(f"fmn100-{ball.name}", steps=30), model, x, 0, getkey())
    farthest = max(size(ball.name, z - 0.5) for z in seen)
    assert radius < farthest <= 1.05 * radius * (1 + 1e-3)


def test_mifgsm_takes_the_very_steps_of_its_rules(problem, getkey):
    model, images, labels = problem
    steps, eps = 10, 0.6  # far enough for slopes to turn, so that their weights count
    for x, y in zip(images, labels, strict=True):
        z, momentum, again = np.asarray(x, np.float64), np.zeros(64), []
        for _ in range(steps):
            again.append(z)
            slope = entropy_slope(model, z, y)
            momentum = momentum + slope / np.abs(slope).sum()
            z = np.clip(z + eps / steps * np.sign(momentum), 0, 1)
        same(asked(ATTACKS["mifgsm10-linf"], model, x, y, getkey(), eps=eps), [*again, z])


@pytest.mark.parametrize("ball", [Linf(), L2()], ids=["linf", "l2"])
def test_deepfool_takes_the_very_steps_of_its_rules(ball, problem, getkey):
    model, images, labels = problem
    for x, y in zip(images, labels, strict=True):
        z, again = np.asarray(x, np.float64), []
        for _ in range(4):
            again.append(z)
            logits, slopes = linear(model, z)
            if np.argmax(logits) != y:
                continue
            others = [c for c in range(len(logits)) if c != y]
            moves = [
                onto_plane(ball.name, z, slopes[c] - slopes[y], logits[y] - logits[c])
                for c in others
            ]
            shortest = min(moves, key=lambda move: size(ball.name, move))
            z = np.clip(z + 1.02 * shortest, 0, 1)
        same(asked(shorter(f"deepfool50-{ball.name}", steps=4), model, x, y, getkey()), again)


def weight_again(weight, low, high, found):
    """Ten times as much until it suffices, then the middle between what did and what did not."""
    low, high = (low, min(high, weight)) if found else (max(low, weight), high)
    return (10 * weight if np.isinf(high) else (low + high) / 2), low, high


def carlini_wagner_again(model, x, y, searches, steps, rate, weight):
    images, tried, low, high = [], [], 0.0, np.inf
    best, closest = np.inf, x
    for _ in range(searches):
        w, found = np.arctanh(0.999999 * (2 * x - 1)), False
        mean, square = np.zeros_like(x), np.zeros_like(x)
        for t in range(steps + 1):
            z = 0.5 + 0.5 * np.tanh(w)
            images.append(z)
            value, slope = lead(model, z, y)
            if value >= 0:
                found = True
                if np.linalg.norm(z - x) < best:
                    best, closest = np.linalg.norm(z - x), z
            if t == steps:
                break
            by_image = 2 * (z - x) - (weight * slope if value < 0 else 0)
            gradient = by_image * 2 * z * (1 - z)  # which is the slope of the curve
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            unbiased = mean / (1 - 0.9 ** (t + 1)), square / (1 - 0.999 ** (t + 1))
            w = w - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        tried.append(found)
        weight, low, high = weight_again(weight, low, high, found)
    return images, closest, tried


def ead_again(model, x, y, searches, steps, rate, weight, rule):
    beta, images, tried, low, high = 0.01, [], [], 0.0, np.inf
    best, closest = np.inf, x
    for _ in range(searches):
        now, ahead, found = x, x, False
        for k in range(steps):
            images.append(ahead)
            value, slope = lead(model, ahead, y)
            gradient = 2 * (ahead - x) - (weight * slope if value < 0 else 0)
            z = ahead - rate * np.sqrt(1 - k / steps) * gradient
            up, down = np.minimum(z - beta, 1), np.maximum(z + beta, 0)
            z = np.where(z - x > beta, up, np.where(z - x < -beta, down, x))
            images.append(z)
            if lead(model, z, y)[0] >= 0:
                found = True
                rank = np.abs(z - x).sum() * (1 if rule == "l1" else beta)
                rank += 0 if rule == "l1" else np.sum((z - x) ** 2)
                if rank < best:
                    best, closest = rank, z
            now, ahead = z, z + k / (k + 3) * (z - now)
        tried.append(found)
        weight, low, high = weight_again(weight, low, high, found)
    return images, closest, tried


@pytest.mark.parametrize(
    ("name", "rule"), [("cw5x200-l2", ""), ("ead5x200-l1", "l1"), ("ead5x200-l1", "en")]
)
def test_carlini_wagner_and_ead_take_the_very_steps_of_their_rules(name, rule, problem, getkey):
    model, images, labels = problem
    ruled = {"rule": rule} if rule else {}
    attack = shorter(name, steps=6, init_weight=0.005, **ruled)
    again, turns = ead_again if rule else carlini_wagner_again, set()
    for x, y in zip(images, labels, strict=True):
        wide, key = np.asarray(x, np.float64), getkey()
        seen, closest, tried = again(model, wide, y, 5, 6, 0.05, 0.005, **ruled)
        same(asked(attack, model, x, y, key), seen)
        same(_run(attack, model, jnp.asarray(x), jnp.asarray(y, jnp.int32), key, {}), closest)
        turns |= {*itertools.pairwise(tried)}
    # The weight was raised until it sufficed, lowered until it did not, and raised again.
    assert {(False, True), (True, False), (True, True)} <= turns


def jsma_again(model, x, y, target, pairs, theta):
    """The images on the way to one class, by a loop over all pairs of pixels."""
    z, domain, images = x, set(range(x.size)), []
    for _ in range(pairs):
        images.append(z)
        logits, slopes = linear(model, z)
        toward, rest = slopes[target], slopes.sum(axis=0) - slopes[target]
        sign = np.sign(toward)
        domain -= {p for p in domain if z[p] == (1 if sign[p] > 0 else 0)}
        if np.argmax(logits) != y:
            continue
        lift, fall = sign * toward, -sign * rest
        sums = {
            (p, q): (lift[p] + lift[q], fall[p] + fall[q]) for p in domain for q in domain - {p}
        }
        salient = {pair: up * down for pair, (up, down) in sums.items() if up > 0 and down > 0}
        salient = salient or {pair: up + down for pair, (up, down) in sums.items()}
        pair = list(max(salient, key=salient.get))
        z = z.copy()
        z[pair] = np.clip(z[pair] + theta * sign[pair], 0, 1)
        domain -= {*pair}
    return images, z


@pytest.mark.parametrize("theta", [1.0, 0.5])
def test_jsma_takes_the_very_steps_of_its_rules(theta, problem, getkey):
    model, images, labels = problem
    attack = shorter("jsma-l0", theta=theta)
    towards = eqx.filter_jit(lambda x, y, t: attack._towards(Watched(model), x, y, t))
    for x, y in zip(images, labels, strict=True):
        wide, at, ends = np.asarray(x, np.float64), jnp.asarray(y, jnp.int32), []
        order = np.argsort(-linear(model, x)[0])
        for target in order[order != y]:
            seen, end = jsma_again(model, wide, y, target, 3, theta)
            _seen.clear()
            same(towards(jnp.asarray(x), at, jnp.asarray(target, jnp.int32)), end)
            jax.effects_barrier()
            same(np.array(_seen), seen)
            ends.append(end)
        wrong = [z for z in ends if np.argmax(linear(model, z)[0]) != y]
        fewest = min(wrong or ends[:1], key=lambda z: np.sum(z != wide))
        same(eqx.filter_jit(attack)(model, jnp.asarray(x), at, key=getkey()), fewest)
