"""Which images a method ran on at which radius, as `radii.npz` keeps it.

A method's accuracy at a radius is that of the images it ran on at that radius. A later sweep may
add images at one radius alone: what the method finds there says nothing of the other radii.
"""

from collections.abc import Mapping

import numpy as np


def ran_key(norm: str, method: str, eps: float) -> str:
    """Name of the array that says on which images a method ran at a radius.

    Args:
        norm: Norm of the radius.
        method: Name of the attack.
        eps: Radius; infinite for an attack that is given none.
    """
    return f"ran/{norm}/{method}/{eps:.17g}"


def ran_at(
    arrays: Mapping[str, np.ndarray], norm: str, method: str, eps: float
) -> np.ndarray | None:
    """The images a method ran on at a radius.

    An attack that is given no radius runs once, for all radii. At radius 0 there is nothing to
    search: each image counts that the method ran on at any radius.

    Args:
        arrays: Arrays of `radii.npz`.
        norm: Norm of the radius.
        method: Name of the attack.
        eps: Radius.

    Returns:
        As many numbers as `upper` of the norm has, true where the method ran; None where that is
        not known.
    """
    everywhere = arrays.get(ran_key(norm, method, np.inf))
    if everywhere is None and eps == 0:
        masks = _masks(arrays, norm, method)
        everywhere = np.any(masks, axis=0) if masks else None
    return arrays.get(ran_key(norm, method, eps)) if everywhere is None else everywhere


def _masks(arrays: Mapping[str, np.ndarray], norm: str, method: str) -> list[np.ndarray]:
    start = f"ran/{norm}/{method}/"
    return [array for name, array in arrays.items() if name.startswith(start)]
