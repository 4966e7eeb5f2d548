"""Accuracies at chosen radii, each with its interval, for pages and for the terminal."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from robust_mnist.figures import swept
from robust_mnist.records import Records


# In tables the merged results come last, under these names.
MERGED = {"worst": "worst case", "certified": "certified"}


@dataclasses.dataclass(frozen=True)
class Reading:
    """An accuracy of one network with its 95 % Wilson interval, or of several with their range.

    Attributes:
        accuracy: Share of the images, the mean over the networks.
        low: Lower end of the interval, or the lowest network.
        high: Upper end of the interval, or the highest network.
        images: Number of images.
        networks: Number of networks.
    """

    accuracy: float
    low: float
    high: float
    images: int
    networks: int

    @property
    def value(self) -> str:
        """The accuracy in percent."""
        return f"{100 * self.accuracy:.2f}\N{NO-BREAK SPACE}%"

    @property
    def interval(self) -> str:
        """What stands behind the value: its interval, or the range over the networks."""
        return f"{100 * self.low:.2f} to {100 * self.high:.2f}"


def read(rows: pd.DataFrame) -> Reading | None:
    """The reading of rows that differ in their seed only; None where there are none."""
    if rows.empty:
        return None
    rows = rows.drop_duplicates("seed")
    single = len(rows) == 1
    return Reading(
        accuracy=float(rows["accuracy"].mean()),
        low=float(rows["low"].iloc[0] if single else rows["accuracy"].min()),
        high=float(rows["high"].iloc[0] if single else rows["accuracy"].max()),
        images=int(rows["images"].iloc[0]),
        networks=len(rows),
    )


def clean(records: Records) -> Reading | None:
    """Plain test accuracy, which training measures and a sweep measures again."""
    rows = records.rows
    if rows.empty:
        return None
    return read(rows[rows["kind"].isin(["training", "clean"]) & (rows["split"] == "test")])


@dataclasses.dataclass(frozen=True)
class AccuracyTable:
    """Accuracy against eps in one norm.

    Attributes:
        norm: The norm.
        methods: Names of the columns: every attack, the worst case, every certifier, certified.
        eps: Names of the rows.
        cells: A reading for each row and column; None where that method was not run.
    """

    norm: str
    methods: list[str]
    eps: list[float]
    cells: list[list[Reading | None]]

    def images(self) -> int:
        """Number of images behind the worst case."""
        column = self.methods.index(MERGED["worst"])
        return next(row[column].images for row in self.cells if row[column])  # type: ignore[union-attr]

    def at(self, eps: list[float]) -> "AccuracyTable":
        """The same table at some of its radii only."""
        keep = [index for index, value in enumerate(self.eps) if value in eps]
        return dataclasses.replace(
            self, eps=[self.eps[i] for i in keep], cells=[self.cells[i] for i in keep]
        )


def tables(records: Records) -> list[AccuracyTable]:
    """One table per norm."""
    return [_table(records, norm) for norm in swept(records)]


def _table(records: Records, norm: str) -> AccuracyTable:
    rows = records.rows
    rows = rows[(rows["norm"] == norm) & rows["kind"].isin(["attacked", *MERGED])]
    columns = _columns(rows)
    eps = sorted(float(value) for value in rows["eps"].unique())
    by_cell = dict(iter(rows.groupby(["kind", "method", "eps"])))
    cells = [[_cell(by_cell, column, value) for column in columns] for value in eps]
    return AccuracyTable(norm, [name for name, _, _ in columns], eps, cells)


def _columns(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Name, kind and method of every column."""
    found = {(str(k), str(m)) for k, m in zip(rows["kind"], rows["method"], strict=True)}
    attacks, certifiers = (
        sorted(method for kind, method in found if kind == wanted and method != "all")
        for wanted in ("attacked", "certified")
    )
    every = int(rows["images"].max())
    ran = rows[(rows["kind"] == "attacked") & (rows["eps"] > 0)].groupby("method")["images"]
    least, most = ran.min().to_dict(), ran.max().to_dict()
    # A method that ran on a sample says so.
    name = lambda method: method + _sample(least.get(method, every), most.get(method, every), every)
    columns = [(name(method), "attacked", method) for method in attacks]
    columns.append((MERGED["worst"], "worst", "all"))
    if ("certified", "all") in found:
        alone = len(certifiers) == 1 and _proves_all(rows, certifiers[0])
        columns += [(method, "certified", method) for method in certifiers if not alone]
        by = f" by {certifiers[0]}" if alone else ""
        columns.append((f"{MERGED['certified']}{by}", "certified", "all"))
    return columns


def _sample(least: int, most: int, every: int) -> str:
    """On how many images a method ran, where these are not all at each radius."""
    if least == every:
        return ""
    return f" on {least:,}" if least == most else f" on {least:,} to {most:,}"


def _proves_all(rows: pd.DataFrame, certifier: str) -> bool:
    """Whether nothing that is certified is due to `certify` or `close`, whose methods lack rows."""
    proven = rows[rows["kind"] == "certified"].pivot_table("correct", ["eps", "seed"], "method")
    return bool((proven[certifier] == proven["all"]).all())


def _cell(
    by_cell: Mapping[Any, pd.DataFrame], column: tuple[str, str, str], eps: float
) -> Reading | None:
    group = by_cell.get((column[1], column[2], eps))
    return None if group is None else read(group)


def headline_eps(table: AccuracyTable, count: int = 3) -> list[float]:
    """A few radii, evenly spread over the places of the grid, 0 apart."""
    positive = [eps for eps in table.eps if eps > 0]
    places = np.linspace(0, len(positive) - 1, count + 2)[1:-1].round().astype(int)
    return sorted({positive[place] for place in places}) if positive else []
