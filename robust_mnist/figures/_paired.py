"""Paired differences between runs on the same test images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robust_mnist import statistics
from robust_mnist.figures import _curves
from robust_mnist.records import Records


def shared_norms(runs: Sequence[Records]) -> list[str]:
    """The norms that every run was attacked in."""
    return [norm for norm in _curves.swept(runs[0]) if all(norm in _curves.swept(r) for r in runs)]


def shared_grid(runs: Sequence[Records], norm: str) -> list[float]:
    """The radii at which every run was attacked.

    At any other radius one of the runs has been spared, and the comparison would praise it.
    """
    grids = [set(_curves.grid(records, norm)) for records in runs]
    return sorted(set.intersection(*grids))


def differences(runs: Sequence[Records]) -> pd.DataFrame:
    """Worst-case accuracy of each run minus that of the first, image by image, at the shared radii.

    The first seed of every run stands for it, because the images are paired within one network
    each.

    Returns:
        One row per norm, run and eps: `index` of the run, `first` and `second` accuracy,
        `difference` with its paired bootstrap interval `low` to `high`, the numbers of images that
        only one of the two gets right, and McNemar's exact `p`.
    """
    found = [
        _difference(runs, index, norm, eps)
        for norm in shared_norms(runs)
        for index in range(1, len(runs))
        for eps in shared_grid(runs, norm)
    ]
    return pd.DataFrame(found)


def _difference(
    runs: Sequence[Records], index: int, norm: str, eps: float
) -> dict[str, str | int | float]:
    first, second = (records.radii_of(norm)[0].upper > eps for records in (runs[0], runs[index]))
    low, high = statistics.paired_bootstrap(first, second)
    return {
        "norm": norm,
        "index": index,
        "eps": eps,
        "images": first.size,
        "first": float(first.mean()),
        "second": float(second.mean()),
        "difference": float(second.mean() - first.mean()),
        "low": low,
        "high": high,
        "only_first": int(np.sum(first & ~second)),
        "only_second": int(np.sum(second & ~first)),
        "p": statistics.mcnemar(first, second),
    }
