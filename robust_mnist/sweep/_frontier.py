"""The domains that branch and bound has still to explore, of many images side by side."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64


class Domains(NamedTuple):
    """Parts of balls, one row each; arrays over neurons cover all hidden layers.

    Attributes:
        image: Place of the image among those that are worked on.
        other: Class that the true one is compared with.
        low: Where the neurons' inputs were cut off below; -inf where they were not.
        high: The same above.
        slopes: Where the search for slopes starts.
        bound: What the float32 search knows of it: from the trial that split it off, or the parent.
    """

    image: Int32[np.ndarray, " domains"]
    other: Int32[np.ndarray, " domains"]
    low: Float32[np.ndarray, "domains neurons"]
    high: Float32[np.ndarray, "domains neurons"]
    slopes: Float32[np.ndarray, "domains neurons"]
    bound: Float32[np.ndarray, " domains"]

    def take(self, at: np.ndarray) -> "Domains":
        """Those at some places, or where a mask is true."""
        return Domains(*(array[at] for array in self))


class Frontier:
    """A pool of domains that grows without moving what is in it.

    Args:
        domains: What to begin with.
    """

    def __init__(self, domains: Domains) -> None:
        count = len(domains.image)
        self._store = domains
        self._free: list[int] = []
        self._active = np.arange(count)

    def __len__(self) -> int:
        return len(self._active)

    def all(self) -> Domains:
        """Everything in the pool."""
        return self._store.take(self._active)

    def pop(self, count: int, spent: Int64[np.ndarray, " images"]) -> Domains:
        """Take out up to so many domains: of images that took little work yet, the nearest to done.

        What an image has cost counts by its order of magnitude alone: so easy images are not kept
        waiting, and a hard one is worked on in depth, which keeps the pool small.

        Args:
            count: How many.
            spent: Domains that each image has taken so far.
        """
        image, bound = self._store.image[self._active], self._store.bound[self._active]
        order = (
            np.lexsort((-bound, np.ceil(np.log2(1 + spent[image] / 64))))
            if (count < len(self._active))
            else np.arange(len(self._active))
        )
        taken, left = order[:count], order[count:]
        slots, self._active = self._active[taken], self._active[np.sort(left)]
        self._free.extend(slots.tolist())
        return self._store.take(slots)

    def push(self, domains: Domains) -> None:
        """Add domains."""
        count = len(domains.image)
        if count > len(self._free):
            self._grow(count - len(self._free))
        slots = np.array(self._free[len(self._free) - count :], np.int64)
        del self._free[len(self._free) - count :]
        for held, new in zip(self._store, domains, strict=True):
            held[slots] = new
        self._active = np.concatenate([self._active, slots])

    def drop(self, images: np.ndarray) -> None:
        """Forget the domains of some images.

        Args:
            images: A mask over all images.
        """
        gone = images[self._store.image[self._active]]
        self._free.extend(self._active[gone].tolist())
        self._active = self._active[~gone]

    def _grow(self, count: int) -> None:
        held = len(self._store.image)
        more = max(count, held, 1024)
        self._store = Domains(
            *(
                np.concatenate([array, np.empty((more, *array.shape[1:]), array.dtype)])
                for array in self._store
            )
        )
        self._free.extend(range(held, held + more))
