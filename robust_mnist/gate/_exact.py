"""What is counted instead of timed: equal to the last digit, or changed.

Counts need no repeats and no statistics, so they find on a noisy machine what timings cannot.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robust_mnist.gate._verdicts import IMPROVED, REGRESSED


COUNTS = ("flops", "temporary_bytes", "compilations")
OPERATIONS = "operations"
NOTE = "NOTE"
# Another version of the same program may well hold a few instructions more.
_MORE_OPERATIONS = 1.1
_LONGEST = 8


@dataclasses.dataclass(frozen=True)
class Change:
    """A count that differs.

    Attributes:
        benchmark: Its name.
        word: REGRESSED, IMPROVED, or NOTE for what is told and not judged.
        text: Such as `compilations 2 -> 3`.
    """

    benchmark: str
    word: str
    text: str


def exact_changes(
    benchmark: str, a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """Compare the counts of one benchmark.

    Args:
        benchmark: Its name.
        a: Facts of the baseline's launches, at least one.
        b: Facts of the candidate's launches, at least one.
    """
    changes = []
    for fact in (*COUNTS, OPERATIONS):
        sides = {"A": _distinct(a, fact), "B": _distinct(b, fact)}
        varying = [
            f"{fact} differ between launches of {side} and are not gated"
            for side, values in sides.items()
            if len(values) > 1
        ]
        changes += [Change(benchmark, NOTE, text) for text in varying]
        [before, *_], [after, *_] = sides.values()
        if not varying and before != after:
            changes.append(Change(benchmark, *_judge(fact, before, after)))
    return changes


def _distinct(launches: Sequence[Mapping[str, Any]], fact: str) -> list[Any]:
    values = [_checked(fact, facts.get(fact)) for facts in launches]
    return [value for i, value in enumerate(values) if value not in values[:i]]


def _checked(fact: str, value: Any) -> Any:
    """The value, or None where a foreign file holds something else."""
    counts = value.values() if fact == OPERATIONS and isinstance(value, Mapping) else [value]
    numbers = all(isinstance(count, int | float) and count is not True for count in counts)
    return value if numbers and isinstance(value, Mapping) == (fact == OPERATIONS) else None


def _judge(fact: str, before: Any, after: Any) -> tuple[str, str]:
    if before is None or after is None:
        words = [_shown(value) for value in (before, after)]
        return NOTE, f"{fact} {words[0]} -> {words[1]}"
    if fact == OPERATIONS:
        return _judge_operations(before, after)
    return REGRESSED if after > before else IMPROVED, f"{fact} {before:,} -> {after:,}"


def _judge_operations(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, str]:
    totals = sum(before.values()), sum(after.values())
    counts = {code: (before.get(code, 0), after.get(code, 0)) for code in {*before, *after}}
    # The largest change first; the name makes the order of equal ones the same each time.
    moved = sorted(
        (code for code, (old, new) in counts.items() if old != new),
        key=lambda code: (-abs(counts[code][1] - counts[code][0]), code),
    )
    shown = [f"{code} {counts[code][0]} -> {counts[code][1]}" for code in moved[:_LONGEST]]
    if len(moved) > _LONGEST:
        shown.append(f"{len(moved) - _LONGEST} more")
    word = REGRESSED if totals[1] > _MORE_OPERATIONS * totals[0] else NOTE
    return word, f"operations {totals[0]} -> {totals[1]}: {', '.join(shown)}"


def _shown(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{sum(value.values()) if isinstance(value, Mapping) else value:,}"
