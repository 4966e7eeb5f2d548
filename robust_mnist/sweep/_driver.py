"""One method over a batch of images: compiled on the device, decided on the host."""

import concurrent.futures
import dataclasses
import os
import zlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import (
    Array,
    Bool,
    Float,
    Float32,
    Float64,
    Int,
    Integer,
    PRNGKeyArray,
    Shaped,
    UInt8,
)

from robust_mnist import metrics
from robust_mnist.attacks import AbstractBallAttack, AbstractMinimalAttack, AbstractStepAttack
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep._feasible import puller, sizes
from robust_mnist.threat import AbstractBall


Search = AbstractBallAttack | AbstractMinimalAttack  # what bounds radii from above

# Flags agree between devices and batch shapes for margins outside this; those inside are counted.
CLOSE = 1e-4
# How far beyond the decision a shortened perturbation must stay, so that rounding cannot undo it.
CLEAR = 1e-3
HALVINGS = 14
# Shares by which the linearised boundary is passed: on a curved one the first of them land.
OVERSHOOTS = (0.1, 0.03, 0.01, 0.0)
# Chunks in flight. On an accelerator one processor decides for many times as long as a search
# takes; where the device is two processors itself, there is nothing to share.
_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
_IN_FLIGHT = min(8, max(1, (_PROCESSORS or 1) // 2))


@dataclasses.dataclass(frozen=True)
class Found:
    """What one attack found for each image, decided on the host.

    Attributes:
        size: float64 size of the closest wrong image found; inf where none was, 0 where the clean
            image is a mistake.
        own: The same without the last approach along the linearised boundary, but where that alone
            made the image wrong: what the method is credited with, where methods are compared.
        reached: Class of that image; -1 where none was found.
        witness: That image; the clean one where none was found.
        broken: Whether the attack's own answer, before it was shortened, is wrong, or on the
            boundary and beside an image that is: the plain reading at exactly this eps.
        close: Images whose margin lies within `CLOSE` of 0.
        nonfinite: Images at which the attack or the network gave NaN or infinity.
    """

    size: Float[np.ndarray, " images"]
    own: Float[np.ndarray, " images"]
    reached: Int[np.ndarray, " images"]
    witness: Float32[np.ndarray, "images pixels"]
    broken: Bool[np.ndarray, " images"]
    close: int
    nonfinite: int


def method_key(key: PRNGKeyArray, name: str) -> PRNGKeyArray:
    """The key of a method; crc32, because Python's `hash` differs from process to process."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def image_keys(key: PRNGKeyArray, ids: Int[Array, " images"]) -> Shaped[Array, " images"]:
    """One key per image, folded by its index in its data set, never by its place in a batch."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(ids)


def attack_batch(
    attack: Search,
    model: AbstractClassifier,
    images: Float[Array, "images pixels"],
    labels: Int[Array, " images"],
    *,
    ids: Int[Array, " images"],
    eps: Float[Array, " images"],
    key: PRNGKeyArray,
) -> Float[Array, "images pixels"]:
    """The attack's answer for every image, in one program.

    Args:
        attack: What is run.
        model: Classifier under attack.
        images: Clean images, pixels in [0, 1].
        labels: True classes.
        ids: Index of each image in its data set; it determines the random draws.
        eps: Radius of each image; a minimal attack has no use for it.
        key: Randomness of the method, see `method_key`.
    """

    def run(x: Array, y: Array, radius: Array, k: PRNGKeyArray) -> Array:
        if isinstance(attack, AbstractMinimalAttack):
            return attack(model, x, y, key=k)
        return attack(model, x, y, eps=radius, key=k)

    return jax.vmap(run)(images, labels, eps, image_keys(key, ids))


def _search(
    attack: Search,
    model: AbstractClassifier,
    images: UInt8[Any, "images pixels"],
    labels: Int[Any, " images"],
    ids: Int[Any, " images"],
    eps: Float[Any, " images"],
    key: PRNGKeyArray,
) -> tuple[Float[Array, "images pixels"], ...]:
    """The attack's answers, the same shortened towards the clean images, and then refined.

    In two programs: many an attack compiles as fast as what follows it, which all attacks of a norm
    share.
    """
    answers = _answers(attack, model, images, labels, ids, eps, key)
    return answers, *_nearer_stored(attack.ball, model, images, answers, labels)


@eqx.filter_jit
def _answers(
    attack: Search,
    model: AbstractClassifier,
    images: UInt8[Array, "images pixels"],
    labels: Int[Array, " images"],
    ids: Int[Array, " images"],
    eps: Float[Array, " images"],
    key: PRNGKeyArray,
) -> Float[Array, "images pixels"]:
    return attack_batch(attack, model, to_float(images), labels, ids=ids, eps=eps, key=key)


@eqx.filter_jit
def _nearer_stored(
    ball: AbstractBall,
    model: AbstractClassifier,
    images: UInt8[Array, "images pixels"],
    answers: Float[Array, "images pixels"],
    labels: Int[Array, " images"],
) -> tuple[Float[Array, "images pixels"], ...]:
    return _nearer(ball, model, to_float(images), answers, labels)


@eqx.filter_jit
def _nearer(
    ball: AbstractBall,
    model: AbstractClassifier,
    x: Float[Array, "images pixels"],
    z: Float[Array, "images pixels"],
    labels: Int[Array, " images"],
) -> tuple[Float[Array, "images pixels"], ...]:
    """Answers shortened towards the clean images, and then refined."""
    short = jax.vmap(lambda *args: _shorten(ball, model, *args))(x, z, labels)
    return short, jax.vmap(lambda *args: _refine(ball, model, *args))(x, short, labels)


def _shorten(
    ball: AbstractBall,
    model: AbstractClassifier,
    x: Float[Array, " pixels"],
    z: Float[Array, " pixels"],
    y: Int[Array, ""],
) -> Float[Array, " pixels"]:
    """The smallest projection of `z` that is clearly wrong, by bisection on its radius."""
    delta = z - x
    size = ball.size(delta)
    nearer = lambda share: x + ball.project(delta, share * size)

    def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        right, wrong = ends
        middle = (right + wrong) / 2
        clearly = metrics.margin(model(nearer(middle)), y) < -CLEAR
        return (jnp.where(clearly, right, middle), jnp.where(clearly, middle, wrong)), None

    (_, wrong), _ = jax.lax.scan(
        halve, (jnp.zeros_like(size), jnp.ones_like(size)), length=HALVINGS
    )
    return jnp.where(wrong < 1.0, nearer(wrong), z)


def _refine(
    ball: AbstractBall,
    model: AbstractClassifier,
    x: Float[Array, " pixels"],
    z: Float[Array, " pixels"],
    y: Int[Array, ""],
) -> Float[Array, " pixels"]:
    """Replace a wrong image by the nearest one of the classifier linearised there, if it is wrong.

    Where the classifier is affine between the two, that is the exact radius. An image that is only
    just wrong is also replaced by a slightly farther one that is clearly so on any device. What is
    right stays as it is: this shortens answers and gives none.
    """
    others = metrics.other_logits(model(z), y)
    lead = jax.value_and_grad(
        lambda image: (logits := model(image))[jnp.argmax(others)] - metrics.logit_of(logits, y)
    )

    def approach(state: tuple[Array, Array], overshoot: Array) -> tuple[tuple[Array, Array], None]:
        best, settled = state
        value, slope = lead(best)
        rise = jnp.sum(slope * (best - x)) - value + 2 * CLEAR
        change = ball.nearest(x, slope, rise * (1 + overshoot))
        image = jnp.clip(x + change, 0.0, 1.0)
        clearly = metrics.margin(model(image), y) < -CLEAR
        closer = ball.size(image - x) < ball.size(best - x)
        take = clearly & (closer | ~settled)
        return (jnp.where(take, image, best), settled | take), None

    margin = metrics.margin(model(z), y)
    near = jax.lax.scan(approach, (z, margin < -CLEAR), jnp.asarray(OVERSHOOTS, z.dtype))[0][0]
    return jnp.where(margin <= 0, near, z)


def _judge(
    wide: AbstractClassifier, images: Float32[Any, "images pixels"], labels: Int[Any, " images"]
) -> tuple[Float64[Array, " images"], Int[Array, " images"]]:
    """Margins and classes in float64: a float32 sum depends on its order, and so on the device.

    Certificates are of the exact network, from which this differs by `certify.rounding` at most.

    Args:
        wide: The classifier, `widened`.
        images: Pixels; NumPy makes them float64, as `widened` does with weights.
        labels: True classes.
    """
    with jax.enable_x64(True):
        return _judged(wide, np.asarray(images).astype(np.float64), labels)


@eqx.filter_jit
def _judged(
    wide: AbstractClassifier,
    images: Float64[Any, "images pixels"],
    labels: Int[Any, " images"],
) -> tuple[Float64[Array, " images"], Int[Array, " images"]]:
    with jax.default_matmul_precision("highest"):
        logits = jax.vmap(wide)(images)
    margins = jax.vmap(metrics.margin)(logits, labels)
    others = jax.vmap(metrics.other_logits)(logits, labels)
    wrong_class = jnp.argmax(others, axis=1).astype(labels.dtype)
    return margins, jnp.where(margins > 0, labels, wrong_class)


def widened(tree: Any) -> Any:
    """The same with all its real numbers in float64.

    NumPy does it, on the host: XLA on a CPU takes float32 numbers below 1e-38 for 0, and another
    network than that of the file would be judged and certified.
    """

    def wide(leaf: Any) -> Any:
        if not eqx.is_inexact_array(leaf):
            return leaf
        return jnp.asarray(np.asarray(leaf).astype(np.promote_types(leaf.dtype, np.float64)))

    with jax.enable_x64(True):
        return jax.tree.map(wide, tree)


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """As long as `size`, with repetitions of the first entry at its end."""
    return np.concatenate([array, np.repeat(array[:1], size - len(array), axis=0)])


def in_chunks(
    run: Callable[..., tuple[Array, ...]], size: int, *arrays: np.ndarray
) -> tuple[np.ndarray, ...]:
    """`run` over slices of one static size, the last one padded; one transfer to the host each.

    Args:
        run: Compiled function of equally long arrays.
        size: Images per call, at least 1.
        *arrays: Host arrays with a leading axis of images.
    """
    parts = []
    for start in range(0, len(arrays[0]), size):
        part = [array[start : start + size] for array in arrays]
        count = len(part[0])
        full = part if count == size else [padded(array, size) for array in part]
        out = jax.device_get(run(*full))
        parts.append(tuple(np.asarray(array)[:count] for array in out))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def judge_batch(
    model: AbstractClassifier,
    pixels: Float32[np.ndarray, "images pixels"],
    labels: Integer[np.ndarray, " images"],
    *,
    chunk: int = 1000,
) -> tuple[Float64[np.ndarray, " images"], Int[np.ndarray, " images"]]:
    """Margin and predicted class of every image, evaluated in float64.

    Args:
        model: Classifier.
        pixels: Images in [0, 1], clean or not.
        labels: True classes.
        chunk: Images per compiled call.
    """
    size, wide = min(chunk, len(labels)), widened(model)
    margins, predicted = in_chunks(
        lambda x, y: _judge(wide, x, y), size, pixels, labels.astype(np.int32)
    )
    return margins, predicted


def break_batch(
    attack: Search,
    model: AbstractClassifier,
    images: UInt8[np.ndarray, "images pixels"],
    labels: Integer[np.ndarray, " images"],
    *,
    ids: Integer[np.ndarray, " images"],
    eps: float | Float[np.ndarray, " images"] = np.inf,
    key: PRNGKeyArray,
    chunk: int = 1000,
) -> Found:
    """Attack images, and decide on the host which answers count.

    Every answer is pulled into box and ball exactly, in float64, evaluated again at the highest
    matmul precision, and only then believed. A wrong answer is shortened towards the clean image
    as far as it stays clearly wrong, so that `size` is usually well below `eps`.

    Args:
        attack: What is run.
        model: Classifier under attack.
        images: Clean images as stored, 0 to 255.
        labels: True classes.
        ids: Index of each image in its data set.
        eps: Radius, one for all or one per image, at least 0; finite for a ball attack, while a
            minimal attack needs none.
        key: Randomness of the method, see `method_key`.
        chunk: Images per compiled call; flags do not depend on it.
    """
    count = len(images)
    radius = np.broadcast_to(np.asarray(eps, dtype=np.float64), (count,))
    # Rounded down, so that a float32 attack aims inside the user's float64 radius.
    rounded = radius.astype(np.float32)
    rounded = np.where(rounded > radius, np.nextafter(rounded, np.float32(0)), rounded)
    y, index = labels.astype(np.int32), ids.astype(np.int32)
    norm, size, wide = attack.ball.name, min(chunk, count), widened(model)
    slices = [slice(start, start + size) for start in range(0, count, size)]

    def one(at: slice) -> Found:
        answers = in_chunks(
            lambda x, y, i, r: _search(attack, model, x, y, i, r, key),
            size, images[at], y[at], index[at], rounded[at],
        )  # fmt: skip
        return _decide(norm, wide, to_float(images[at]), y[at], answers, radius[at], size)

    # Chunk by chunk on the host as well: float64 copies of a chunk stay in the cache. The first one
    # compiles, and must be alone in that; the others share the processors.
    first = one(slices[0])
    with concurrent.futures.ThreadPoolExecutor(_IN_FLIGHT) as pool:
        # What a `with` of JAX sets holds in its own thread alone.
        alike = _settings() == pool.submit(_settings).result()
        parts = [first, *(pool.map if alike else map)(one, slices[1:])]
    return concatenate(parts)


def _settings() -> tuple[object, ...]:
    """What this thread computes with."""
    now: Any = jax.config  # its values are attributes that no type checker sees
    return now.jax_default_matmul_precision, now.jax_enable_x64, now.jax_default_device


def decide_images(
    ball: AbstractBall,
    model: AbstractClassifier,
    images: UInt8[np.ndarray, "images pixels"],
    labels: Integer[np.ndarray, " images"],
    answers: Float32[np.ndarray, "images pixels"],
    *,
    eps: float,
) -> Found:
    """Decide on images that were found without an attack of the registry, as `break_batch` does.

    Args:
        ball: Norm of the ball.
        model: Classifier.
        images: Clean images as stored, 0 to 255.
        labels: True classes.
        answers: What is thought to be wrong.
        eps: Radius.
    """
    clean, y = to_float(images), labels.astype(np.int32)
    nearer = in_chunks(lambda *arrays: _nearer(ball, model, *arrays), len(y), clean, answers, y)
    radius = np.full(len(y), eps, np.float64)
    return _decide(ball.name, widened(model), clean, y, (answers, *nearer), radius, len(y))


def _decide(
    norm: str,
    wide: AbstractClassifier,
    clean: Float32[np.ndarray, "images pixels"],
    labels: Int[np.ndarray, " images"],
    answers: tuple[np.ndarray, ...],
    eps: Float[np.ndarray, " images"],
    chunk: int,
) -> Found:
    # Not `judge_batch`: the last chunk is padded to the size of the others, and compiles nothing.
    judge = lambda images: in_chunks(lambda x, y: _judge(wide, x, y), chunk, images, labels)
    clean_margin, clean_class = judge(clean)
    # A NaN compares as false: on a clean image it is a mistake, on an attacked one no success.
    mistake = ~(clean_margin > 0)
    size, witness = np.full(len(labels), np.inf), clean.copy()
    reached = np.full(labels.shape, -1, np.int64)
    sized, margins = [], []
    pull = puller(norm, clean, eps)
    for answer in answers:
        images = pull(answer)
        margin, classes = judge(images)
        # The later of the three are closer, and those that are not quite so are clearly wrong.
        wrong = (margin <= 0) & ~mistake
        size = size.copy()
        size[wrong] = sizes(norm, clean[wrong], images[wrong])
        witness[wrong], reached[wrong] = images[wrong], classes[wrong]
        sized.append(np.where(mistake, 0.0, size))
        margins.append(margin)
    witness[mistake], reached[mistake] = clean[mistake], clean_class[mistake]
    raw = margins[0]
    return Found(
        size=sized[-1],
        # No method alone may seem closer than what is kept of it. What is wrong in float32 alone,
        # where a search for the boundary ends, is so on it: credit is for the next image that is.
        own=np.where(np.isinf(sized[1]), sized[2], np.maximum(sized[1], sized[2])),
        reached=reached,
        witness=witness,
        # A search for the boundary ends on it, on either side: the image next to it is what counts.
        broken=(raw <= 0) | ((np.abs(raw) < CLOSE) & np.isfinite(size)),
        close=int(np.sum(np.abs(raw) < CLOSE)),
        nonfinite=int(np.sum(~np.isfinite(raw))),
    )


def concatenate(parts: list[Found]) -> Found:
    """What was found for images in several parts, as one."""
    join = lambda name: np.concatenate([getattr(part, name) for part in parts])
    return Found(
        size=join("size"),
        own=join("own"),
        reached=join("reached"),
        witness=join("witness"),
        broken=join("broken"),
        close=sum(part.close for part in parts),
        nonfinite=sum(part.nonfinite for part in parts),
    )


@eqx.filter_jit
def _step(
    attack: AbstractStepAttack,
    model: AbstractClassifier,
    images: UInt8[Array, "images pixels"],
    labels: Int[Array, " images"],
    ids: Int[Array, " images"],
    step: Float[Array, ""],
    key: PRNGKeyArray,
) -> Float[Array, "images pixels"]:
    run = lambda x, y, k: attack(model, x, y, step=step, key=k)
    z = jax.vmap(run)(to_float(images), labels, image_keys(key, ids))
    return jnp.clip(z, 0.0, 1.0)


def step_batch(
    attack: AbstractStepAttack,
    model: AbstractClassifier,
    images: UInt8[np.ndarray, "images pixels"],
    labels: Integer[np.ndarray, " images"],
    *,
    ids: Integer[np.ndarray, " images"],
    step: float,
    key: PRNGKeyArray,
    chunk: int = 1000,
) -> tuple[Float64[np.ndarray, " images"], Int[np.ndarray, " images"]]:
    """Margin and class of every image after one step, clipped to [0, 1].

    Args:
        attack: What is run.
        model: Classifier under attack.
        images: Clean images as stored, 0 to 255.
        labels: True classes.
        ids: Index of each image in its data set.
        step: Length of the step in the attack's own unit.
        key: Randomness of the method, see `method_key`.
        chunk: Images per compiled call.
    """
    length, wide = jnp.asarray(step, jnp.float32), widened(model)
    margins, reached = in_chunks(
        lambda x, y, index: _judge(wide, _step(attack, model, x, y, index, length, key), y),
        chunk, images, labels.astype(np.int32), ids.astype(np.int32),
    )  # fmt: skip
    return margins, reached
