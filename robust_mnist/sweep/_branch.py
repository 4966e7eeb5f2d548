"""Branch and bound over many images at once, in programs of one size."""

import dataclasses
import time
from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int

from robust_mnist.certify._backward import hidden_layers, lowest, margin_rows
from robust_mnist.certify._domains import AbstractSearch, Ends, Explored, Search
from robust_mnist.certify._linear import least_margin
from robust_mnist.certify._lines import CURVES
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.models import MLP
from robust_mnist.records import OpenDomains
from robust_mnist.sweep._driver import Found, decide_images, in_chunks, padded, widened
from robust_mnist.sweep._frontier import Cuts, Domains, Frontier, rows_of
from robust_mnist.sweep._proofs import least_bound
from robust_mnist.sweep._resume import kept, rows, sound
from robust_mnist.threat import Linf


# Balls whose hidden neurons are bounded at once: on a CPU as many as stay in its cache.
ROOTS, WIDE_ROOTS = 25, 1000
# A batch is proven in so many parts, those of them that are needed.
PARTS = 8
# Linear programs that are solved in one step at most, and the seconds after which no other begins.
PROGRAMS, PATIENCE = 32, 0.5
# Margins that HiGHS cannot tell from 0: its tolerance is 1e-7, in the inputs of neurons.
TIE = 1e-5
# Domains that keep a smaller share of their intervals are not halved: contracting goes on.
SHRUNK = 0.95


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


class Narrowed(NamedTuple):
    """What is proven of domains, a row each.

    Attributes:
        bound: As in `Proven`.
        kept: Share of all intervals' widths that is left.
        low: Where the neurons' inputs are cut off below.
        high: The same above.
    """

    bound: Float[Array, " domains"]
    kept: Float[Array, " domains"]
    low: Float[Array, "domains neurons"]
    high: Float[Array, "domains neurons"]


class Balls(NamedTuple):
    """The balls to decide, on the device, in the precision to compute in.

    Attributes:
        images: Clean images.
        labels: True classes.
        eps: Radius.
        low: Lower bounds on the inputs of all hidden neurons in the ball.
        high: Upper bounds.
        size: As in `Hidden`.
        judged: As in `Ends`.
    """

    images: Float[Array, "images pixels"]
    labels: Int[Array, " images"]
    eps: Float[Array, ""]
    low: Float[Array, "images neurons"]
    high: Float[Array, "images neurons"]
    size: Float[Array, "images neurons"]
    judged: Float[Array, ""]

    def whole(self, image: Array) -> Ends:
        """What is known of the neurons' inputs in a ball."""
        return Ends(self.low[image], self.high[image], self.size[image], self.judged)

    def ends(self, image: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """The intervals of the neurons' inputs in a domain: what holds in the ball, cut off."""
        return (
            jnp.maximum(self.low[image], low.astype(self.low.dtype)),
            jnp.minimum(self.high[image], high.astype(self.high.dtype)),
        )


class BranchAndBound:
    """Decide images at one radius each: prove the ball right, or find a wrong image in it.

    A domain whose bound is not proven comes back to the pool as it is where the search has narrowed
    it, and else is split at the input of a neuron. Each half is proven by the trial that chose the
    split, as a third of all are with lines alone, or comes to the pool. What the search
    in float32 finds is proven anew in float64, with room for rounding, before it counts; what it
    meets that is wrong is judged as the answer of any attack.

    Another one, as of a second `close`, goes on with what this one has `left`: the cuts of its open
    domains are enough, and what else was chosen is found again. Of 16 images that lines prove
    (`salman2019-nor-mlp-b` at 0.02), 40,000 domains decide 10, twice 20,000 with what was left
    half-way (1,431 domains, a file of 20 kB) decide the same 10, and from whole balls 6.

    Attributes:
        certified: Images that are proven right.
        found: What was found wrong, one entry per image.
        spent: Domains that each image took.
        tied: Images with a margin so near to 0 somewhere that neither can be shown; they stay open.

    Args:
        search: How a domain is explored.
        model: Network with an activation among the search's.
        part: The images to decide.
        eps: Radius, above 0.
        batch: Domains per compiled call; 0 for what suits the device.
        left: What an earlier one kept of its open images, which are those of `part`; an image that
            it does not hold, or holds with a domain that cannot be, begins with its whole ball. It
            has to hold all that is not proven of an image: what it lacks counts as proven.
    """

    def __init__(
        self,
        search: AbstractSearch,
        model: MLP,
        part: Part,
        eps: float,
        *,
        batch: int = 0,
        left: OpenDomains | None = None,
    ) -> None:
        self.search, self.model, self.part, self.eps = search, model, part, eps
        cpu = jax.default_backend() == "cpu"
        self.batch = batch or (search.batch if cpu else search.wide_batch)
        count = len(part.labels)
        self.labels = part.labels.astype(np.int32)
        self.certified = np.zeros(count, bool)
        self.found: dict[int, Found] = {}
        self.spent = np.zeros(count, np.int64)
        self.explored = 0
        # Filled up to a power of two, so that few programs depend on how many images there are.
        size = max(128, 1 << (count - 1).bit_length())
        pixels = to_float(part.images)
        self.least = least_bound(model)
        with jax.enable_x64(True):
            self.wide_model = widened(model)
            *roots, margins = in_chunks(
                lambda x, y, e: _roots(search, self.wide_model, x, y, e),
                ROOTS if cpu else WIDE_ROOTS,
                pixels.astype(np.float64), self.labels, np.full(count, eps, np.float64),
            )  # fmt: skip
            images, labels, *ends = (padded(array, size) for array in (pixels, self.labels, *roots))
            wide = images.astype(np.float64), labels, np.float64(eps), *ends, np.float64(self.least)
            self.wide = Balls(*jax.device_put(wide))
        self.piecewise = CURVES[model.activation].kinked and isinstance(search.ball, Linf)
        self.tied = np.zeros(count, bool)
        self._pixels, (self._low, self._high, _) = pixels.astype(np.float64), roots
        with np.errstate(over="ignore"):  # beyond float32 no search finds anything, nor proves it
            ends = [array.astype(np.float32) for array in ends]
            single = images, labels, np.float32(eps), *ends, np.float32(self.least)
        self.balls = Balls(*jax.device_put(single))
        # The true class has no margin to itself.
        self._possible = ~(margins > self.least)
        self._possible[np.arange(count), self.labels] = False
        classes = model.layers[-1].bias.size
        begun = OpenDomains.none() if left is None else left
        self._begun = sound(begun, self.labels, classes, self._low, self._high)
        self._before = np.zeros(count, np.int64)
        self._before[self._begun.image] = self._begun.spent
        self._begin()

    def _begin(self) -> None:
        """What was kept, and for every other image and class one domain: the whole ball.

        Classes that linear bounds rule out need none, which are most.

        They come to the pool a batch at a time, as finding where each starts is much of its work.
        """
        neurons = self.balls.low.shape[1]
        self.frontier = Frontier(neurons, self.search.choices(self.model), self.batch)
        image, other = (place.astype(np.int32) for place in np.nonzero(self._possible))
        self._resumed = self._begun
        mine = ~np.isin(image, self._resumed.image)
        self._whole = Domains(image, other, np.zeros(image.size, np.float32)).take(mine)
        known = np.concatenate([self._resumed.image, self._whole.image])
        self.waiting = np.bincount(known, minlength=len(self.labels))
        self.certified |= self.waiting == 0
        self._torn = False

    def _add_more(self) -> bool:
        """Add a batch of the domains to begin with, and say whether any was left."""
        is_open = self.open & ~self.tied
        self._resumed = self._resumed.where(is_open[self._resumed.image])
        self._whole = self._whole.take(is_open[self._whole.image])
        # What nothing is known of first, so that no image waits for hard ones in every run.
        if count := self._whole.image.size:
            now = np.arange(count) < self.batch
            whole, self._whole = self._whole.take(now), self._whole.take(~now)
            self._add(whole)
        elif count := self._resumed.image.size:
            now = np.arange(count) < self.batch
            left, self._resumed = self._resumed.where(now), self._resumed.where(~now)
            cuts = rows(left, self.balls.low.shape[1])
            low, high = (jnp.asarray(padded(array, self.batch)) for array in cuts)
            self._add(Domains(left.image, left.other, left.bound), low, high)
        return count > 0

    def _add(self, domains: Domains, low: Array | None = None, high: Array | None = None) -> None:
        """Add a batch at most, whose search starts as that of a whole ball does."""
        cuts = _first(self.search, self.model, self.balls, *self._batched(domains))
        if low is not None and high is not None:
            cuts = cuts._replace(low=low, high=high)
        self.frontier.push(domains, cuts, np.arange(domains.image.size))

    def left(self) -> OpenDomains | None:
        """What another one needs to go on with open images, as far as it is not too much.

        None within a step that was interrupted, where what was taken out may be lost.
        """
        if self._torn:
            return None
        held = np.bincount(self.frontier.all().image, minlength=len(self.labels))
        # Of ties nothing is in the pool any more, nor of what has just been decided; what was not
        # begun has nothing to go on from.
        spent = self.spent + self._before
        whole = self.open & ~self.tied & (held == self.waiting) & (spent > 0)
        return kept(self.frontier, whole, spent)

    @property
    def open(self) -> Bool[np.ndarray, " images"]:
        """Images that are not decided."""
        left = ~self.certified
        left[list(self.found)] = False
        return left

    def run(self, budget: Budget) -> Iterator[Progress]:
        """Work until nothing is open or the budget is spent; say after each step how it stands.

        What a run has decided stays, and the next one goes on from there, also with the images that
        had spent their domains; after one that was interrupted within a step, it begins anew with
        what is open.
        """
        start = time.perf_counter()
        if self._torn:
            self._begin()
        while True:
            # Domains that were taken out may be lost, and entries not agree with their rows.
            self._torn = True
            self.frontier.drop(~self.open | self.tied)
            if time.perf_counter() - start >= budget.seconds:
                self._torn = False
                return
            more = self._add_more()
            # The others stay in the pool for a run that may spend more.
            limited = np.isfinite(budget.domains)
            within = self.frontier.of(self.spent < budget.domains) if limited else None
            some = len(self.frontier if within is None else within) > 0
            if some:
                self._step(*self.frontier.pop(self.spent + self._before, within))
            self._torn = False
            if not (some or more):
                return
            yield Progress(
                len(self.labels), self.explored, int(np.sum(self.waiting[self.open & ~self.tied])),
                int(np.sum(self.open)), time.perf_counter() - start,
            )  # fmt: skip

    def _step(self, domains: Domains, cuts: Cuts) -> None:
        at = self._batched(domains)
        explored = _explore(self.search, self.model, self.balls, *at, cuts)
        self._count(domains.image)
        # What the rest is decided by comes to the host; images and rows stay.
        told = jax.device_get((
            explored.bound, explored.kept, explored.margin, explored.looseness,
            explored.bound_below, explored.bound_above,
        ))  # fmt: skip
        bound, kept, margin, looseness, *bounds = (array[: len(domains.image)] for array in told)
        self._attack(domains.image, margin, explored.image)
        whole = cuts._replace(start=explored.choices)
        found = domains._replace(bound=bound)
        done, kept, whole = self._prove(found, at, whole, (bound > 0) | (kept < 1))
        # What has shrunk comes back as it is: that costs one domain, and halving it two.
        shrunk = ~done & (kept < SHRUNK)
        self._push(found, whole, shrunk)
        left = ~done & ~shrunk
        splits = looseness > 0
        # The whole where there is nothing to split.
        ended = left & ~splits
        self._push(found, whole, ended & ~self._solve(found, whole, ended))
        left &= splits
        np.add.at(self.waiting, domains.image[left], 1)
        for half, trial in zip(_halves(whole, explored), bounds, strict=True):
            # What holds for the whole holds for its parts.
            tried = found._replace(bound=np.maximum(bound, trial))
            done, *_ = self._prove(tried, at, half, left & (tried.bound > 0))
            self._count(tried.image[done])
            self._push(tried, half, left & ~done)

    def _batched(self, domains: Domains) -> tuple[Array, Array]:
        """Image and class of each domain, as long as a batch."""
        return (
            jnp.asarray(padded(domains.image, self.batch)),
            jnp.asarray(padded(domains.other, self.batch)),
        )

    def _count(self, image: np.ndarray) -> None:
        """Domains of these images were bounded for the first time."""
        self.explored += len(image)
        np.add.at(self.spent, image, 1)

    def _attack(self, image: np.ndarray, margin: np.ndarray, images: Array) -> None:
        """Judge what the search thinks is wrong, ties included, the worst image of each ball."""
        for place in np.unique(image[margin <= 0]).tolist():
            if not self.open[place]:
                continue
            mine = np.flatnonzero(image == place)
            best = mine[np.argmin(margin[mine])]
            self._judge(place, np.asarray(_row(images, best)))

    def _judge(self, place: int, image: Float32[np.ndarray, " pixels"]) -> None:
        """Keep what is thought to be wrong in the ball of an image, if it is."""
        one = slice(place, place + 1)
        found = decide_images(
            self.search.ball, self.model, self.part.images[one], self.labels[one], image[None],
            eps=self.eps,
        )  # fmt: skip
        if found.size[0] <= self.eps:
            self.found[place] = found

    def _prove(
        self,
        domains: Domains,
        at: tuple[Array, Array],
        cuts: Cuts,
        mask: Bool[np.ndarray, " domains"],
    ) -> tuple[Bool[np.ndarray, " domains"], Float[np.ndarray, " domains"], Cuts]:
        """Which of some domains hold nothing wrong, in float64, and where the others may hold it.

        Args:
            domains: A batch at most.
            at: Image and class of each.
            cuts: Their rows.
            mask: Which to look at.

        Returns:
            Those that are proven; what share of its width each has kept; and the rows, cut off
            there.
        """
        places, kept = np.flatnonzero(mask), np.ones(mask.size)
        # In parts: often little of a batch has to be proven.
        size = max(1, self.batch // PARTS)
        parts = [places[start : start + size] for start in range(0, places.size, size)]
        with jax.enable_x64(True):
            # All of them started before one is waited for.
            found = [
                _proven(self.search, self.wide_model, self.wide, *at, cuts, padded(part, size))
                for part in parts
            ]
            told = jax.device_get([(one.bound, one.kept) for one in found])
        if not parts:
            return np.zeros(mask.size, bool), kept, cuts
        for part, one, (_, share) in zip(parts, found, told, strict=True):
            if np.any(share < 1):
                cuts = _cut_off(cuts, padded(part, size), one.low, one.high)
        bounds, shares = (np.concatenate(each) for each in zip(*told, strict=True))
        kept[places] = shares[: places.size]
        return self._settle(domains, places, bounds), kept, cuts

    def _settle(
        self, domains: Domains, places: np.ndarray, bounds: np.ndarray
    ) -> Bool[np.ndarray, " domains"]:
        """Which domains their bounds prove, those at some places; they are no longer waited for."""
        if bounds.dtype != np.float64:
            raise TypeError(f"certificates must be computed in float64, got {bounds.dtype}")
        done = np.zeros(len(domains.image), bool)
        done[places] = bounds[: places.size] > self.least
        image = domains.image[done]
        np.subtract.at(self.waiting, image, 1)
        self.certified[image] |= self.waiting[image] == 0
        return done

    def _solve(
        self, domains: Domains, cuts: Cuts, mask: Bool[np.ndarray, " domains"]
    ) -> Bool[np.ndarray, " domains"]:
        """Which of these domains, in which nothing bends, hold no wrong image: linear programs.

        Each takes as long as exploring dozens of domains on a CPU, thousands on an accelerator.
        What one finds wrong instead is judged.
        """
        places = np.flatnonzero(mask & self.open[domains.image])[:PROGRAMS]
        if not (self.piecewise and places.size):
            return np.zeros(mask.size, bool)
        image, other, rows = (
            padded(array, PROGRAMS)
            for array in (domains.image[places], domains.other[places], places)
        )
        some = rows_of(cuts, rows)
        slopes = np.zeros((PROGRAMS, self._low.shape[1]))
        margins = np.full(PROGRAMS, np.inf)
        lows, highs = np.asarray(some.low), np.asarray(some.high)
        start = time.perf_counter()
        for at, which in enumerate(image[: places.size].tolist()):
            if time.perf_counter() - start > PATIENCE:
                break
            if not self.open[which]:
                continue
            least = least_margin(
                self.wide_model, int(self.labels[which]), int(other[at]), self._pixels[which],
                self.eps, self._low[which], self._high[which], lows[at], highs[at],
            )  # fmt: skip
            if least is not None:
                slopes[at], margins[at] = least.slopes, least.margin
                if least.margin <= 0:
                    self._judge(which, least.image.astype(np.float32))
        with jax.enable_x64(True):
            bounds = _proven(
                Search(self.search.ball), self.wide_model, self.wide, jnp.asarray(image),
                jnp.asarray(other), some._replace(start=jnp.asarray(slopes)), np.arange(PROGRAMS),
            ).bound  # fmt: skip
        done = self._settle(domains, places, np.asarray(bounds))
        # The least margin there is, where indeed nothing bends: with it so low, no bound will do,
        # and no image was found wrong.
        bends = (np.maximum(lows, self._low[image]) < 0) & (
            np.minimum(highs, self._high[image]) > 0
        )
        low = (margins <= TIE) & ~bends.any(axis=1)
        final = places[low[: places.size] & ~done[places]]
        self.tied[domains.image[final]] = True
        return done

    def _push(self, domains: Domains, cuts: Cuts, mask: np.ndarray) -> None:
        at = np.flatnonzero(mask)
        if at.size:
            self.frontier.push(domains.take(at), cuts, at)


@eqx.filter_jit
def _roots(
    search: AbstractSearch,
    model: MLP,
    images: Float[Array, "images pixels"],
    labels: Int[Array, " images"],
    eps: Float[Array, " images"],
) -> tuple[Array, Array, Array, Array]:
    """The neurons' ends in whole balls, what no partial sum exceeds, and bounds on all margins."""

    def one(x: Array, y: Array, radius: Array) -> tuple[Array, Array, Array, Array]:
        layers = hidden_layers(model, search.ball, x, radius, refine=True)
        margins = lowest(*margin_rows(model, y), layers, search.ball, x, radius)
        join = lambda name: jnp.concatenate([getattr(layer, name) for layer in layers])
        return join("low"), join("high"), join("size"), margins

    return jax.vmap(one)(images, labels, eps)


@eqx.filter_jit
def _first(search: AbstractSearch, model: MLP, balls: Balls, image: Array, other: Array) -> Cuts:
    start = jax.vmap(
        lambda at, other: search.first(
            model, balls.images[at], balls.labels[at], other, balls.eps, balls.whole(at)
        )
    )(image, other)
    nowhere = jnp.full((len(image), balls.low.shape[1]), jnp.inf, balls.low.dtype)
    return Cuts(-nowhere, nowhere, start)


@eqx.filter_jit
def _explore(
    search: AbstractSearch, model: MLP, balls: Balls, image: Array, other: Array, cuts: Cuts
) -> Explored:
    def one(at: Array, other: Array, low: Array, high: Array, start: Array) -> Explored:
        ends = balls.ends(at, low, high)
        return search(
            model, balls.images[at], balls.labels[at], other, balls.eps, balls.whole(at), *ends,
            start,
        )  # fmt: skip

    return jax.vmap(one)(image, other, *cuts)


@jax.jit
def _halves(cuts: Cuts, explored: Explored) -> tuple[Cuts, Cuts]:
    """The domains below and above the splits that were chosen."""
    # A point below the smallest normal number is 0 on some devices, and on others it is not. Where
    # one proves a half and another goes on with its open domains, both have to mean the same point.
    tiny = float(jnp.finfo(explored.point.dtype).tiny)
    point = jnp.where(jnp.abs(explored.point) < tiny, 0.0, explored.point)
    # Of what is chosen the slopes come first, one for each neuron.
    at = lambda array: jnp.arange(array.shape[1])[None] == explored.neuron[:, None]
    put = lambda array, value: jnp.where(at(array), value[:, None], array)
    return (
        Cuts(cuts.low, put(cuts.high, point), put(cuts.start, explored.below)),
        Cuts(put(cuts.low, point), cuts.high, put(cuts.start, explored.above)),
    )


@eqx.filter_jit
def _proven(
    search: AbstractSearch, model: MLP, balls: Balls, image: Array, other: Array, cuts: Cuts,
    rows: Array | np.ndarray,
) -> Narrowed:  # fmt: skip
    """What is known of some rows of a batch."""
    image, other, cuts = jax.tree.map(lambda array: array[rows], (image, other, cuts))

    def one(at: Array, other: Array, low: Array, high: Array, start: Array) -> Narrowed:
        ends = balls.ends(at, low, high)
        found = search.proven(
            model, balls.images[at], balls.labels[at], other, balls.eps, balls.whole(at), *ends,
            start.astype(ends[0].dtype),
        )  # fmt: skip
        # What was not cut off stays so, and takes no room where open domains are kept.
        low = jnp.where(found.low > ends[0], _rounded(found.low, low, -1), low)
        high = jnp.where(found.high < ends[1], _rounded(found.high, high, 1), high)
        # Of what is kept, so that it is 1 where nothing changes.
        left = balls.ends(at, low, high)
        kept = jnp.sum(left[1] - left[0]) / jnp.sum(ends[1] - ends[0])
        return Narrowed(found.bound, kept, low, high)

    return jax.vmap(one)(image, other, *cuts)


def _rounded(ends: Array, like: Array, side: int) -> Array:
    """In the precision of others, away from the domain: down where `side` is -1, up where it is 1.

    Numbers below the smallest normal one count as 0 on some devices, and become that one.
    """
    near, tiny = ends.astype(like.dtype), float(jnp.finfo(like.dtype).tiny)
    within = side * (near.astype(ends.dtype) - ends) < 0
    away = jnp.nextafter(near, jnp.asarray(side * jnp.inf, like.dtype))
    normal = jnp.where(within, away, near)
    return jnp.where(jnp.abs(ends) < tiny, jnp.asarray(side * tiny, like.dtype), normal)


@jax.jit
def _cut_off(cuts: Cuts, rows: Array, low: Array, high: Array) -> Cuts:
    """The same, with other ends of some rows."""
    return cuts._replace(low=cuts.low.at[rows].set(low), high=cuts.high.at[rows].set(high))


@jax.jit
def _row(array: Array, at: Array) -> Array:
    return array[at]
