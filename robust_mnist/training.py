"""Training: many networks in one compiled program, and as few words with the host as will do.

Images stay bytes on the device and batches are gathered there. The steps between two records are
one `lax.scan`; networks are a `vmap` over it. Records that come in quick succession are fetched
together, because a call takes a millisecond of the host's time. The batch order of an epoch depends
on the key and the number of the epoch alone, so a checkpoint needs no random state.
"""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree, UInt8

from robust_mnist import checkpoint, interrupts, metrics
from robust_mnist.config import TrainSettings, typed
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError, unknown
from robust_mnist.models import MODELS, AbstractClassifier, kept
from robust_mnist.objectives import OBJECTIVES


Record = dict[str, float]

# Records of one call: as many as take this long, in seconds, and no more than that.
PATIENCE, TOGETHER = 0.1, 16
# A GPU multiplies in tiles of so many rows. Where a batch leaves one half empty, XLA gathers it
# twice, as it is and filled up, and a step takes a sixth longer.
TILES = {"gpu": 64}
# What a record measures, and on which images.
METRICS = (
    ("train", "cross_entropy"), ("valid", "cross_entropy"), ("valid", "mse"), ("valid", "accuracy"),
)  # fmt: skip


class Interrupted(Exception):  # noqa: N818
    """Training was asked to stop and left a checkpoint on a record boundary."""

    exit_code = 130


class State(eqx.Module):
    """Everything training changes, with a leading axis of networks on every array."""

    model: AbstractClassifier
    optimiser: PyTree


class Rounded(AbstractClassifier):
    """A network that computes in bfloat16, from float32 weights to float32 logits.

    Its gradient is that of the float32 weights, so small updates are not lost to rounding.
    """

    model: AbstractClassifier

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        short = lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf
        return jax.tree.map(short, self.model)(short(x)).astype(jnp.float32)


class Images(eqx.Module):
    """Training and validation images on the device."""

    train: UInt8[Array, "train pixels"]
    train_labels: Int[Array, " train"]
    valid: UInt8[Array, "valid pixels"]
    valid_labels: Int[Array, " valid"]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        models: One network per seed.
        history: Every record: epoch, seed, train_cross_entropy, valid_cross_entropy, valid_mse,
            valid_accuracy.
        seconds: Time on the device, records included, compilation and files apart.
        compile_seconds: Time to trace, lower and compile; next to nothing for a program that this
            process knows.
        images_per_second: Training images over all networks, per second of `seconds`.
    """

    models: list[AbstractClassifier]
    history: list[Record]
    seconds: float
    compile_seconds: float
    images_per_second: float


def optimiser(settings: TrainSettings) -> optax.GradientTransformation:
    """RMSProp without momentum, every constant spelled out.

    By default delta stands under the root, `g / sqrt(r + delta)`; with `delta_outside_root` it is
    added to the root, `g / (sqrt(r) + delta)`.

    Reference:
        Goodfellow, Bengio and Courville, "Deep Learning", 2016, algorithm 8.5.
    """
    return optax.rmsprop(
        learning_rate=settings.learning_rate,
        decay=settings.decay,
        eps=settings.delta,
        initial_scale=0.0,
        eps_in_sqrt=not settings.delta_outside_root,
        centered=False,
        momentum=None,
        nesterov=False,
        bias_correction=False,
    )


def initialise(settings: TrainSettings) -> State:
    """Fresh networks; number i is drawn from seed + i, whatever their count."""
    if settings.model not in MODELS:
        raise unknown("model", settings.model, MODELS)
    if settings.objective not in OBJECTIVES:
        raise unknown("objective", settings.objective, OBJECTIVES)
    if settings.sizes[0] != 784 or settings.sizes[-1] != 10:
        raise InputError(
            "--sizes must begin with 784 pixels and end with 10 classes, "
            f"got {typed(settings.sizes)}"
        )

    @eqx.filter_vmap
    def one(key: PRNGKeyArray) -> State:
        model = MODELS[settings.model](
            settings.sizes, settings.activation, key=_fold(key, "weights")
        )
        return State(model, optimiser(settings).init(eqx.filter(model, eqx.is_inexact_array)))

    return one(_keys(settings))


def check(settings: TrainSettings) -> None:
    """Refuse names that do not exist and networks that the objective cannot train.

    Nothing is computed, so that this may come before data are read.

    Raises:
        InputError: One of them.
    """

    def loss() -> Float[Array, ""]:
        model = jax.tree.map(
            lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, initialise(settings).model
        )
        x, y, keys = jnp.zeros((1, 784)), jnp.zeros(1, jnp.int32), _keys(settings)[:1]
        return _loss(settings, model, x, y, jnp.zeros((), jnp.int32), keys)

    jax.eval_shape(loss)


def _keys(settings: TrainSettings) -> Key[Array, " networks"]:
    seeds = jnp.arange(settings.seed, settings.seed + settings.seeds)
    return jax.vmap(jax.random.key)(seeds)


def _fold(key: PRNGKeyArray, purpose: str) -> PRNGKeyArray:
    return jax.random.fold_in(key, {"weights": 0, "batches": 1}[purpose])


def advance(
    settings: TrainSettings, epochs: int
) -> Callable[
    [State, Key[Array, " networks"], Int[Array, ""], Images], tuple[State, dict[str, Array]]
]:
    """The program that trains every network for `epochs` epochs and measures it once.

    Args:
        settings: What to train and how.
        epochs: Passes over the training images, at least 1.

    Returns:
        A function of state, keys (one per network), number of the first epoch and images; it gives
        the new state and the four metrics, each of shape (networks,).
    """
    # The orders of some epochs at a time: a GPU sorts ten in little more time than one, and no
    # number of epochs fills the memory with them.
    together = max(n for n in range(1, 11) if epochs % n == 0)

    def one(
        state: State, key: PRNGKeyArray, order: PRNGKeyArray, first: Int[Array, ""], images: Images
    ) -> tuple[State, dict[str, Array]]:
        count = images.train.shape[0]
        per_epoch = count // settings.batch_size

        def batches(number: Int[Array, ""]) -> Int[Array, "steps batch"]:
            shuffled = shuffle(jax.random.fold_in(_fold(order, "batches"), number), count)
            return shuffled[: per_epoch * settings.batch_size].reshape(per_epoch, -1)

        def step(state: State, at: tuple[Array, Array]) -> tuple[State, None]:
            batch, number = at
            return _step(settings, state, key, batch, number, images), None

        def several(state: State, number: Int[Array, ""]) -> tuple[State, None]:
            orders = jax.vmap(batches)(number + jnp.arange(together))
            steps = number * per_epoch + jnp.arange(together * per_epoch)
            orders = orders.reshape(len(steps), settings.batch_size)
            return jax.lax.scan(step, state, (orders, steps))

        starts = first + jnp.arange(0, epochs, together)
        state, _ = jax.lax.scan(several, state, starts)
        return state, _measure(state.model, images)

    def all_networks(
        state: State, keys: Key[Array, " networks"], first: Int[Array, ""], images: Images
    ) -> tuple[State, dict[str, Array]]:
        # One order for all leaves the batch unbatched under vmap: gathered once, one product.
        orders, axis = (keys[0], None) if settings.shared_batches else (keys, eqx.if_array(0))
        over = eqx.filter_vmap(one, in_axes=(eqx.if_array(0), 0, axis, None, None))
        return over(state, keys, orders, first, images)

    return all_networks


def records(
    settings: TrainSettings, epochs: int
) -> Callable[
    [State, Key[Array, " networks"], Int[Array, ""], Int[Array, ""], Images],
    tuple[State, dict[str, Array]],
]:
    """The program that does `advance` several times; how often is told when it is called.

    Args:
        settings: What to train and how.
        epochs: Passes over the training images between two records, at least 1.

    Returns:
        A function of state, keys, number of the first epoch, number of records (at most
        `TOGETHER`) and images; it gives the new state and the four metrics, each of shape
        (TOGETHER, networks), of which the rows beyond that number hold zeros.
    """
    once = advance(settings, epochs)

    def several(
        state: State,
        keys: Key[Array, " networks"],
        first: Int[Array, ""],
        count: Int[Array, ""],
        images: Images,
    ) -> tuple[State, dict[str, Array]]:
        arrays, rest = eqx.partition(state, eqx.is_array)

        def record(number: Int[Array, ""], carry: PyTree) -> PyTree:
            arrays, kept = carry
            state, measured = once(eqx.combine(arrays, rest), keys, first + number * epochs, images)
            kept = jax.tree.map(lambda rows, row: rows.at[number].set(row), kept, measured)
            return eqx.filter(state, eqx.is_array), kept

        kept = {f"{part}_{metric}": jnp.zeros((TOGETHER, len(keys))) for part, metric in METRICS}
        arrays, kept = jax.lax.fori_loop(0, count, record, (arrays, kept))
        return eqx.combine(arrays, rest), kept

    return several


class _Same:
    """A key that equals that of the very same object, whatever the object holds."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


def _what_compiles(settings: TrainSettings) -> TrainSettings:
    """The settings without those that a program is told when it is called, or never sees."""
    return dataclasses.replace(
        settings, data=("mnist",), split="lab", epochs=1, record_every=1, seed=0, seeds=1
    )


@functools.lru_cache(maxsize=16)
def _jitted(settings: TrainSettings, epochs: int, objective: _Same) -> Any:
    """The program of `records`: where it is asked for again, JAX finds what it has compiled.

    Under the name of the objective the registry may hold another one by then, hence the key. An
    activation or a constant of this module that changes in a running process is not noticed.
    """
    del objective
    return eqx.filter_jit(records(settings, epochs))


def shuffle(key: PRNGKeyArray, count: int) -> Int[Array, " count"]:
    """The numbers from 0 to `count - 1` in random order.

    Each number stands in the lower bits of a word whose upper bits are random, and the words are
    sorted: without a second operand, that takes a tenth of the time of `jax.random.permutation`.
    Rounds with fresh bits make up for how few there are: two numbers stay in their old order by
    mere coincidence once in 2^32, as with a sort by whole words.

    Args:
        key: Randomness.
        count: At least 1, at most 2^24.
    """
    low = max(count - 1, 1).bit_length()
    mask = jnp.uint32(2**low - 1)
    order = jnp.arange(count, dtype=jnp.uint32)
    for turn in range(-(-32 // (32 - low))):
        bits = jax.random.bits(jax.random.fold_in(key, turn), (count,), jnp.uint32)
        words = jnp.sort((bits & ~mask) | jnp.arange(count, dtype=jnp.uint32))
        order = order[words & mask]
    return order.astype(jnp.int32)


def _step(
    settings: TrainSettings,
    state: State,
    key: PRNGKeyArray,
    batch: Int[Array, " batch"],
    step: Int[Array, ""],
    images: Images,
) -> State:
    # The mean over the batch leaves out the rows that only fill the last tile, where those are few.
    fill = -len(batch) % TILES.get(jax.default_backend(), 1)
    batch = jnp.pad(batch, (0, fill if 8 * fill <= len(batch) else 0))
    x, y = to_float(images.train[batch]), images.train_labels[batch]
    step_key = jax.random.fold_in(key, step)
    keys = jax.vmap(lambda index: jax.random.fold_in(step_key, index))(batch)
    gradient = eqx.filter_grad(lambda model: _loss(settings, model, x, y, step, keys))
    updates, new = optimiser(settings).update(gradient(state.model), state.optimiser)
    return State(eqx.apply_updates(state.model, updates), new)


def _loss(
    settings: TrainSettings,
    model: AbstractClassifier,
    x: Float[Array, "batch pixels"],
    y: Int[Array, " batch"],
    step: Int[Array, ""],
    keys: Key[Array, " batch"],
) -> Float[Array, ""]:
    objective = OBJECTIVES[settings.objective]
    if settings.precision == "bf16":
        model = Rounded(model)
    one = lambda x, y, key: objective(model, x, y, step=step, key=key)
    losses = jax.vmap(one)(x, y, keys)[: settings.batch_size]
    return jnp.mean(losses) + objective.penalty(model, step=step)


def _measure(model: AbstractClassifier, images: Images) -> dict[str, Array]:
    measured = {
        "train": metrics.evaluate(model, to_float(images.train), images.train_labels),
        "valid": metrics.evaluate(model, to_float(images.valid), images.valid_labels),
    }
    return {f"{part}_{metric}": measured[part][metric] for part, metric in METRICS}


def check_batch(settings: TrainSettings, part: Part) -> None:
    """Refuse a batch that the training images cannot fill.

    Raises:
        InputError: It is larger than the training set.
    """
    images = len(part.labels)
    if settings.batch_size > images:
        raise InputError(
            f"--batch-size must be at most the {images} training images, got {settings.batch_size}"
        )


def train(
    settings: TrainSettings,
    train_part: Part,
    valid_part: Part,
    *,
    checkpoint_path: Path | None = None,
    on_record: Sequence[Callable[[list[Record]], None]] = (),
) -> Trained:
    """Train the networks of `settings`, from a checkpoint if there is one.

    SIGINT and SIGTERM end the training at the next record, with a checkpoint; a second one ends it
    at once. A killed process resumes from the last checkpoint to the same weights, bit for bit on
    the same machine, JAX and thread count.

    Args:
        settings: What to train and how.
        train_part: Training images.
        valid_part: Validation images; they only watch.
        checkpoint_path: Where the state is kept while training; removed by nobody.
        on_record: Called with the history so far after every record.

    Raises:
        InputError: A batch is larger than the training set, or the checkpoint does not fit.
        Interrupted: A signal came; the checkpoint is written.
    """
    check_batch(settings, train_part)
    return _Training(settings, train_part, valid_part, checkpoint_path).run(on_record)


class _Training:
    """The loop on the host: programs by length, records, checkpoints, time."""

    def __init__(
        self, settings: TrainSettings, train: Part, valid: Part, path: Path | None
    ) -> None:
        self.settings = settings
        self.path = path
        self.images = Images(
            train=jnp.asarray(train.images),
            train_labels=jnp.asarray(train.labels, jnp.int32),
            valid=jnp.asarray(valid.images),
            valid_labels=jnp.asarray(valid.labels, jnp.int32),
        )
        arrays = (train.images, train.labels, valid.images, valid.labels)
        self.data = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        self.keys = _keys(settings)
        self.state = initialise(settings)
        self.programs: dict[int, Any] = {}
        self.together = 1
        self.epoch, self.seconds, self.compile_seconds = 0, 0.0, 0.0
        self.history: list[Record] = []
        self.saved, self.saving = time.monotonic(), 0.0

    def run(self, on_record: Sequence[Callable[[list[Record]], None]]) -> Trained:
        if self.path is not None and self.path.exists():
            self._restore()
        with interrupts.deferred() as asked:
            while self.epoch < self.settings.epochs:
                known = len(self.history)
                self._advance()
                if asked():
                    self._save()
                    raise Interrupted(
                        f"stopped after epoch {self.epoch} of {self.settings.epochs}; "
                        "the same command continues"
                    )
                self._save_now_and_then()
                for end in range(known, len(self.history), self.settings.seeds):
                    for call in on_record:
                        call(self.history[: end + self.settings.seeds])
        self._save()
        networks, rest = eqx.partition(self.state.model, eqx.is_array)
        models = [
            kept(eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], networks), rest))
            for i in range(self.settings.seeds)
        ]
        steps = self.settings.epochs * (self.images.train.shape[0] // self.settings.batch_size)
        done = steps * self.settings.batch_size * self.settings.seeds
        return Trained(
            models, self.history, self.seconds, self.compile_seconds, done / self.seconds
        )

    def _advance(self) -> None:
        """Train up to the next record, or over several of them where they come quickly."""
        left = self.settings.epochs - self.epoch
        epochs = min(self.settings.record_every, left)
        count = min(self.together, left // epochs)
        first, rows = jnp.asarray(self.epoch, jnp.int32), jnp.asarray(count, jnp.int32)
        program = self._program(epochs, first, rows)
        start = time.perf_counter()
        self.state, measured = program(self.state, self.keys, first, rows, self.images)
        host = jax.device_get(measured)  # the one transfer, and the wait for the device
        took = time.perf_counter() - start
        self.seconds += took
        for row in range(count):
            self.epoch += epochs
            for i in range(self.settings.seeds):
                values = {name: float(metric[row, i]) for name, metric in host.items()}
                about = {"epoch": self.epoch, "seed": self.settings.seed + i}
                self.history.append(about | values)
        self.together = max(1, min(2 * count, int(count * PATIENCE / took), TOGETHER))

    def _program(self, epochs: int, first: Array, rows: Array) -> Any:
        if epochs not in self.programs:
            start = time.perf_counter()
            objective = _Same(OBJECTIVES[self.settings.objective])
            program = _jitted(_what_compiles(self.settings), epochs, objective)
            self.programs[epochs] = program.lower(
                self.state, self.keys, first, rows, self.images
            ).compile()
            self.compile_seconds += time.perf_counter() - start
        return self.programs[epochs]

    def _save_now_and_then(self) -> None:
        # At most a twentieth of the time goes into checkpoints, however large the networks are.
        if time.monotonic() - self.saved > 20 * self.saving:
            self._save()

    def _save(self) -> None:
        if self.path is None:
            return
        start = time.monotonic()
        about = {
            "settings": dataclasses.asdict(self.settings),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "history": self.history,
            "data": self.data,
        }
        checkpoint.save(self.path, self._kept(), about)
        self.saved = time.monotonic()
        self.saving = self.saved - start

    def _kept(self) -> dict[str, Any]:
        return {"state": self.state, "keys": jax.random.key_data(self.keys)}

    def _restore(self) -> None:
        assert self.path is not None
        kept, about = checkpoint.load(self.path, self._kept())
        theirs = about.get("settings", {})
        ours = json.loads(json.dumps(dataclasses.asdict(self.settings)))
        del ours["data"]  # their hash counts, wherever they lie
        odd = sorted(name for name in ours if theirs.get(name) != ours[name])
        if about.get("data") != self.data:
            odd.append("images or labels")
        if not jnp.array_equal(kept["keys"], jax.random.key_data(self.keys)):
            odd.append("random keys")
        if odd:
            raise InputError(
                f"{self.path} belongs to a training with other {', '.join(odd)}; use another --out"
            )
        self.state = kept["state"]
        self.epoch, self.seconds = int(about["epoch"]), float(about["seconds"])
        self.compile_seconds, self.history = float(about["compile_seconds"]), about["history"]
