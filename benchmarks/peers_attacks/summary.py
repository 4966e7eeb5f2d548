"""One row an attack of a side, which images one side breaks and another does not, and the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import process
from benchmarks.peers_attacks import (
    LAB,
    OURS,
    RADII,
    REL_STEP_SIZE,
    SIDES,
    STEPS,
    TIMED,
    norm_of,
)


KEY = ("network", "side", "attack")
GRID, SCHEDULED = TIMED, f"scheduled-{TIMED}"
COLUMNS = ("seconds", "compile_s", "ratio_grid", "ratio_scheduled")
FACTS = ("images", "forward", "backward", "infeasible", "excess")
NAMED = 12  # images named on the page; the JSON file has all

Sizes = Mapping[tuple[str, str, str], np.ndarray]

WORK = (
    f"The race is {TIMED}: {STEPS} steps of {REL_STEP_SIZE:g} eps from one random start at each of "
    f"{len(RADII['linf'])} radii, on every image; the other attacks run on the first images alone."
)
READING = (
    "Every answer of every side is moved into box and ball exactly, in float64, and evaluated "
    "again on the same network; only then does it count. A wrong image breaks every radius from "
    "its size on. `infeasible` are answers that lay outside by more than 1e-6 before. "
    "`evaluations` are images evaluated forward + backward for each image attacked, all radii "
    "together. Seconds are medians, lowest to highest in brackets, without compilation, which "
    "stands beside them. "
    "`x grid` and `x scheduled` are seconds over those of robust_mnist in the same repetition, "
    "with its schedule off and on."
)


def summarise(
    runs: Sequence[Mapping[str, Any]], failures: Mapping[str, str], sides: Sequence[str]
) -> pd.DataFrame:
    """A row for each network, side and attack, in the order of `SIDES`.

    Medians with `_low` and `_high`; ratios are those of one repetition, then the median. A side
    without any result has a row with its `failure`.
    """
    each = pd.DataFrame(
        runs, columns=[*KEY, "repetition", "seconds", "compile_s", *FACTS, "accuracy"]
    )
    for name, attack in (("ratio_grid", GRID), ("ratio_scheduled", SCHEDULED)):
        ours = each[(each.side == OURS) & (each.attack == attack) & (each.network == LAB)]
        of = each["repetition"].map(ours.set_index("repetition")["seconds"])
        raced = (each.network == LAB) & each.attack.str.endswith(TIMED)
        each[name] = (each["seconds"] / of).where(raced)
    rows = []
    for key, group in each.groupby(list(KEY), sort=False):
        row = dict(zip(KEY, key, strict=True)) | {"runs": len(group), "failure": ""}
        for column in COLUMNS:
            known = group[column].dropna()  # pandas 2 warns of a median of nothing but NaN
            row[column] = known.median()
            row[f"{column}_low"], row[f"{column}_high"] = known.min(), known.max()
        rows.append(row | {name: group[name].iloc[0] for name in (*FACTS, "accuracy")})
    told = {(row["side"], row["attack"]) for row in rows}
    for who, why in failures.items():
        side, _, attack = who.partition(" ")
        if (side, attack) not in told:
            rows.append({"network": LAB, "side": side, "attack": attack, "failure": why, "runs": 0})
    frame = pd.DataFrame(rows, columns=_columns())
    order = {side: place for place, side in enumerate(sides)}
    return frame.sort_values("side", key=lambda names: names.map(order), kind="stable")


def _columns() -> list[str]:
    spread = [f"{name}{end}" for name in COLUMNS for end in ("", "_low", "_high")]
    return [*KEY, "runs", "failure", *spread, *FACTS, "accuracy"]


def race(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the race, and those of the sides that did not start, each with a `label`."""
    raced = (frame.network == LAB) & frame.attack.str.endswith(TIMED)
    timed = [name in SIDES[side].timed for side, name in zip(frame.side, frame.attack, strict=True)]
    absent = (frame.runs == 0) & (frame.attack == "")
    rows = frame[(raced & pd.Series(timed, index=frame.index, dtype=bool)) | absent].copy()
    rows["label"] = [
        f"{SIDES[row.side].label}{_kind(row.attack)}" for row in rows.itertuples(index=False)
    ]
    middle = len(RADII["linf"]) // 2
    rows["standing"] = [
        values[middle] if isinstance(values, list) else np.nan for values in rows["accuracy"]
    ]
    rows["eps"] = RADII["linf"][middle]
    return rows


def _kind(attack: str) -> str:
    kind = attack.removesuffix(TIMED).rstrip("-")
    return f", {kind}" if kind else ""


def union(sizes: Sequence[np.ndarray], images: int) -> np.ndarray:
    """The closest wrong images of several attacks; NaN where none of them ran."""
    merged = np.full(images, np.nan)
    for size in sizes:
        merged[: len(size)] = np.fmin(merged[: len(size)], size)
    return merged


def flags(runs: Sequence[Mapping[str, Any]], sizes: Sizes) -> list[dict[str, Any]]:
    """For each network, norm, side and radius: who breaks what the other does not.

    Counted over the images on which that side ran anything in that norm. Places of images are
    written as one text, blanks between them.
    """
    rows: list[dict[str, Any]] = []
    for network, norm in dict.fromkeys((run["network"], norm_of(run["attack"])) for run in runs):
        mine = {
            (side, attack): size for (where, side, attack), size in sizes.items()
            if where == network and norm_of(attack) == norm
        }  # fmt: skip
        images = max(map(len, mine.values()))
        by = lambda side, mine=mine, images=images: union(
            [size for (who, _), size in mine.items() if who == side], images
        )
        ours = by(OURS)
        for side in dict.fromkeys(who for who, _ in mine if who != OURS):
            theirs = by(side)
            both = ~np.isnan(ours) & ~np.isnan(theirs)
            for eps in RADII[norm]:
                missed = np.flatnonzero(both & (theirs <= eps) & (ours > eps))
                rows.append(
                    {
                        "network": network, "norm": norm, "side": side, "eps": eps,
                        "images": int(both.sum()),
                        "standing": float(np.mean(theirs[both] > eps)) if both.any() else None,
                        "ours_standing": float(np.mean(ours[both] > eps)) if both.any() else None,
                        "theirs_alone": _places(missed),
                        "ours_alone": _places(
                            np.flatnonzero(both & (ours <= eps) & (theirs > eps))
                        ),
                        "why": [_why(place, side, mine, ours) for place in missed],
                    }
                )  # fmt: skip
    return rows


def _places(found: np.ndarray) -> str:
    return " ".join(map(str, found.tolist()))


def _why(place: int, side: str, sizes: Mapping, ours: np.ndarray) -> dict[str, Any]:
    """By which attack, and how far from it the closest image of ours is."""
    ran = {a: size[place] for (who, a), size in sizes.items() if who == side and place < len(size)}
    best = min(ran, key=ran.__getitem__)
    own = float(ours[place])
    return {
        "image": int(place),
        "attack": best,
        "size": float(ran[best]),
        "ours": own if np.isfinite(own) else None,
    }


def conditions(about: Mapping[str, Any]) -> str:
    """What was attacked, and where: the line under a heading."""
    where = about["environment"] or {"device_kind": "unknown device", "threads": "unknown"}
    return (
        f"the lab's MLP 784-50-50-10, {about['images']:,} test images · "
        f"{where['device_kind']}, {where['threads']} threads"
    )


def loads(about: Mapping[str, Any]) -> str:
    """How busy the machine was: far above the threads of a side, the times are not to be used."""
    if about["load_highest"] is None:
        return "load unknown"
    return (
        f"load average {about['load_before']:.2f} before the first process and up to "
        f"{about['load_highest']:.2f} after one, its own threads among it"
    )


def page(frame: pd.DataFrame, about: Mapping[str, Any]) -> str:
    lines = ["# A second opinion on attacks", "", f"{conditions(about)}; {loads(about)}.", WORK]
    if about["interrupted"]:
        lines += ["", "Interrupted: what follows is not all that was asked for."]
    lines += ["", READING, "", "## The race", "", *_race(race(frame)), "", *_verdicts(frame), ""]
    for network, rows in frame[frame.runs > 0].groupby("network", sort=False):
        for norm in RADII:
            within = rows[rows.attack.map(norm_of) == norm]
            if len(within):
                lines += [f"## Standing in {norm}, {network}", "", *_standing(within, norm), ""]
                told = [f for f in about["flags"] if (f["network"], f["norm"]) == (network, norm)]
                lines += [*_flags(told, norm), ""]
    lines += [
        "",
        "## Sides",
        "",
        *_sides(frame, about),
        "",
        process.again(about["command"], networks=len({*frame.network}) > 1),
        "",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]]


def _race(rows: pd.DataFrame) -> list[str]:
    head = (
        "side", "attack", "seconds", "compile (s)", "x grid", "x scheduled", "evaluations", "runs",
    )  # fmt: skip
    cells = []
    for row in rows.to_dict("records"):
        if not row["runs"]:
            cells.append((row["side"], f"not run: {row['failure']}", "", "", "", "", "", "0"))
            continue
        cells.append(
            (
                row["side"], row["attack"], spread(row, "seconds", "{:.2f}"),
                spread(row, "compile_s", "{:.2f}"), spread(row, "ratio_grid", "{:.2f}"),
                spread(row, "ratio_scheduled", "{:.2f}"), _evaluations(row), str(row["runs"]),
            )
        )  # fmt: skip
    return _table(head, cells)


def _verdicts(frame: pd.DataFrame) -> Iterator[str]:
    """Whether ours leave no more standing than each of the others, radius by radius."""
    rows = race(frame)
    rows = rows[rows.runs > 0]
    ours, theirs = rows[rows.side == OURS], rows[rows.side != OURS]
    for own in ours.itertuples(index=False):
        for other in theirs.itertuples(index=False):
            pairs = zip(RADII["linf"], own.accuracy, other.accuracy, strict=True)
            above = [f"{eps:g} (+{mine - their:.2%})" for eps, mine, their in pairs if mine > their]
            found = f"more standing at {', '.join(above)}" if above else "no more at any radius"
            yield f"- {own.attack} against {other.side}: {found}."


def _standing(rows: pd.DataFrame, norm: str) -> list[str]:
    head = (
        "side", "attack", "images", *(f"{eps:g}" for eps in RADII[norm]), "seconds", "evaluations",
        "infeasible",
    )  # fmt: skip
    return _table(
        head,
        [
            (
                row["side"], row["attack"], f"{row['images']:.0f}",
                *(f"{100 * value:.2f}" for value in row["accuracy"]),
                f"{row['seconds']:.2f}", _evaluations(row), f"{row['infeasible']:.0f}",
            )
            for row in rows.to_dict("records")
        ],
    )  # fmt: skip


def _flags(found: Sequence[Mapping[str, Any]], norm: str) -> Iterator[str]:
    """Of each side: images that it alone breaks / that ours alone break."""
    if not found:
        return
    yield "Images that a side breaks and ours do not / that ours break and the side does not:"
    yield ""
    rows = []
    for side in dict.fromkeys(flag["side"] for flag in found):
        mine = [flag for flag in found if flag["side"] == side]
        count = lambda flag, end: len(flag[f"{end}_alone"].split())
        cells = (f"{count(flag, 'theirs')} / {count(flag, 'ours')}" for flag in mine)
        rows.append((side, str(mine[0]["images"]), *cells))
    yield from _table(("side", "images", *(f"{eps:g}" for eps in RADII[norm])), rows)
    why = [(flag, one) for flag in found for one in flag["why"]]
    if why:
        yield ""
    for flag, one in why[:NAMED]:
        closest = "none" if one["ours"] is None else f"{one['ours']:.6f}"
        yield (
            f"- image {one['image']} at {flag['eps']:g}: {flag['side']} {one['attack']} at "
            f"{one['size']:.6f}, our closest {closest}"
        )
    if len(why) > NAMED:
        yield f"- and {len(why) - NAMED} more, in the JSON file"


def _sides(frame: pd.DataFrame, about: Mapping[str, Any]) -> Iterator[str]:
    facts = {run["side"]: run for run in about["runs"]}
    for side in dict.fromkeys(frame.side):
        told = [SIDES[side].remark]
        if side in facts:
            versions = facts[side]["versions"]
            told.append(", ".join(f"{name} {version}" for name, version in versions.items()))
            told.append(f"{facts[side]['threads']} threads")
        failed = frame[(frame.side == side) & (frame.failure != "")]
        told += [
            f"{row.attack or 'all'} not run: {row.failure}"
            for row in failed.itertuples(index=False)
        ]
        yield f"- **{side}**: {'; '.join(told)}."


def _evaluations(row: Mapping[str, Any]) -> str:
    return f"{row['forward']:.0f} + {row['backward']:.0f}"


def spread(values: Mapping[str, Any], column: str, form: str) -> str:
    if pd.isna(values[column]):
        return ""
    middle = form.format(values[column])
    low, high = form.format(values[f"{column}_low"]), form.format(values[f"{column}_high"])
    return middle if low == high else f"{middle} ({low} - {high})"
