"""What is counted instead of timed: equal to the last digit, or changed.

Counts need no repeats and no statistics, so they find on a noisy machine what timings cannot.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robust_mnist.gate._verdicts import IMPROVED, INCONCLUSIVE, REGRESSED


COUNTS = ("flops", "temporary_bytes", "compilations")
OPERATIONS, ITEMS = "operations", "items"
NOTE = "NOTE"
_LONGEST = 8


@dataclasses.dataclass(frozen=True)
class Change:
    """A count that differs.

    Attributes:
        benchmark: Its name.
        word: REGRESSED, IMPROVED, INCONCLUSIVE where the work is another, or NOTE for what is told
            and not judged.
        text: Such as `compilations 2 -> 3`.
    """

    benchmark: str
    word: str
    text: str


def exact_changes(
    benchmark: str, a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """Compare the counts of one benchmark.

    More is REGRESSED, and so is a count that is no longer made. Counts that vary between launches
    of a side are told only, unless every one of B's is above all of A's.

    Args:
        benchmark: Its name.
        a: Facts of the baseline's launches, at least one.
        b: Facts of the candidate's launches, at least one.
    """
    changes = []
    if not same_work(a, b):
        [before], [after] = _distinct(a, ITEMS), _distinct(b, ITEMS)
        text = f"{ITEMS} {before:,} -> {after:,}: the work is another, its time is not compared"
        changes.append(Change(benchmark, INCONCLUSIVE, text))
    for fact in (*COUNTS, OPERATIONS):
        sides = {"A": _distinct(a, fact), "B": _distinct(b, fact)}
        varying = [
            f"{fact} differ between launches of {side} and are not gated"
            for side, values in sides.items()
            if len(values) > 1
        ]
        [before, *_], [after, *_] = sides.values()
        if varying and (least := _above(*sides.values())):
            changes.append(
                Change(
                    benchmark, REGRESSED, f"{fact} at most {least[0]:,} -> at least {least[1]:,}"
                )
            )
        elif varying:
            changes += [Change(benchmark, NOTE, text) for text in varying]
        elif before != after:
            changes.append(Change(benchmark, *_judge(fact, before, after)))
    return changes


def same_work(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a call does as much on both sides, as far as that is known."""
    before, after = _distinct(a, ITEMS), _distinct(b, ITEMS)
    known = len(before) == len(after) == 1 and None not in (*before, *after)
    return before == after or not known


def _above(before: Sequence[Any], after: Sequence[Any]) -> tuple[float, float] | None:
    """The most of A and the least of B, where that is more."""
    if None in (*before, *after):
        return None
    most, least = max(map(_total, before)), min(map(_total, after))
    return (most, least) if least > most else None


def _total(value: Any) -> float:
    return sum(value.values()) if isinstance(value, Mapping) else value


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
        # What is counted no longer would never be found again.
        return NOTE if before is None else REGRESSED, f"{fact} {words[0]} -> {words[1]}"
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
    word = REGRESSED if totals[1] > totals[0] else NOTE
    return word, f"operations {totals[0]} -> {totals[1]}: {', '.join(shown)}"


def _shown(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{_total(value):,}"
