"""Runs of the same networks on the same images, evaluated in several places, as one run."""

import dataclasses
import datetime as dt
import hashlib
import itertools
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_mnist import files, statistics
from robust_mnist.errors import InputError
from robust_mnist.records._folder import WARNINGS, Records, RunFolder, attack_seed
from robust_mnist.records._ran import ran_at
from robust_mnist.records._rows import KEY


if TYPE_CHECKING:
    import pandas as pd


# What was looked at, or drawn, is of the parts; each is made anew of the whole.
_OF_PARTS = (
    "audit", "unchecked", "looked", "lab_panel", "reported", "figures", "swept", "sweep",
)  # fmt: skip


def merge(runs: Sequence[RunFolder], out: RunFolder, command: str) -> None:
    """Write one run that knows what all of them know.

    Of each image the largest lower and the smallest upper bound count, the latter with its wrong
    image; of each method alone the best on every image. Where two runs tell of the same thing and
    no bound decides, as with the time a cell took, the first run does. What branch and bound has
    left of open images is kept. Work that copies of a run share counts once; of a method that went
    on in several copies no total is kept, but for the largest count of what warns.

    Args:
        runs: At least two, of the same networks and images.
        out: Where nothing stands yet, nor will if this is cut short.
        command: What made it, for `run.json`.

    Raises:
        InputError: They are of other networks or images, or one of them is not finished, is
            damaged or has lost wrong images.
        Contradiction: What one proved another has broken; nothing is written.
    """
    for run in runs:
        run.check_whole()
        _check_notes(run)
        _check_witnesses(run)
        _check_shapes(run)
        if run.unfinished():
            raise InputError(
                f"{run.path} holds an unfinished sweep; robust-mnist report {run.path} says how it "
                "goes on, and it can be merged when it is done"
            )
    first, *others = runs
    for other in others:
        _check_alike(first, other)
    loaded = [run.load(panels=False) for run in runs]
    radii, witnesses = loaded[0].radii, first.arrays("witnesses")
    for run, records in zip(others, loaded[1:], strict=True):
        radii, witnesses = _joined(
            dataclasses.replace(loaded[0], radii=radii), witnesses, records, run.arrays("witnesses")
        )
    tables = [run.rows() for run in runs]
    info = _info([records.info for records in loaded], tables, command)
    info |= {
        # A page knows its run by when that began, and this one is none of its parts.
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        "name": out.path.resolve().name,
        "merged": [_part(records.info) for records in loaded],
    }
    rows = _rows(tables, radii, loaded[0].seeds)
    with files.building(out.path) as place:
        made = RunFolder(place)
        (place / "model").mkdir()
        for seed in loaded[0].seeds:
            shutil.copyfile(first.model(seed), made.model(seed))
        shutil.copyfile(first.path / "history.csv", place / "history.csv")
        # What is left open of an image holds whatever else is known; of several any one will do.
        for left in (run.path / "open" for run in runs):
            if left.is_dir():
                shutil.copytree(left, place / "open", dirs_exist_ok=True)
        if radii:
            made.write_arrays("radii", radii)
            made.write_arrays("witnesses", witnesses)
            info["swept"] = hashlib.sha256((place / "radii.npz").read_bytes()).hexdigest()
        made.write_table("rows.csv", rows)
        made.update(info)


def _check_notes(run: RunFolder) -> None:
    table = lambda of: isinstance(of, dict)
    numbers = lambda of: table(of) and all(type(total) in (int, float) for total in of.values())
    names = lambda of: isinstance(of, list) and all(isinstance(name, str) for name in of)
    info = run.info()
    for name, kinds, fits in (
        ("cells", dict, numbers), ("stages", dict, names),
        ("closed", dict | list, table), ("merged", list, table),
    ):  # fmt: skip
        held = info.get(name, {} if kinds is dict else [])
        if not isinstance(held, kinds) or not all(map(fits, _entries(held))):
            raise InputError(
                f"{run.path / 'run.json'} is damaged in {name}; "
                "put back a copy, or leave this run out"
            )


def _entries(held: Any) -> list[Any]:
    # Of closed radii an early version kept a table.
    return list(held.values() if isinstance(held, dict) else held)


def _check_shapes(run: RunFolder) -> None:
    records = run.load(panels=False)
    seeds, images = len(records.seeds), records.info["data"].get("test")
    shape = (images,) if seeds == 1 else (seeds, images)
    for file in ("radii", "witnesses"):
        for name, array in run.arrays(file).items():
            if (array.shape if file == "radii" else array.shape[:-1]) != shape:
                raise InputError(
                    f"{run.path / file}.npz must be of {images} images of {seeds} networks, got "
                    f"{name} of shape {array.shape}; delete it, and "
                    f"robust-mnist sweep --run {run.path} makes it again"
                )


def _check_witnesses(run: RunFolder) -> None:
    names = run.array_names("witnesses")
    gone = [norm for norm in run.load(panels=False).norms if f"witness/{norm}" not in names]
    if gone:
        raise InputError(
            f"{run.path} has lost its wrong images in {', '.join(gone)}; "
            f"robust-mnist sweep --run {run.path} makes what is missing again"
        )


def _check_alike(first: RunFolder, other: RunFolder) -> None:
    one, two = first.info(), other.info()
    seen = lambda info: [
        info["data"].get(name) for name in ("sha256", "test_sha256", "train", "valid", "test")
    ]
    networks = lambda run: [
        hashlib.sha256(run.model(seed).read_bytes()).hexdigest()
        for seed in run.load(panels=False).seeds
    ]
    for what, same in (
        ("networks", lambda: networks(first) == networks(other)),
        ("images", lambda: seen(one) == seen(two)),
    ):
        if not same():
            raise InputError(
                f"runs merge where they are of the same networks and images: {other.path} and "
                f"{first.path} have other {what}; compare them with robust-mnist report"
            )


def _joined(
    held: Records,
    wrong: Mapping[str, np.ndarray],
    new: Records,
    wrong_too: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Radii and wrong images of both."""
    radii, witnesses = new.radii | held.radii, {**wrong_too, **wrong}
    for name in held.radii.keys() & new.radii.keys():
        if name.startswith("ran/"):  # on an image at a radius, in one of them or in both
            radii[name] = held.radii[name] | new.radii[name]
        elif name.count("/") == 2:  # of one method; NaN where it did not run
            best = np.fmin if name.startswith("upper/") else np.fmax
            radii[name] = best(held.radii[name], new.radii[name])
    for norm in {*held.norms} & {*new.norms}:
        parts, images = [], []
        name = f"witness/{norm}"
        stacked = len(held.seeds) > 1
        both = zip(held.radii_of(norm), new.radii_of(norm), strict=True)
        for at, (mine, theirs) in enumerate(both):
            one = mine.merge(theirs)
            ours = (one.upper == mine.upper) & (one.method == mine.method)
            ours &= one.reached == mine.reached
            parts.append(one.arrays())
            pair = [found[name][at] if stacked else found[name] for found in (wrong, wrong_too)]
            images.append(np.where(ours[:, None], *pair))
        stack = lambda arrays, stacked=stacked: np.stack(arrays) if stacked else arrays[0]
        radii |= {key: stack([part[key] for part in parts]) for key in parts[0]}
        witnesses[name] = stack(images)
    return radii, witnesses


def _rows(
    tables: Sequence["pd.DataFrame"], radii: Mapping[str, np.ndarray], seeds: Sequence[int]
) -> "pd.DataFrame":
    """The rows of all, each counted anew where it counts radii."""
    import pandas as pd

    rows = pd.concat(tables, ignore_index=True)
    key = rows[list(KEY)].astype({"eps": float, "step": float}).astype(str)
    rows = rows[~key.duplicated()].sort_values(list(KEY), kind="stable").reset_index(drop=True)
    for at, row in rows.iterrows():
        end = {"worst": "upper", "attacked": "upper", "certified": "lower"}.get(row.kind)
        if end is None:
            continue
        name = f"{end}/{row.norm}" if row.method == "all" else f"{end}/{row.norm}/{row.method}"
        if name not in radii:
            continue
        sizes = np.atleast_2d(radii[name])[seeds.index(row.seed)]
        ran = ran_at(radii, row.norm, row.method, row.eps) if row.kind == "attacked" else None
        if ran is None and row.kind == "attacked":
            continue  # a run of an earlier version does not tell which images an attack ran on
        counts = ~np.isnan(sizes) if ran is None else np.atleast_2d(ran)[seeds.index(row.seed)]
        sizes = sizes[counts]
        right = sizes > row.eps if end == "upper" else sizes >= row.eps
        rows.loc[at, ["images", "correct"]] = len(right), int(np.sum(right))
    rows["accuracy"] = rows.correct / rows.images
    rows["low"], rows["high"] = statistics.wilson(rows.correct.to_numpy(), rows.images.to_numpy())
    return rows


def _info(
    infos: Sequence[Mapping[str, Any]], tables: Sequence["pd.DataFrame"], command: str
) -> dict[str, Any]:
    """`run.json` of all: that of the first, with the work and the commands of the others.

    Attacks draw as those of the first run that tells how it was attacked.
    """
    first = infos[0]
    info = {name: value for name, value in first.items() if name not in _OF_PARTS}
    stages: dict[str, list[str]] = {}
    for one in infos:
        for seed, done in one.get("stages", {}).items():
            stages[seed] = list(dict.fromkeys([*stages.get(seed, []), *done]))
    closed = _different([entry for one in infos for entry in _entries(one.get("closed", []))])
    commands = dict.fromkeys([*(str(one.get("command", "")) for one in infos), command])
    info |= {"command": " && ".join(filter(None, commands))}
    # The first may be trained only, or keep it in its sweep.
    draws = [attack_seed(one) for one in infos if "attack_seed" in one or one.get("sweep")]
    info |= {"attack_seed": draws[0]} if draws else {}
    # What was merged into another one is in its totals.
    own = [at for at, one in enumerate(infos) if not any(_holds(other, one) for other in infos)]
    cells = _cells([infos[at].get("cells", {}) for at in own], [_work(tables[at]) for at in own])
    found = {"cells": cells, "stages": stages, "closed": closed}
    return info | {name: value for name, value in found.items() if value}


def _part(info: Mapping[str, Any]) -> dict[str, Any]:
    return {name: info[name] for name in ("name", "created", "swept", "merged") if name in info}


def _holds(info: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    """Whether a run was merged of others that the other one, as it is now, was among."""
    return any(one == _part(part) or _holds(one, part) for one in info.get("merged", []))


def _cells(
    parts: Sequence[Mapping[str, Mapping[str, float]]], works: Sequence[Mapping[str, set[Any]]]
) -> dict[str, dict[str, float]]:
    """The totals of each method; where copies of one run went on with it, what warns alone."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        # Equal totals, seconds and all, are those of copies.
        of = {frozenset(p[name].items()): at for at, p in enumerate(parts) if name in p}.values()
        totals = [parts[at][name] for at in of]
        # A part of the work would count twice, and nothing tells how much.
        shared = any(
            works[one][name] & works[two][name] if name in works[one].keys() & works[two].keys()
            else _may_share(parts[one][name], parts[two][name])
            for one, two in itertools.combinations(of, 2)
        )  # fmt: skip
        add = max if shared else sum
        found[name] = {
            key: add(each.get(key, 0.0) for each in totals)
            for key in dict.fromkeys(key for each in totals for key in each)
            # What one of them did not count is no total.
            if key in WARNINGS or (not shared and all(key in each for each in totals))
        }
    return found


def _may_share(one: Mapping[str, float], two: Mapping[str, float]) -> bool:
    """Whether two totals, of work that has no rows of its own, may hold some of the same work.

    What one single command added is in the other one as a whole, or not at all.
    """
    less, more = sorted((one, two), key=lambda totals: totals.get("cells", np.inf))
    if less.get("cells") != 1:
        return True
    return more.get("cells") != 1 and all(more.get(key, 0.0) >= less[key] for key in less)


def _work(rows: "pd.DataFrame") -> dict[str, set[Any]]:
    """The cells of each method, with their seconds: no two computations have the very same ones."""
    swept = rows[rows.kind.isin(["attacked", "certified", "step"]) & rows.seconds.notna()]
    text = swept[[*KEY, "seconds"]].astype(str).fillna("")
    names = swept.norm.replace("", "step") + "/" + swept.method
    return {
        name: set(part.itertuples(index=False, name=None)) for name, part in text.groupby(names)
    }


def _different(entries: Sequence[Any]) -> list[Any]:
    return [entry for at, entry in enumerate(entries) if entry not in entries[:at]]
