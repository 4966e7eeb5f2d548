from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers_attacks import (
    BATCH,
    OURS,
    RADII,
    SIDES,
    Count,
    Prepared,
    Work,
    norm_of,
)
from benchmarks.peers_attacks.networks import mlp
from robust_mnist.attacks import ATTACKS, AbstractMinimalAttack
from robust_mnist.bench import environment
from robust_mnist.clock import stopwatch
from robust_mnist.config import PRESETS
from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.sweep import (
    Aim,
    Bounds,
    Passes,
    attack_batch,
    break_batch,
    cost,
    driver_cost,
    in_chunks,
    method_key,
    run_stage,
)


def prepare(work: Work) -> Prepared:
    side = _Side(work)
    attacks = SIDES[OURS].attacks
    return Prepared(
        {name: side.attack(name) for name in attacks},
        side.count,
        stopwatch,
        batch=None,  # the drivers make their own
        facts={"threads": work.threads, "environment": environment()},
    )


class _Side:
    """The network, the images and what was evaluated so far."""

    def __init__(self, work: Work) -> None:
        self.model: MLP = mlp(work.weights, work.biases, work.activation)
        self.part = Part(work.images, work.labels.astype(np.uint8), np.arange(len(work.labels)))
        self.key = jax.random.key(work.seed)
        self.count = Count()

    def attack(self, name: str) -> Callable[[slice], np.ndarray]:
        kind, _, rest = name.partition("-")
        if kind in PRESETS:
            return lambda at: self.scheduled(at, norm_of(name), PRESETS[kind].stages[norm_of(name)])
        if kind == "scheduled":
            return lambda at: self.scheduled(at, norm_of(name), (rest,))
        if kind == "bare":
            return lambda at: self.bare(at, rest)
        return lambda at: self.grid(at, name)

    def taken(self, at: slice) -> Part:
        return self.part.take(np.arange(*at.indices(len(self.part.labels))))

    def grid(self, at: slice, name: str) -> np.ndarray:
        """A cell of a sweep at each radius, or one for a minimal attack."""
        part, attack = self.taken(at), ATTACKS[name]
        run = partial(
            break_batch, attack, self.model, part.images, part.labels,
            ids=part.ids, key=method_key(self.key, name), chunk=min(BATCH, len(part.labels)),
        )  # fmt: skip
        if isinstance(attack, AbstractMinimalAttack):
            self.add(len(part.labels), driver_cost(attack, self.model))
            return run().witness
        radii = RADII[norm_of(name)]
        self.add(len(part.labels) * len(radii), driver_cost(attack, self.model))
        return np.stack([run(eps=eps).witness for eps in radii])

    def scheduled(self, at: slice, norm: str, methods: tuple[str, ...]) -> np.ndarray:
        """Attacks on the images whose answer at one of the radii is open."""
        bounds, spent = in_stages(
            self.model, self.taken(at), norm, methods, RADII[norm], key=self.key
        )
        self.count.forward += spent.forward
        self.count.backward += spent.backward
        return bounds.witness

    def bare(self, at: slice, name: str) -> np.ndarray:
        """The attack alone, in one program for all radii."""
        part, attack, key = self.taken(at), ATTACKS[name], method_key(self.key, name)
        images, labels = part.images.astype(np.float32) * np.float32(1 / 255), part.labels

        def search(model: MLP, x: jax.Array, y: jax.Array, ids: jax.Array, eps: jax.Array):
            radii = jnp.full(len(y), eps)
            return (attack_batch(attack, model, x, y, ids=ids, eps=radii, key=key),)

        compiled = jax.jit(search)
        found = []
        for eps in RADII[norm_of(name)]:
            radius = jnp.asarray(eps, jnp.float32)
            run = lambda x, y, ids, radius=radius: compiled(self.model, x, y, ids, radius)
            size = min(BATCH, len(labels))
            found += in_chunks(
                run, size, images, labels.astype(np.int32), part.ids.astype(np.int32)
            )
        self.add(len(labels) * len(found), cost(attack, self.model))
        return np.stack(found)

    def add(self, runs: int, each: Passes) -> None:
        self.count.forward += runs * each.forward
        self.count.backward += runs * each.backward


def in_stages(
    model: MLP,
    part: Part,
    norm: str,
    methods: tuple[str, ...],
    radii: tuple[float, ...],
    *,
    key: jax.Array,
) -> tuple[Bounds, Passes]:
    """Each attack on the images whose answer at one of the radii is open; and all it has spent."""
    aim, bounds, forward, backward = Aim(np.inf, radii), Bounds.clean(model, part, norm), 0.0, 0.0
    for method in methods:
        rounds = run_stage(model, part, bounds, method, aim=aim, key=key)
        while True:
            try:
                next(rounds)
            except StopIteration as end:
                stage = end.value
                break
        each = driver_cost(ATTACKS[method], model)
        forward, backward = (
            forward + stage.runs * each.forward,
            backward + stage.runs * each.backward,
        )
    return bounds, Passes(forward, backward)
