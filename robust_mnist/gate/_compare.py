"""From the launches of two sides to one verdict."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from robust_mnist.errors import NotComparable
from robust_mnist.gate._exact import Change, exact_changes, same_work
from robust_mnist.gate._verdicts import (
    IMPROVED,
    INCONCLUSIVE,
    REGRESSED,
    UNCHANGED,
    Verdict,
    judge,
)
from robust_mnist.records import Timings


OVERALL = "geometric mean"
Pair = tuple[Timings, Timings]
# What the environment key is made of, besides the versions.
_FIELDS = (
    "platform", "device_kind", "device_count", "threads", "plugin", "xla_flags",
    "matmul_precision", "x64",
)  # fmt: skip
_LIBRARIES = ("jax", "jaxlib")


@dataclasses.dataclass(frozen=True)
class Row:
    """A benchmark that both sides have.

    Attributes:
        name: Of the benchmark.
        a_s: Median over A's launches of their median, in seconds.
        b_s: The same of B.
        verdict: On the time.
    """

    name: str
    a_s: float
    b_s: float
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All that was found out.

    Attributes:
        rows: Benchmarks that both sides have, in A's order.
        overall: Verdict on the geometric mean over benchmarks; None if no benchmark is in every
            pair.
        changes: Counts that differ.
        vanished: Benchmarks that B lacks without a word, which counts as a regression.
        retired: Benchmarks that B gave up, with the reason.
        new: Benchmarks that A lacks.
    """

    rows: tuple[Row, ...]
    overall: Verdict | None
    changes: tuple[Change, ...]
    vanished: tuple[str, ...]
    retired: Mapping[str, str]
    new: tuple[str, ...]

    @property
    def word(self) -> str:
        """The worst of all verdicts; IMPROVED only where nothing else is worth a word."""
        verdicts = [row.verdict for row in self.rows] + [self.overall] * (self.overall is not None)
        words = {verdict.word for verdict in verdicts if verdict is not None}
        words |= {change.word for change in self.changes}
        if self.vanished or REGRESSED in words:
            return REGRESSED
        return next((word for word in (INCONCLUSIVE, IMPROVED) if word in words), UNCHANGED)

    def exit_code(self, *, strict: bool) -> int:
        """0, or 3 for a regression, and with `strict` for an open question too."""
        return 3 if self.word == REGRESSED or (strict and self.word == INCONCLUSIVE) else 0


def pair_up(a: Sequence[Timings], b: Sequence[Timings]) -> tuple[list[Pair], list[str]]:
    """Pair launches in order of time, full ones with full ones and quick ones with quick ones.

    A copy of a launch is no launch of its own.

    Returns:
        The pairs, and what a reader has to know of them.

    Raises:
        NotComparable: There is no pair: one side is full, the other quick.
    """
    a, b, pairs = _distinct(a), _distinct(b), list[Pair]()
    for quick in (False, True):
        sides = [
            [t for t in side if bool(t.machine.get("quick", False)) == quick] for side in (a, b)
        ]
        pairs += zip(*sides, strict=False)
    if not pairs:
        raise NotComparable(
            "one side holds quick runs and the other full ones; measure both with --quick, or both "
            "without it"
        )
    alone = len(a) + len(b) - 2 * len(pairs)
    notes = [f"{alone} of the launches left out, without a partner"] if alone else []
    ends = [
        (min(t.created for t in side), max(t.created for t in side))
        for side in zip(*pairs, strict=True)
    ]
    if len(pairs) > 1 and (ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]):
        notes.append(
            "one side was measured after the other and not in turns, so a machine that changed in "
            "between looks like code that did"
        )
    return pairs, notes


def _distinct(side: Sequence[Timings]) -> list[Timings]:
    return list({timings.launch: timings for timings in side}.values())


def same_environment(launches: Sequence[Timings]) -> str:
    """The environment key that all launches share.

    Raises:
        NotComparable: They were measured in several environments.
    """
    keys = {timings.key: timings for timings in reversed(launches)}
    if len(keys) == 1:
        return next(iter(keys))
    tables = [_facts(timings.machine) for timings in reversed(keys.values())]  # A before B
    differing = [
        f"{name} {' and '.join(dict.fromkeys(str(table[name]) or 'none' for table in tables))}"
        for name in tables[0]
        if any(table[name] != tables[0][name] for table in tables)
    ]
    raise NotComparable(
        f"measured in different environments ({', '.join(sorted(keys))}), which differ in "
        f"{'; '.join(differing) or 'how the key was made'}; measure both on one machine, or see "
        "robust-mnist bench accelerators"
    )


def compare(
    pairs: Sequence[Pair], floors: Mapping[str, float], retired: Mapping[str, str]
) -> Comparison:
    """Judge every benchmark of the pairs.

    Args:
        pairs: Launches of A and B, at least one pair.
        floors: By benchmark, the smallest relative change that counts; `OVERALL` is among them.
        retired: Benchmarks that B may lack.
    """
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    first, second = (
        dict.fromkeys(name for timings in side for name in timings.benchmarks) for side in (a, b)
    )
    both = [name for name in first if name in second]
    # What is counted in another way is no count to compare.
    alike = len({timings.counting for timings in (*a, *b)}) == 1
    series = {
        name: _log_ratios(pairs, name)
        for name in both
        if same_work(_all_facts(a, name), _all_facts(b, name))
    }
    series = {name: values for name, values in series.items() if values}
    everywhere = [values for values in series.values() if len(values) == len(pairs)]
    mean = [statistics.fmean(values) for values in zip(*everywhere, strict=True)]
    lost = [name for name in first if name not in second]
    return Comparison(
        rows=tuple(
            Row(name, _median(a, name), _median(b, name), verdict)
            for name, verdict in judge(series, floors).items()
        ),
        overall=judge({OVERALL: mean}, floors)[OVERALL] if mean else None,
        changes=tuple(
            change
            for name in both
            for change in exact_changes(
                name, *([_counts(facts, alike) for facts in _all_facts(s, name)] for s in (a, b))
            )
        ),
        vanished=tuple(name for name in lost if name not in retired),
        retired={name: retired[name] for name in lost if name in retired},
        new=tuple(name for name in second if name not in first),
    )


def _log_ratios(pairs: Sequence[Pair], name: str) -> list[float]:
    return [
        math.log(b.benchmarks[name].median_s / a.benchmarks[name].median_s)
        for a, b in pairs
        if name in a.benchmarks and name in b.benchmarks
    ]


def _median(launches: Sequence[Timings], name: str) -> float:
    found = [t.benchmarks[name].median_s for t in launches if name in t.benchmarks]
    return statistics.median(found)


def _all_facts(launches: Sequence[Timings], name: str) -> list[Mapping[str, Any]]:
    return [t.benchmarks[name].facts for t in launches if name in t.benchmarks]


def _counts(facts: Mapping[str, Any], alike: bool) -> Mapping[str, Any]:
    return facts if alike else {n: fact for n, fact in facts.items() if n != "compilations"}


def _facts(machine: Mapping[str, Any]) -> dict[str, Any]:
    versions = machine.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    return {name: machine.get(name, "") for name in _FIELDS} | {
        name: versions.get(name, "") for name in _LIBRARIES
    }
