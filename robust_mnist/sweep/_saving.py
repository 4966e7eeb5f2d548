"""Files that are written while there is more to come, so that a kill loses a moment of work."""

import operator
import time
from collections.abc import Callable

import numpy as np


# What writing takes of the time at most: next to nothing for few images, seconds for many networks.
SHARE = 0.1


class Saving:
    """Writes what is known when asked to, if that has changed and writing has not just taken long.

    Args:
        known: Gives all that is written, as objects that are replaced where they change.
        write: Writes it.
    """

    def __init__(self, known: Callable[[], list[object]], write: Callable[[], None]) -> None:
        self.known, self.write = known, write
        self.written, self.due = known(), -np.inf

    def __call__(self) -> None:
        known, start = self.known(), time.monotonic()
        same = len(known) == len(self.written) and all(map(operator.is_, known, self.written))
        if same or start < self.due:
            return
        self.write()
        end = time.monotonic()
        self.written, self.due = known, end + (end - start) / SHARE
