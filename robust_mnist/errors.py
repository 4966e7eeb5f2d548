"""Mistakes of the user, told in one line each."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave is wrong: a flag, a name, a file.

    The command line prints the message, which is always a single line, and exits with
    `exit_code`; an error without one is a bug or a failure of the run.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        # Paths and cells of broken files may hold line ends of their own.
        super().__init__(" ".join(message.splitlines()))


class NotComparable(InputError):  # noqa: N818 it says what it is
    """Two results cannot be compared: one is missing, or they were measured by different rules."""

    exit_code = 4


class WrongDevice(InputError):  # noqa: N818 it says what it is
    """JAX cannot use the device that it was asked for."""

    exit_code = 5


def closest(name: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown name: `"; did you mean 'tanh'?"`, or nothing.

    Args:
        name: What was asked for.
        choices: What there is.

    Returns:
        The question for the choice most like `name`, or `""` when none is like it.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[matches[0]]!r}?" if matches else ""


def unknown(kind: str, name: str, choices: Iterable[str], *, listing: str = "") -> InputError:
    """The error for a name that is in no registry; the caller raises it.

    Args:
        kind: What the name should have been, in the singular: `"attack"`, `"dataset"`.
        name: What was asked for.
        choices: Every valid name, in the order to list them.
        listing: The command that lists them, where they are too many for a message.
    """
    choices = list(choices)
    listed = f"choose from {', '.join(choices)}{closest(name, choices)}"
    if listing:
        near = difflib.get_close_matches(name, choices, n=5) or choices[:5]
        listed = f"closest are {', '.join(near)}; `{listing}` lists all {len(choices)}"
    return InputError(f"unknown {kind} {name!r}: {listed}")
