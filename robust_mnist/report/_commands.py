"""The commands that make the numbers of a run again."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from robust_mnist.config import EPS, SweepSettings, TrainSettings, flags, restore, typed
from robust_mnist.figures import NORMS, swept
from robust_mnist.records import Records, attack_seed, scheduled
from robust_mnist.report import _open_images


def commands(records: Records, place: str) -> list[tuple[str, str]]:
    """What is made by which command.

    Args:
        records: A run.
        place: The run's folder as the commands should name it.
    """
    found = [("all of it, as it was done", str(records.info["command"]))]
    train = ["train", *flags(restore(TrainSettings, records.info["settings"])), "--out", place]
    found.append(("test accuracy, throughput, training curves", _line(train)))
    for norm in swept(records):
        found += _schedule(records, norm, place)
        found += [
            (f"{method} ({NORMS[norm]})", _line(_sweep(records, norm, method, place)))
            for method in _methods(records, norm)
        ]
    found += [
        (f"{method}, accuracy by step", _line(["sweep", "--run", place, "--methods", method]))
        for method in _step_methods(records)
    ]
    entries = _open_images.entries(records)
    radii = {(str(entry["norm"]), float(entry["eps"])): None for entry in entries}
    found += [
        (
            f"branch and bound at eps {eps:g} ({NORMS[norm]})",
            _line(["close", "--run", place, "--norm", norm, "--eps", typed(eps)]),
        )
        for norm, eps in radii
    ]
    found.append(("this page and its figures", _line(["report", place])))
    return found


def unfinished(about: Mapping[str, Any] | None, place: str) -> str:
    """How far a sweep is that was stopped, and what goes on with it; empty if none was.

    Args:
        about: What `RunFolder.unfinished` tells of it.
        place: The run's folder as the command should name it.
    """
    if not about:
        return ""
    command, plan = _line(["sweep", "--run", place, *about["flags"]]), about["plan"]
    return (
        f"The sweep is unfinished: {about['done']} of {about['of']} cells are there; "
        f"{command} goes on with it; "
        f"to do without it, delete {place}/unfinished/{plan}.npz and {place}/cells/{plan}"
    )


def missing(command: str, place: str) -> str:
    """The command that makes what a figure lacks."""
    return _line([*command.split(), "--run", place])


def _line(words: list[str]) -> str:
    return shlex.join(["robust-mnist", *words])


def _schedule(records: Records, norm: str, place: str) -> list[tuple[str, str]]:
    """What a preset did in a norm, which no command of single methods makes again."""
    stored = records.info.get("sweep")
    if stored is None or not scheduled(records, norm):
        return []  # only the command of the whole page tells which preset it was
    settings = dataclasses.replace(restore(SweepSettings, stored), norm=(norm,))  # type: ignore[arg-type]
    words = ["sweep", "--run", place, *flags(settings)]
    return [(f"worst case and control sample ({NORMS[norm]})", _line(words))]


def _methods(records: Records, norm: str) -> list[str]:
    """The methods that ran on all images: a command of its own would run any other on more."""
    rows = records.rows[records.rows["norm"] == norm]
    images = rows.loc[rows["kind"] == "worst", "images"].max()
    alone = rows["kind"].isin(["attacked", "certified"]) & (rows["images"] == images)
    return sorted(set(rows.loc[alone, "method"]) - {"all"})


def _step_methods(records: Records) -> list[str]:
    rows = records.rows
    return sorted(set(rows[(rows["kind"] == "step") & (rows["norm"] == "")]["method"]))


def _sweep(records: Records, norm: str, method: str, place: str) -> list[str]:
    rows = records.rows
    mine = rows[(rows["norm"] == norm) & (rows["method"] == method) & (rows["kind"] != "step")]
    eps = tuple(sorted({0.0, *(float(value) for value in mine["eps"])}))
    settings = SweepSettings(
        norm=(norm,),  # type: ignore[arg-type]
        eps=() if eps == EPS[norm] else eps,
        methods=(method,),
        attack_seed=attack_seed(records.info),
    )
    return ["sweep", "--run", place, *flags(settings)]
