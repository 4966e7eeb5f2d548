"""Entries of registries that other packages bring.

A package registers, for instance, an attack with the entry point group `robust_mnist.attacks`; the
entry point's name is the method's name, its object the instance.
"""

import importlib.metadata
from typing import TypeVar

from robust_mnist.errors import InputError


Entry = TypeVar("Entry")


def with_plugins(name: str, own: dict[str, Entry]) -> dict[str, Entry]:
    """The registry `own` with the entries that installed packages add to it.

    Args:
        name: Name of the registry, the last part of its entry point group.
        own: The entries of this package; none of them can be replaced.

    Raises:
        InputError: An entry cannot be loaded, or its name is taken.
    """
    entries = dict(own)
    for point in importlib.metadata.entry_points(group=f"robust_mnist.{name}"):
        origin = f"{name} entry {point.name!r} of {point.dist.name if point.dist else point.value}"
        if point.name in entries:
            raise InputError(f"{origin} takes a name that is in use; rename it there")
        try:
            entries[point.name] = point.load()
        except Exception as error:
            raise InputError(f"{origin} cannot be loaded: {error}; mend or uninstall it") from error
    return entries
