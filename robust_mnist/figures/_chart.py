"""What a figure is: how it is drawn, and what its reader must know."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from robust_mnist.records import Records


@dataclasses.dataclass(frozen=True)
class Chart:
    """A figure of one run.

    Attributes:
        draw: Draws the figure; None where the run holds nothing to draw.
        title: Heading of the figure on the page.
        reading: How to read it.
        limits: What it does not say.
        needs: What a run lacks for which `draw` returns None.
        command: Subcommand that makes what it lacks.
        several: How to read it where the run has several networks; empty if no other way.
    """

    draw: Callable[[Records], Figure | None]
    title: str
    reading: str
    limits: str
    needs: str
    command: Literal["train", "sweep", "sweep --preset quick"]
    several: str = ""

    def reading_of(self, records: Records) -> str:
        """How to read the figure of this run."""
        return self.several if self.several and len(records.seeds) > 1 else self.reading

    def __call__(self, records: Records) -> Figure | None:
        """Draw the figure, or return None where the run holds nothing to draw."""
        return self.draw(records)


@dataclasses.dataclass(frozen=True)
class Overlay:
    """A figure of several runs, the first of which is the baseline.

    Attributes:
        draw: Draws the figure; None where the runs have nothing in common to draw.
        title: Heading of the figure on the page.
        reading: How to read it.
        limits: What it does not say.
        needs: What the runs lack for which `draw` returns None.
    """

    draw: Callable[[Sequence[Records]], Figure | None]
    title: str
    reading: str
    limits: str
    needs: str

    def __call__(self, runs: Sequence[Records]) -> Figure | None:
        """Draw the figure, or return None where the runs have nothing in common to draw."""
        return self.draw(runs)


@dataclasses.dataclass(frozen=True)
class TimingChart:
    """A figure of timings, drawn from the table of `robust_mnist.trends`.

    Attributes:
        draw: Draws the figure; None where the table holds nothing to draw.
        title: Heading of the figure on the page.
        reading: How to read it.
        limits: What it does not say.
        needs: What the table lacks for which `draw` returns None.
    """

    draw: Callable[[pd.DataFrame], Figure | None]
    title: str
    reading: str
    limits: str
    needs: str

    def __call__(self, table: pd.DataFrame) -> Figure | None:
        """Draw the figure, or return None where the table holds nothing to draw."""
        return self.draw(table)
