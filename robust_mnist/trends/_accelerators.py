"""One tidy table of every benchmark on every device, and what it comes to."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robust_mnist import statistics
from robust_mnist.records import Timings
from robust_mnist.trends._agreement import Agreement, agreement
from robust_mnist.trends._environments import Environment, group
from robust_mnist.trends._inference import batch_of, bound
from robust_mnist.trends._ratio import Ratio, ratio


# Names of benchmarks before the bracket, by topic; the rest is work of the host.
TOPICS: dict[str, tuple[str, ...]] = {
    "training": ("training", "fit"),
    "inference": ("inference",),
    "attacks": ("ball_attack", "minimal_attack", "step_attack", "break", "radii"),
    "certifiers": ("certifier",),
}
OTHER = "other"
# Copied from the file, where they are numbers.
_FACTS = (
    "items", "items_per_s", "flops", "bytes", "peak_share", "own_peak_share", "compile_s",
    "first_call_s", "peak_bytes", "image_evaluations", "eps", "robust_accuracy", "near_zero",
)  # fmt: skip
_NAMED = 6  # gaps that a note lists


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Several environments side by side.

    Attributes:
        environments: The baseline first.
        table: One row per benchmark and environment that ran it. `speedup` is against the
            baseline, with the ends of its interval and in `interval` what that comes from;
            `compile_s` is the sum of all stages; `numbers` tells whether the results agree with
            those of the baseline, where that can be told.
        headline: One row per device other than the baseline and topic.
        agreements: One per device other than the baseline.
        notes: Sentences on what is missing or not alike.
    """

    environments: list[Environment]
    table: pd.DataFrame
    headline: pd.DataFrame
    agreements: list[Agreement]
    notes: list[str]


def topic(benchmark: str) -> str:
    """The topic of a benchmark."""
    stem = benchmark.partition("[")[0]
    return next((name for name, stems in TOPICS.items() if stem in stems), OTHER)


def compare(files: Iterable[Timings]) -> Comparison:
    """Compare environments; the first CPU is the baseline, or the first of all if there is none.

    Args:
        files: Result files, at least one; several of one key are several launches of it.
    """
    environments = group(files)
    base = next((one for one in environments if one.platform == "cpu"), environments[0])
    environments = [base, *(one for one in environments if one is not base)]
    names = _benchmarks(environments)
    agreements = [agreement(base, other, names) for other in environments[1:]]
    numbers = {found.device: _numbers(found) for found in agreements}
    rows = [
        _row(name, one, base) | {"numbers": numbers.get(one.label, {}).get(name, "")}
        for name in names
        for one in environments
        if one.timings(name)
    ]
    table = _with_agreements(pd.DataFrame(rows), agreements)
    return Comparison(
        environments=environments,
        table=table,
        headline=pd.DataFrame(
            [
                _topic_row(name, other, base, numbers[other.label])
                for other in environments[1:]
                for name in TOPICS
            ]
        ),
        agreements=agreements,
        notes=_notes(environments, names, table),
    )


def _benchmarks(environments: Sequence[Environment]) -> list[str]:
    """By topic, and within one in the order of the files."""
    found = dict.fromkeys(
        name for one in environments for launch in one.launches for name in launch.benchmarks
    )
    order = [*TOPICS, OTHER]
    # A batch of 64 comes before one of 1024 however the names are sorted.
    return sorted(found, key=lambda name: (order.index(topic(name)), batch_of(name) or 0))


def _row(name: str, one: Environment, base: Environment) -> dict[str, Any]:
    timings = one.timings(name)
    seconds = float(np.exp(np.mean([math.log(timing.median_s) for timing in timings])))
    facts: dict[str, Any] = {fact: one.fact(name, fact) for fact in _FACTS}
    stages = [one.fact(name, stage) for stage in ("trace_s", "lower_s", "compile_s")]
    facts["compile_s"] = float(np.sum(stages))  # NaN where a stage is missing
    return {
        "benchmark": name,
        "topic": topic(name),
        "key": one.key,
        "device": one.label,
        "platform": one.platform,
        "baseline": one is base,
        "launches": len(timings),
        "rounds": sum(len(timing.rounds_s) for timing in timings),
        "seconds": seconds,
        **_speedup([name], one, base),
        **facts,
        **_robust(facts["robust_accuracy"], facts["items"]),
        **_bound(name, one, seconds),
    }


def _speedup(names: Sequence[str], one: Environment, base: Environment) -> dict[str, Any]:
    found = None if one is base else _ratio(names, one, base)
    return {
        "speedup": found.value if found else math.nan,
        "speedup_low": found.low if found else math.nan,
        "speedup_high": found.high if found else math.nan,
        "interval": found.kind if found else "",
    }


def _ratio(names: Sequence[str], one: Environment, base: Environment) -> Ratio | None:
    """From the launches that ran all of these; None where a side has no such launch."""
    sides = [
        [
            [launch.benchmarks[name] for name in names]
            for launch in side.launches
            if all(name in launch.benchmarks for name in names)
        ]
        for side in (base, one)
    ]
    return ratio(*sides) if names and all(sides) else None


def _topic_row(
    name: str, one: Environment, base: Environment, numbers: dict[str, str]
) -> dict[str, Any]:
    """The geometric mean over the benchmarks of a topic that both environments ran."""
    shared = [
        benchmark
        for benchmark in _benchmarks([one, base])
        if topic(benchmark) == name and one.timings(benchmark) and base.timings(benchmark)
    ]
    disagree = any(numbers.get(benchmark) == "disagree" for benchmark in shared)
    return {
        "device": one.label,
        "topic": name,
        "benchmarks": len(shared),
        **_speedup(shared, one, base),
        "numbers": "disagree" if disagree else "",
    }


def _robust(accuracy: float, images: float) -> dict[str, float]:
    """The Wilson interval of a robust accuracy."""
    if not (0 <= accuracy <= 1 and images >= 1):
        return {"robust_low": math.nan, "robust_high": math.nan}
    low, high = statistics.wilson(round(accuracy * images), round(images))
    return {"robust_low": float(low), "robust_high": float(high)}


def _bound(name: str, one: Environment, seconds: float) -> dict[str, Any]:
    if batch_of(name) is None:
        return {"bound": "", "bound_share": math.nan}
    moved = one.fact(name, "bytes")
    if math.isnan(moved):  # arguments and results: what cannot stay in a cache
        moved = one.fact(name, "argument_bytes") + one.fact(name, "output_bytes")
    found = bound(
        seconds=seconds,
        dispatch=one.peak("dispatch_s"),
        moving=moved / one.peak("triad"),
        computing=one.fact(name, "flops") / one.peak("matmul_float32"),
    )
    return {"bound": found.name, "bound_share": found.share}


def _numbers(found: Agreement) -> dict[str, str]:
    """Whether a benchmark's results agree: `break` itself, and the attack alone under its name."""
    verdicts = {name: "agree" if found.allowed(name) else "disagree" for name in found.logits}
    for flips in found.flips:
        verdict = "agree" if flips.allowed else "disagree"
        verdicts[flips.benchmark] = verdict
        verdicts[f"ball_{flips.benchmark.replace('break', 'attack', 1)}"] = verdict
    return verdicts


def _with_agreements(table: pd.DataFrame, agreements: Sequence[Agreement]) -> pd.DataFrame:
    found = {(a.device, name): value for a in agreements for name, value in a.logits.items()}
    flips = {(a.device, f.benchmark): float(f.differ) for a in agreements for f in a.flips}
    pairs = list(zip(table["device"], table["benchmark"], strict=True))
    return table.assign(
        logit_difference=[found.get(pair, math.nan) for pair in pairs],
        flags_differ=[flips.get(pair, math.nan) for pair in pairs],
    )


def _notes(
    environments: Sequence[Environment], names: Sequence[str], table: pd.DataFrame
) -> list[str]:
    notes = []
    if len(environments) < 2:
        notes.append("One environment only: there is nothing to compare it with.")
    if not any(one.platform in {"gpu", "cuda", "rocm"} for one in environments):
        notes.append("GPU: not measured.")
    commits = {commit for one in environments for commit in one.commits}
    if len(commits) > 1:
        told = "; ".join(f"{one.label} at {', '.join(one.commits)}" for one in environments)
        notes.append(f"The code was not the same, which may be what differs: {told}.")
    if "rounds" in set(table["interval"]):
        notes.append(
            "Intervals marked * are from rounds within one launch only, so too narrow: measure "
            "three launches per device."
        )
    for one in environments:
        missing = [name for name in names if not one.timings(name)]
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            notes.append(f"Not measured on {one.label}: {', '.join(missing[:_NAMED])}{more}.")
    return notes
