"""The domains that branch and bound has still to explore, of many images side by side."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, Int64

from robust_mnist.sweep._driver import padded


class Domains(NamedTuple):
    """Parts of balls, one entry each: what decides which comes next, on the host.

    Attributes:
        image: Place of the image among those that are worked on.
        other: Class that the true one is compared with.
        bound: What the float32 search knows of it: from the trial that split it off, or the parent.
    """

    image: Int32[np.ndarray, " domains"]
    other: Int32[np.ndarray, " domains"]
    bound: Float32[np.ndarray, " domains"]

    def take(self, at: np.ndarray) -> "Domains":
        """Those at some places, or where a mask is true."""
        return Domains(*(array[at] for array in self))


class Cuts(NamedTuple):
    """The same domains on the device, a row each over the neurons of all hidden layers.

    Attributes:
        low: Where the neurons' inputs were cut off below; -inf where they were not.
        high: The same above.
        start: Where the search of a domain starts: its slopes, and what else there is to choose.
    """

    low: Float[Array, "domains neurons"]
    high: Float[Array, "domains neurons"]
    start: Float[Array, "domains choices"]


class Frontier:
    """A pool of domains, whose rows stay on the device and are moved in batches of one size.

    Args:
        neurons: Of all hidden layers together.
        choices: What a search starts from.
        batch: Rows that are moved at once.
    """

    def __init__(self, neurons: int, choices: int, batch: int) -> None:
        none, rows = np.zeros(0, np.int32), jnp.zeros((0, neurons), jnp.float32)
        start = jnp.zeros((0, choices), jnp.float32)
        self._batch, self._count = batch, 0
        # The first `_count` entries are the pool, in no order, and the row of each.
        self._held = Domains(none, none, none.astype(np.float32))
        self._slot = none
        self._cuts, self._free = Cuts(rows, rows, start), none

    def __len__(self) -> int:
        return self._count

    def all(self) -> Domains:
        """Everything in the pool."""
        return self._held.take(np.arange(self._count))

    def of(self, images: Bool[np.ndarray, " images"]) -> Int64[np.ndarray, " domains"]:
        """Where in the pool the domains of some images are, until it changes."""
        return np.flatnonzero(images[self._held.image[: self._count]])

    def cuts(self, at: Int64[np.ndarray, " domains"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Where some domains, as `of` tells them, are cut off below and above, batch by batch."""
        for start in range(0, at.size, self._batch):
            slots = self._slot[at[start : start + self._batch]]
            found = rows_of(self._cuts, padded(slots, self._batch))
            low, high = jax.device_get((found.low, found.high))
            yield low[: slots.size], high[: slots.size]

    def pop(
        self,
        spent: Int64[np.ndarray, " images"],
        among: Int64[np.ndarray, " domains"] | None = None,
    ) -> tuple[Domains, Cuts]:
        """Take a batch out: of images that took little work yet, the nearest to done.

        What an image has cost counts by its order of magnitude alone: so easy images are not kept
        waiting, and a hard one is worked on in depth, which keeps the pool small.

        Args:
            spent: Domains that each image has taken so far.
            among: What to take it from, as `of` tells it; all by default.

        Returns:
            A batch at most; and the rows of a whole one, of which the first are meant.
        """
        image, bound = self._held.image[: self._count], self._held.bound[: self._count]
        level = np.ceil(np.log2(1 + spent / 64))
        # One number per domain, whose fraction falls as the bound rises: a sort of them all would
        # take longer than exploring the batch on an accelerator.
        known = np.clip(bound.astype(np.float64), -1e30, 1e30)
        rank = level[image] + 0.5 * (1 - known / (1 + np.abs(known)))
        taken = np.arange(self._count) if among is None else among
        if taken.size > self._batch:
            taken = taken[np.argpartition(rank[taken], self._batch)[: self._batch]]
        taken = taken[np.argsort(rank[taken], kind="stable")]
        domains, slots = self._held.take(taken), self._slot[taken]
        self._remove(taken)
        return domains, rows_of(self._cuts, padded(slots, self._batch))

    def push(self, domains: Domains, cuts: Cuts, at: np.ndarray) -> None:
        """Add domains.

        Args:
            domains: At most a batch of them.
            cuts: Rows of a whole batch.
            at: Which rows are those of the domains.
        """
        count = len(domains.image)
        if count > len(self._free):
            self._grow(self._count + count)
        slots = self._free[:count]
        # Rows that are not meant go past the end, where nothing is written.
        target = np.full(self._batch, len(self._slot), np.int32)
        target[at] = slots
        self._cuts = _put(self._cuts, cuts, target)
        self._free = self._free[count:]
        for held, new in zip((*self._held, self._slot), (*domains, slots), strict=True):
            held[self._count : self._count + count] = new
        self._count += count

    def drop(self, images: np.ndarray) -> None:
        """Forget the domains of some images.

        Args:
            images: A mask over all images.
        """
        self._remove(self.of(images))

    def _remove(self, places: np.ndarray) -> None:
        """Forget entries; others from the end take their places."""
        if not places.size:
            return
        self._free = np.concatenate([self._free, self._slot[places]])
        left = self._count - places.size
        end = np.ones(places.size, bool)
        end[places[places >= left] - left] = False
        for array in (*self._held, self._slot):
            array[places[places < left]] = array[left : self._count][end]
        self._count = left

    def _grow(self, count: int) -> None:
        held = len(self._slot)
        # Powers of two, so that few sizes are ever compiled.
        size = 1 << (max(count, 1024) - 1).bit_length()
        # One by one, since each is held twice for a moment.
        for name in Cuts._fields:
            self._cuts = self._cuts._replace(**{name: _longer(getattr(self._cuts, name), size)})
        longer = lambda array: np.concatenate([array, np.zeros(size - held, array.dtype)])
        self._held, self._slot = Domains(*map(longer, self._held)), longer(self._slot)
        self._free = np.concatenate([self._free, np.arange(held, size, dtype=np.int32)])


@jax.jit
def rows_of(cuts: Cuts, slots: Array) -> Cuts:
    """Some rows, in the order asked for."""
    return Cuts(*(array[slots] for array in cuts))


# Written where the old ones lie: copying the whole pool for each batch would take longer than all
# the rest.
@jax.jit(donate_argnums=0)
def _put(cuts: Cuts, rows: Cuts, slots: Array) -> Cuts:
    write = lambda array, new: array.at[slots].set(new, mode="drop")
    return Cuts(*(write(array, new) for array, new in zip(cuts, rows, strict=True)))


@jax.jit(static_argnums=1)
def _longer(array: Array, size: int) -> Array:
    more = jnp.zeros((size - len(array), array.shape[1]), array.dtype)
    return jnp.concatenate([array, more])
