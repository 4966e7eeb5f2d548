"""Facts without the paths of the machine they come from."""

import re
import shlex
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any


# A path from the root, of at least two parts, as one word of a text. What follows a colon or
# another slash belongs to a web address.
_POSIX = re.compile(r"(?<![\w.:/])~?(?:/[^\s/'\",;:()]+){2,}/?")
_WINDOWS = re.compile(r"\b[A-Za-z]:[\\/][^\s'\",;:()]+")


def without_paths(value: Any) -> Any:
    """The same value with every absolute path in it cut down to its last part.

    Args:
        value: A text, or lists and dicts of texts as JSON holds them.
    """
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_paths(item) for item in value)
    return _shorten(value) if isinstance(value, str) else value


def _shorten(text: str) -> str:
    # Commands that made a run one after the other, and files that it was read from.
    for mark in (" && ", ", "):
        if mark in text:
            return mark.join(map(_shorten, text.split(mark)))
    if (name := _last_part(text)) is not None:
        return name
    try:
        # A command quotes the paths that hold spaces, so its words are looked at one by one.
        words = shlex.split(text)
    except ValueError:
        words = []
    if any(_last_part(word) is not None for word in words):
        return shlex.join(_last_part(word) or word for word in words)
    for pattern, kind in ((_POSIX, PurePosixPath), (_WINDOWS, PureWindowsPath)):
        text = pattern.sub(lambda match, kind=kind: kind(match.group()).name, text)  # type: ignore[misc]
    return text


def _last_part(text: str) -> str | None:
    """The last part of a text that is a path from the root, home or above, or None."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        away = path.is_absolute() or (path.parts and path.parts[0] in {"..", "~"})
        if "\n" not in text and away and path.name not in {"", ".."}:
            return path.name
    return None
