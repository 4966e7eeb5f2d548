"""What a command gives back: text for a person, data for a machine."""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a command.

    Attributes:
        text: What a person reads on stdout.
        data: The same as JSON values, for `--json`.
        exit_code: 0, or what a verdict asks for.
    """

    text: str
    data: Any
    exit_code: int = 0


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words, aligned; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
