"""Branch and bound over many images at once, in programs of one size."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from robust_mnist.certify._backward import hidden_layers
from robust_mnist.certify._domains import Explored, Search, first_slopes, proven
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.models import MLP
from robust_mnist.sweep._driver import CLOSE, Found, decide_images, in_chunks
from robust_mnist.sweep._frontier import Domains, Frontier


@dataclasses.dataclass(frozen=True)
class Budget:
    """When to stop.

    Attributes:
        seconds: In all.
        domains: For each image.
    """

    seconds: float = np.inf
    domains: float = np.inf


class Progress(NamedTuple):
    """How far branch and bound has come.

    Attributes:
        images: Images to decide.
        domains: Explored so far.
        waiting: Known, and not explored yet.
        open: Images that are not decided.
        seconds: Since the start.
    """

    images: int
    domains: int
    waiting: int
    open: int
    seconds: float


class BranchAndBound:
    """Decide images at one radius each: prove the ball right, or find a wrong image in it.

    A domain whose bound is not proven is split at the input of a neuron. Each half is proven by the
    trial that chose the split, as a third of all domains are, or comes to the pool. What the search
    in float32 finds is proven anew in float64, with room for rounding, before it counts; what it
    meets that is wrong is judged as the answer of any attack.

    Attributes:
        certified: Images that are proven right.
        found: What was found wrong, one entry per image.
        spent: Domains that each image took.

    Args:
        search: How a domain is explored.
        model: Network with an activation among the search's.
        part: The images to decide.
        eps: Radius, above 0.
        batch: Domains per compiled call; 0 for what suits the device.
    """

    def __init__(
        self,
        search: Search,
        model: MLP,
        part: Part,
        eps: float,
        *,
        batch: int = 0,
    ) -> None:
        self.search, self.model, self.part, self.eps = search, model, part, eps
        self.batch = batch or (512 if jax.default_backend() == "cpu" else 16384)
        count = len(part.labels)
        self.labels = part.labels.astype(np.int32)
        self.pixels = to_float(part.images)
        self.certified = np.zeros(count, bool)
        self.found: dict[int, Found] = {}
        self.spent = np.zeros(count, np.int64)
        self.explored = 0
        with jax.enable_x64(True):
            self.wide = jax.tree.map(
                lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf, model
            )
            self.low, self.high, self.size = in_chunks(
                lambda x, e: _roots(search, self.wide, x, e),
                100, self.pixels.astype(np.float64), np.full(count, eps, np.float64),
            )  # fmt: skip
        self.frontier = Frontier(self._roots())
        self.waiting = np.bincount(self.frontier.all().image, minlength=count)

    def _roots(self) -> Domains:
        """One domain for every image and other class: the whole ball."""
        classes = self.model.layers[-1].bias.size
        image, other = (
            grid.reshape(-1).astype(np.int32)
            for grid in np.meshgrid(np.arange(len(self.labels)), np.arange(classes), indexing="ij")
        )
        mine = other != self.labels[image]
        image, other = image[mine], other[mine]
        (start,) = in_chunks(
            lambda *arrays: (_first(self.model, *arrays),), self.batch,
            self.labels[image], other,
            self.low[image].astype(np.float32), self.high[image].astype(np.float32),
        )  # fmt: skip
        nowhere = np.full(start.shape, np.inf, np.float32)
        bound = np.zeros(len(image), np.float32)
        return Domains(image, other, -nowhere, nowhere, start, bound)

    @property
    def open(self) -> Bool[np.ndarray, " images"]:
        """Images that are not decided."""
        left = ~self.certified
        left[list(self.found)] = False
        return left

    def run(self, budget: Budget) -> Iterator[Progress]:
        """Work until nothing is open or the budget is spent; say after each step how it stands."""
        start = time.perf_counter()
        while True:
            self.frontier.drop(~self.open | (self.spent >= budget.domains))
            taken = time.perf_counter() - start
            if not len(self.frontier) or taken >= budget.seconds:
                return
            self._step(self.frontier.pop(self.batch, self.spent))
            yield Progress(
                len(self.labels), self.explored, len(self.frontier), int(np.sum(self.open)),
                time.perf_counter() - start,
            )  # fmt: skip

    def _step(self, domains: Domains) -> None:
        image = domains.image
        low, high = self._ends(domains, np.float32)
        # An array for each attribute, one row per domain.
        explored: Any = Explored._make(
            in_chunks(
                lambda *arrays: tuple(_explore(self.search, self.model, *arrays)), self.batch,
                self.pixels[image], self.labels[image], domains.other,
                np.full(len(image), self.eps, np.float32), low, high, domains.slopes,
            )
        )  # fmt: skip
        self._count(image)
        self._attack(image, explored)
        found = domains._replace(slopes=explored.slopes, bound=explored.bound)
        left = ~self._prove(found)
        self._branch(found.take(left), Explored(*(array[left] for array in explored)))

    def _count(self, image: np.ndarray) -> None:
        """Domains of these images were bounded for the first time."""
        self.explored += len(image)
        np.add.at(self.spent, image, 1)

    def _ends(self, domains: Domains, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """The intervals of the neurons' inputs: what holds in the ball, cut off."""
        at = domains.image
        return (
            np.maximum(self.low[at], domains.low).astype(dtype),
            np.minimum(self.high[at], domains.high).astype(dtype),
        )

    def _attack(self, image: np.ndarray, explored: Any) -> None:
        """Judge what the search thinks is wrong, ties included, the worst image of each ball."""
        for place in np.unique(image[explored.margin <= 0]):
            if not self.open[place]:
                continue
            mine = np.flatnonzero(image == place)
            best = mine[np.argmin(explored.margin[mine])]
            one = slice(place, place + 1)
            found = decide_images(
                self.search.ball, self.model, self.part.images[one], self.labels[one],
                explored.image[best][None], eps=self.eps,
            )  # fmt: skip
            if found.size[0] <= self.eps:
                self.found[int(place)] = found

    def _prove(self, domains: Domains) -> Bool[np.ndarray, " domains"]:
        """Which domains hold no wrong image, in float64; they are no longer waited for."""
        done = domains.bound > 2 * CLOSE
        at = np.flatnonzero(done)
        if not at.size:
            return done
        some = domains.take(at)
        low, high = self._ends(some, np.float64)
        with jax.enable_x64(True):
            (bounds,) = in_chunks(
                lambda *arrays: (_proven(self.search, self.wide, *arrays),), self.batch,
                self.pixels[some.image].astype(np.float64), self.labels[some.image], some.other,
                np.full(at.size, self.eps, np.float64), low, high, self.size[some.image],
                some.slopes.astype(np.float64),
            )  # fmt: skip
        if bounds.dtype != np.float64:
            raise TypeError(f"certificates must be computed in float64, got {bounds.dtype}")
        done[at] = bounds > CLOSE
        image = domains.image[done]
        np.subtract.at(self.waiting, image, 1)
        self.certified[image] |= self.waiting[image] == 0
        return done

    def _branch(self, domains: Domains, explored: Any) -> None:
        """Put back the halves that are not proven; the whole where there is nothing to split."""
        splits = explored.looseness > 0
        rows = np.flatnonzero(splits)
        neuron, point = explored.neuron[rows], explored.point[rows]
        parent = domains.take(rows)
        below, above = (
            parent._replace(low=parent.low.copy(), high=parent.high.copy(), slopes=slopes)
            for slopes in (parent.slopes.copy(), parent.slopes.copy())
        )
        line = np.arange(len(rows))
        below.high[line, neuron], above.low[line, neuron] = point, point
        below.slopes[line, neuron] = explored.below[rows]
        above.slopes[line, neuron] = explored.above[rows]
        np.add.at(self.waiting, parent.image, 1)
        for half, bound in ((below, explored.bound_below), (above, explored.bound_above)):
            # What was proven of the whole holds for its parts.
            tried = half._replace(bound=np.maximum(half.bound, bound[rows]))
            done = self._prove(tried)
            self._count(tried.image[done])
            self._push(tried.take(~done))
        self._push(domains.take(~splits))

    def _push(self, domains: Domains) -> None:
        if len(domains.image):
            self.frontier.push(domains)


@eqx.filter_jit
def _roots(
    search: Search, model: MLP, images: Float[Array, "images pixels"], eps: Float[Array, " images"]
) -> tuple[Array, Array, Array]:
    def one(x: Array, radius: Array) -> tuple[Array, Array, Array]:
        layers = hidden_layers(model, search.ball, x, radius, refine=True)
        join = lambda name: jnp.concatenate([getattr(layer, name) for layer in layers])
        return join("low"), join("high"), join("size")

    return jax.vmap(one)(images, eps)


@eqx.filter_jit
def _first(model: MLP, *arrays: Array) -> Float[Array, "domains neurons"]:
    return jax.vmap(lambda *each: first_slopes(model, *each))(*arrays)


@eqx.filter_jit
def _explore(search: Search, model: MLP, *arrays: Array) -> Explored:
    return jax.vmap(lambda *each: search(model, *each))(*arrays)


@eqx.filter_jit
def _proven(search: Search, model: MLP, *arrays: Array) -> Float[Array, " domains"]:
    return jax.vmap(lambda *each: proven(model, search.ball, *each))(*arrays)
