"""Devices side by side: a few lines for a terminal, tables for a summary, a page for everything."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from robust_mnist import trends
from robust_mnist.figures import TIMING_FIGURES
from robust_mnist.report import _grids, _page
from robust_mnist.report._grids import Grid


NAME = "accelerators"


def accelerators_text(found: trends.Comparison) -> str:
    """What a reviewer reads in ten seconds: one block per device, then what is missing."""
    base, lines = found.environments[0], []
    for one in found.environments[1:]:
        lines.append(f"{one.label} against {base.label}")
        for row in found.headline[found.headline["device"] == one.label].to_dict("records"):
            value = "not measured on both" if math.isnan(row["speedup"]) else _mean(row)
            lines.append(f"  {row['topic']:<11} {value}")
        lines.append(f"  {'numbers':<11} {_verdict(found, one.label)}")
        crossing = trends.crossover_of(found.table, one.label)
        lines.append(f"  {'wins':<11} {_wins(crossing)}")
    if len(found.environments) == 1:
        lines += [f"{base.label}", *_alone(found.table)]
    return "\n".join([*lines, *found.notes])


def _alone(table: pd.DataFrame) -> list[str]:
    width = max(map(len, table["benchmark"]))
    return [
        f"  {name:<{width}}  {_grids.duration(value)}"
        for name, value in zip(table["benchmark"], table["seconds"], strict=True)
    ]


def _wins(crossing: trends.Crossover) -> str:
    if crossing.text == "not measured":
        return "inference at no common batch size"
    return f"inference {crossing.text} image{'' if crossing.text == 'from 1' else 's'} in a batch"


def _mean(row: Mapping[Any, Any]) -> str:
    told = _speedup({**row, "numbers": ""})
    if math.isnan(row["speedup"]):
        return told
    doubt = ", numbers disagree" if row["numbers"] == "disagree" else ""
    return f"{told} of {row['benchmarks']}{doubt}"


def _speedup(row: Mapping[Any, Any]) -> str:
    return _grids.times(
        row["speedup"], row["speedup_low"], row["speedup_high"],
        rounds=row["interval"] == "rounds", disagree=row["numbers"] == "disagree",
    )  # fmt: skip


def _verdict(found: trends.Comparison, device: str) -> str:
    one = next(one for one in found.agreements if one.device == device)
    parts = []
    if one.flips:
        differ, images = sum(f.differ for f in one.flips), sum(f.images for f in one.flips)
        near = sum(f.near_zero for f in one.flips)
        share = _grids.percent(differ / images)
        parts.append(f"{differ:,} of {images:,} flags differ, {share} (near zero: {near:,})")
    if one.logits:
        parts.append(f"logits by at most {one.logit_difference:.1e}")
    return f"{one.verdict}: {'; '.join([*parts, one.why])}"


def grids(found: trends.Comparison) -> list[Grid]:
    """All tables, the shortest answer first; one without rows is left out."""
    made = [
        _headline(found),
        _devices(found),
        _rates(found),
        _speedups(found),
        _inference(found),
        _costs(found),
        _robustness(found),
        _agreement(found),
    ]
    return [grid for grid in made if grid.rows]


def markdown(found: trends.Comparison, *, limit: int = _grids.SUMMARY_LIMIT) -> str:
    """The tables as Markdown of at most `limit` bytes."""
    return _grids.markdown(_title(found), found.notes, grids(found), limit=limit)


def page(found: trends.Comparison, drawings: Mapping[str, str | None]) -> str:
    """The page as HTML.

    Args:
        found: What is compared.
        drawings: SVG of every entry of `TIMING_FIGURES`; None where there was nothing to draw.
    """
    return _page.render(
        "accelerators.html",
        title=_title(found),
        launches=sum(len(one.launches) for one in found.environments),
        environments=len(found.environments),
        notes=found.notes,
        grids=grids(found),
        plates=[
            _page.Plate(name, c.title, c.reading, c.limits, drawings[name], c.needs)
            for name, c in TIMING_FIGURES.items()
        ],
    )


def _title(found: trends.Comparison) -> str:
    base, *others = (one.label for one in found.environments)
    return f"{', '.join(others)} against {base}" if others else f"Timings on {base}"


def _headline(found: trends.Comparison) -> Grid:
    rows = []
    for one in found.environments[1:]:
        mine = found.headline[found.headline["device"] == one.label]
        numbers = next(a.verdict for a in found.agreements if a.device == one.label)
        crossing = trends.crossover_of(found.table, one.label).text
        # The column of the numbers stands beside them, so the cells need not repeat it.
        cells = (_mean({**row, "numbers": ""}) for row in mine.to_dict("records"))
        rows.append([one.label, numbers, *cells, crossing])
    return Grid(
        "headline", "Speed-up by topic",
        f"Times as fast as {found.environments[0].label}: geometric mean over the benchmarks of a "
        "topic that both ran, with a 95 % interval and their number.",
        ["device", "numbers", *trends.TOPICS, "inference wins, images in a batch"], rows,
    )  # fmt: skip


def _devices(found: trends.Comparison) -> Grid:
    rows = []
    for one in found.environments:
        versions = one.machine.get("versions")
        jax = versions.get("jax", "-") if isinstance(versions, Mapping) else "-"
        rows.append(
            [
                one.label, one.key, str(len(one.launches)), ", ".join(one.commits), str(jax),
                trends.arithmetic(one),
            ]
        )  # fmt: skip
    return Grid(
        "devices", "Devices",
        "Arithmetic is that of a float32 product at default precision, as measured.",
        ["device", "environment key", "launches", "commit", "jax", "arithmetic"], rows,
    )  # fmt: skip


def _rates(found: trends.Comparison) -> Grid:
    return Grid(
        "rates", "Measured rates",
        "From the same processes as the benchmarks: products of large square matrices, a triad of "
        "long vectors, an empty call.",
        ["device", "float32 products", "bfloat16 products", "memory", "empty call"],
        [
            [
                one.label, _rate(one.peak("matmul_float32"), "FLOP/s"),
                _rate(one.peak("matmul_bfloat16"), "FLOP/s"),
                _rate(one.peak("triad"), "B/s"), _grids.duration(one.peak("dispatch_s")),
            ]
            for one in found.environments
        ],
    )  # fmt: skip


def _rate(value: float, unit: str) -> str:
    if math.isnan(value):
        return "-"
    size, prefix = (1e12, "T") if value >= 1e12 else (1e9, "G")
    return f"{value / size:.3g} {prefix}{unit}"


def _speedups(found: trends.Comparison) -> Grid:
    labels = [one.label for one in found.environments]
    measured: dict[str, dict[str, dict[Any, Any]]] = {}
    for row in found.table.to_dict("records"):
        measured.setdefault(str(row["benchmark"]), {})[row["device"]] = row
    rows = []
    for name, cells in measured.items():
        line = [name]
        for label in labels:
            one = cells.get(label)
            line.append(_grids.duration(one["seconds"]) if one else "-")
            if label != labels[0]:
                line.append(_speedup(one) if one else "-")
        rows.append(line)
    heading = ["benchmark", labels[0]]
    for label in labels[1:]:
        heading += [label, "speed-up"]
    return Grid(
        "benchmarks", "Every benchmark",
        "Time of a call, the geometric mean of the launch medians, and the speed-up with its 95 % "
        "interval.",
        heading, rows,
    )  # fmt: skip


def _inference(found: trends.Comparison) -> Grid:
    rows = found.table[found.table["benchmark"].map(trends.batch_of).notna()]
    return Grid(
        "bounds", "What bounds inference",
        "The largest of three least times on that device: an empty call, moving arguments and "
        "results once, the products at the measured peak. The share tells how much of the time "
        "that explains.",
        ["batch", "device", "time", "images per second", "bound", "share of the time"],
        [
            [
                str(trends.batch_of(row["benchmark"])), row["device"],
                _grids.duration(row["seconds"]), _grids.count(row["items_per_s"]),
                row["bound"] or "peaks not measured", _grids.percent(row["bound_share"]),
            ]
            for row in rows.to_dict("records")
        ],
    )  # fmt: skip


def _costs(found: trends.Comparison) -> Grid:
    names = ["peak_share", "own_peak_share", "compile_s", "peak_bytes"]
    rows = found.table[found.table[names].notna().any(axis=1)]
    return Grid(
        "costs", "Peak, compilation and memory",
        "Shares of the measured rate of a large product and of the benchmark's own products; "
        "tracing, lowering and compiling together; bytes of the compiled program at once.",
        ["benchmark", "device", "share of peak", "of own products", "compilation", "memory"],
        [
            [
                row["benchmark"], row["device"], _grids.percent(row["peak_share"]),
                _grids.percent(row["own_peak_share"]), _grids.duration(row["compile_s"]),
                _grids.size(row["peak_bytes"]),
            ]
            for row in rows.to_dict("records")
        ],
    )  # fmt: skip


def _robustness(found: trends.Comparison) -> Grid:
    rows = found.table[found.table["robust_accuracy"].notna()]
    return Grid(
        "attacks", "Cost of each attack",
        "Robust accuracy of one fixed network with its 95 % Wilson interval, against the time of "
        "the whole attack.",
        ["attack", "eps", "device", "images", "robust accuracy", "time"],
        [
            [
                row["benchmark"], f"{row['eps']:g}", row["device"], _grids.count(row["items"]),
                _accuracy(row),
                _grids.duration(row["seconds"]),
            ]
            for row in rows.to_dict("records")
        ],
    )  # fmt: skip


def _accuracy(row: Mapping[Any, Any]) -> str:
    value, low, high = (100 * row[f"robust_{name}"] for name in ("accuracy", "low", "high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _agreement(found: trends.Comparison) -> Grid:
    rows = []
    for one in found.agreements:
        for name, difference in one.logits.items():
            verdict = "agree" if one.allowed(name) else "disagree"
            known = not math.isnan(one.bounds[name])
            room = f"{one.bounds[name]:.1e}" if known else "not known"
            told = f"logits by at most {difference:.1e} (rounding: {room})"
            rows.append([name, one.device, told, verdict if known else "-", one.why])
        for flips in one.flips:
            verdict = "agree" if flips.allowed else "disagree"
            share = _grids.percent(flips.differ / flips.images)
            told = f"{flips.differ:,} of {flips.images:,} flags, {share}"
            told += f" (near zero: {flips.near_zero:,})"
            rows.append([flips.benchmark, one.device, told, verdict, one.why])
        rows += [[skipped, one.device, "not compared", "-", one.why] for skipped in one.skipped]
    base = found.environments[0].label
    return Grid(
        "agreement", "Do the numbers agree?",
        f"What differs from {base}. Rounding moves a logit by up to fifty errors of a product, as "
        "measured on both devices, of the largest logit. Flags tell which images an attack broke; "
        "where a gradient changes its sign the paths of two devices part, so one flag in 200 may "
        "differ, or as many as have a margin within 1e-4 of a tie, which are counted beside them. "
        "Where more differ, a speed-up is one of other numbers.",
        ["benchmark", "device", "differs", "verdict", "arithmetic"], rows,
    )  # fmt: skip
