"""Whose page a file is: nothing else is replaced unasked."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from robust_mnist.config import TrainSettings, flags, restore
from robust_mnist.records import Records, RunFolder


# The mark stands at the top of a page.
_HEAD = 2000


def identity(runs: Sequence[Records | RunFolder]) -> str:
    """What a page is marked with: a hash that tells these runs, in this order, from any others.

    It survives another folder, further results and publication: a run is known by when it began,
    how it was trained and the content of its data.
    """
    known = []
    for run in runs:
        info = run.info() if isinstance(run, RunFolder) else run.info
        # Data may lie in another place by now, and only their content counts.
        settings = dataclasses.replace(restore(TrainSettings, info["settings"]), data=("mnist",))
        known.append([info.get("created"), flags(settings), info["data"]["sha256"]])
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def is_page_of(path: Path, runs: Sequence[RunFolder]) -> bool:
    """Whether a file is the page of these runs, the first of them first."""
    with path.open("rb") as stream:
        return f'<meta name="runs" content="{identity(runs)}">'.encode() in stream.read(_HEAD)
