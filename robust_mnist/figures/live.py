"""Training curves while the network trains."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from robust_mnist.figures import _save
from robust_mnist.figures.training import training_curves


# What training hands out after a record: the rows of a history, as a table or not yet.
History = pd.DataFrame | Sequence[Mapping[str, float]]


class LiveCurves:
    """Redraws the training curves as records come in.

    What comes after the last refresh is drawn by `finish`, given the history of the finished
    training; nothing else tells when that is.

    In a notebook the figure replaces the output of the cell; elsewhere, and in a notebook too where
    a path is given, it is written to a file.

    Args:
        every: Records between two refreshes, at least 1.
        path: PNG to write on each refresh, or None.
    """

    def __init__(self, every: int = 5, path: Path | None = None) -> None:
        if every < 1:
            raise ValueError(f"live curves are redrawn every 1 record or more, got every={every}")
        self.every = every
        self.path = path
        self._records = 0
        self._drawn = 0

    def __call__(self, history: History) -> None:
        """Take the history after a record, and redraw if it is time.

        Args:
            history: Every record so far, with the columns that `training_curves` needs.
        """
        self._records += 1
        if self._records - self._drawn >= self.every:
            self._draw(history)

    def finish(self, history: History) -> None:
        """Redraw after the last record, unless that one is already shown."""
        if self._drawn < self._records:
            self._draw(history)

    def _draw(self, history: History) -> None:
        self._drawn = self._records
        figure = training_curves(pd.DataFrame(history))
        if self.path is not None:
            _save.write_png(figure, self.path)
        if in_notebook():
            _display(_save.png(figure))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    # A kernel has imported IPython long before; elsewhere it may not even be installed.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def _display(png: bytes) -> None:
    display = importlib.import_module("IPython.display")
    # Waiting for the new picture keeps the cell from flickering.
    display.clear_output(wait=True)
    display.display(display.Image(data=png, format="png", width=900))
