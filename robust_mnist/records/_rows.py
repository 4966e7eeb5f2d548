"""Tidy results: one accuracy a row, with its count, its interval and where it came from."""

import dataclasses
import functools
import importlib.metadata
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robust_mnist import statistics


if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Row:
    """An accuracy and everything needed to read it alone.

    Attributes:
        dataset: Name of the data set.
        split: Part whose images are counted: train, valid or test.
        model: Architecture, such as `mlp-784-50-50-10-tanh`.
        objective: What training minimised.
        seed: Training seed.
        norm: Norm of the perturbation; empty where there is none.
        eps: Radius in units of pixel intensity; None where the method has no ball.
        step: Length of the one step, for kind `step`; its unit is the method's own.
        method: Attack or certifier.
        kind: clean, step (accuracy at exactly that step), attacked (share whose closest wrong image
            by this method is farther than eps), worst (the same over all methods), certified,
            training (clean accuracy of a part, measured when training ended), smoothed (certified
            accuracy of the smoothed classifier, another one than the network).
        images: Number of images.
        correct: How many of them count as right.
        seconds: Time of the work behind the row, compilation apart.
        accelerator: Kind of device.
    """

    dataset: str
    split: str
    model: str
    objective: str
    seed: int
    norm: str
    eps: float | None
    step: float | None
    method: str
    kind: Literal["clean", "step", "attacked", "worst", "certified", "training", "smoothed"]
    images: int
    correct: int
    seconds: float | None
    accelerator: str


COLUMNS = (
    "dataset", "split", "model", "objective", "seed", "norm", "eps", "step", "method", "kind",
    "images", "correct", "accuracy", "low", "high", "seconds", "accelerator", "jax", "commit",
)  # fmt: skip
HISTORY = (
    "epoch", "seed", "train_cross_entropy", "valid_cross_entropy", "valid_mse", "valid_accuracy",
)  # fmt: skip
KEY = ("seed", "norm", "method", "kind", "split", "eps", "step")


def table(rows: Iterable[Row]) -> "pd.DataFrame":
    """Rows as a table with the columns `COLUMNS`; `low` and `high` are the 95 % Wilson interval."""
    import pandas as pd

    frame = pd.DataFrame([dataclasses.asdict(row) for row in rows])
    if frame.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    frame["accuracy"] = frame.correct / frame.images
    frame["low"], frame["high"] = statistics.wilson(
        frame.correct.to_numpy(), frame.images.to_numpy()
    )
    frame["jax"] = importlib.metadata.version("jax")
    frame["commit"] = commit()
    return frame[list(COLUMNS)].astype({"eps": float, "step": float, "seconds": float})


@functools.cache
def commit() -> str:
    """Short hash of the checkout this runs from, `+` if it has changes; else `version 0.1.0`."""
    here = Path(__file__).resolve().parent
    describe = [
        "git",
        "-C",
        str(here),
        "describe",
        "--always",
        "--dirty=+",
        "--abbrev=12",
        "--exclude=*",
    ]
    tracked = ["git", "-C", str(here), "ls-files", "--error-unmatch", __file__]
    try:
        # An installed copy may lie inside somebody else's repository; that hash would be a lie.
        subprocess.run(tracked, check=True, capture_output=True, timeout=10)
        out = subprocess.run(describe, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return f"version {importlib.metadata.version('robust-mnist')}"
    return out.stdout.strip()
