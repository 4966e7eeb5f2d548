"""Tables that stand on a page, in Markdown and on a terminal alike."""

import dataclasses
import math

from robust_mnist import figures


SUMMARY_LIMIT = 1_000_000  # bytes; above 1 MiB the summary of a step is dropped as a whole


@dataclasses.dataclass(frozen=True)
class Grid:
    """A titled table of words.

    Attributes:
        name: Anchor on the page.
        title: Heading.
        note: How to read it.
        heading: Name of every column.
        rows: Cells; the first names the row.
    """

    name: str
    title: str
    note: str
    heading: list[str]
    rows: list[list[str]]


def markdown(title: str, notes: list[str], grids: list[Grid], *, limit: int = SUMMARY_LIMIT) -> str:
    """Tables as Markdown, notes after the first; cut at a line beyond which `limit` bytes end."""
    blocks = [_table(grid) for grid in grids]
    blocks.insert(1, [f"- {escape(note)}" for note in notes])  # the answer comes first
    lines = [f"## {escape(title)}", *(line for block in blocks if block for line in ["", *block])]
    return _fit("\n".join(lines) + "\n", limit)


def _table(grid: Grid) -> list[str]:
    return [
        f"### {escape(grid.title)}",
        "",
        *([escape(grid.note), ""] if grid.note else []),
        _line(grid.heading),
        _line(["---"] * len(grid.heading), plain=True),
        *map(_line, grid.rows),
    ]


def escape(text: str) -> str:
    """Text for a cell: no column ends in it, no tag, image, link or emphasis begins."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for letter in "\\|`*~":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("](", "]\\(").replace("![", "\\![")


def _line(cells: list[str], *, plain: bool = False) -> str:
    return f"| {' | '.join(cells if plain else [escape(cell) or ' ' for cell in cells])} |"


def _fit(text: str, limit: int) -> str:
    if len(text.encode()) <= limit:
        return text
    note = "\n\nCut here: the rest is in the files beside this one.\n"
    kept = text.encode()[: max(0, limit - len(note.encode()))].decode(errors="ignore")
    return kept[: kept.rfind("\n") + 1].rstrip("\n") + note if "\n" in kept else ""


def duration(value: float) -> str:
    """A time, or a dash."""
    return "-" if math.isnan(value) else figures.seconds(value)


def times(value: float, low: float, high: float, *, rounds: bool, disagree: bool) -> str:
    """A speed-up with its interval; `*` where that is too narrow."""
    if math.isnan(value):
        return "-"
    ends = "" if math.isnan(low) else f" [{_short(low)}, {_short(high)}]"
    star = "*" if rounds else ""
    return f"{_short(value)}x{ends}{star}{', numbers disagree' if disagree else ''}"


def percent(value: float) -> str:
    """A share in percent to three digits, or a dash."""
    return "-" if math.isnan(value) else f"{100 * value:.3g} %"


def size(value: float) -> str:
    """Bytes in MiB, or a dash."""
    return "-" if math.isnan(value) else f"{value / 2**20:,.3g} MiB"


def count(value: float) -> str:
    """A whole number, or a dash."""
    return "-" if math.isnan(value) else f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
