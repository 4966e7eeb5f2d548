"""Where an accelerator begins to win, and what holds inference back."""

import dataclasses
import math
import re
from collections.abc import Mapping

import pandas as pd


_BATCH = re.compile(r"inference\[(\d{1,9})\]")


@dataclasses.dataclass(frozen=True)
class Crossover:
    """The batch size from which a device is faster than the baseline.

    Attributes:
        batch: Interpolated between two measured sizes; NaN where nothing is to interpolate.
        text: The same in words.
    """

    batch: float
    text: str


@dataclasses.dataclass(frozen=True)
class Bound:
    """What inference at one batch size cannot be faster than.

    Attributes:
        name: The largest of the three least times: `dispatch-bound`, `memory-bound` or
            `compute-bound`; empty if nothing was measured.
        share: That least time over the measured one; what is missing to 1 is explained by none.
    """

    name: str
    share: float


def batch_of(benchmark: str) -> int | None:
    """The batch size in a name such as `inference[64]`; None in any other name."""
    found = _BATCH.fullmatch(benchmark)
    return int(found[1]) if found else None


def crossover(times: Mapping[int, tuple[float, float]]) -> Crossover:
    """Where the second time falls below the first and stays there, up to the largest batch.

    The interpolation is linear in the logarithms of batch and of speed-up, between the last batch
    that loses and the one after it.

    Args:
        times: Seconds of the baseline and of the device, by batch size.
    """
    if not times:
        return Crossover(math.nan, "not measured")
    batches = sorted(times)
    gain = [math.log(times[batch][0] / times[batch][1]) for batch in batches]
    losing = [i for i, value in enumerate(gain) if value <= 0]
    if not losing:
        return Crossover(math.nan, f"from {batches[0]}")
    last = losing[-1]
    if last == len(batches) - 1:
        wins = [str(batches[i]) for i, value in enumerate(gain) if value > 0]
        text = f"at {', '.join(wins)}, but not at" if wins else "never up to"
        return Crossover(math.nan, f"{text} {batches[-1]}")
    left, right = math.log(batches[last]), math.log(batches[last + 1])
    share = -gain[last] / (gain[last + 1] - gain[last])
    batch = math.exp(left + share * (right - left))
    return Crossover(batch, f"from about {batch:.2g}" if batch < 100 else f"from about {batch:.0f}")


def crossover_of(table: pd.DataFrame, device: str) -> Crossover:
    """The crossover of a device in the table of all benchmarks, over what both sides measured."""
    batches = table["benchmark"].map(batch_of)
    found = table[batches.notna()].assign(batch=batches.dropna().astype(int))
    base = found[found["baseline"]].set_index("batch")["seconds"]
    mine = found[found["device"] == device].set_index("batch")["seconds"]
    shared = base.index.intersection(mine.index)
    return crossover({int(b): (float(base[b]), float(mine[b])) for b in shared})


def bound(*, seconds: float, dispatch: float, moving: float, computing: float) -> Bound:
    """Which of three least times is the largest.

    Args:
        seconds: The measured time.
        dispatch: Seconds of an empty call; NaN if not measured, as for the others.
        moving: Seconds to move the arguments and results once at the measured bandwidth.
        computing: Seconds of the matrix products at the measured peak.
    """
    least = {"dispatch-bound": dispatch, "memory-bound": moving, "compute-bound": computing}
    known = {name: value for name, value in least.items() if value > 0}
    if not known:
        return Bound("", math.nan)
    name = max(known, key=known.__getitem__)
    return Bound(name, known[name] / seconds)
