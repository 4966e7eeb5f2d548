"""Comparisons and calibrations as rows of words, and as Markdown."""

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_mnist.gate._compare import OVERALL, Comparison
from robust_mnist.gate._verdicts import (
    IMPROVED,
    INCONCLUSIVE,
    MOST_FURTHER,
    REGRESSED,
    Verdict,
)


HEADING = (
    "benchmark", "A", "B", "change", "95 % CI", "floor", "p", "power for 5 %", "verdict",
)  # fmt: skip
# A step's summary above this is dropped as a whole.
_LARGEST_SUMMARY = 2**20
_REASONS = 4
_CUT = "\n(cut: a summary has at most 1 MiB)\n"


def table(comparison: Comparison) -> list[tuple[str, ...]]:
    """The heading, a row per benchmark, and the geometric mean."""
    rows = [
        (row.name, duration(row.a_s), duration(row.b_s), *_words(row.verdict))
        for row in comparison.rows
    ]
    absent = [(name, "VANISHED") for name in comparison.vanished]
    absent += [(name, f"RETIRED: {reason}") for name, reason in comparison.retired.items()]
    absent += [(name, "NEW") for name in comparison.new]
    rows += [(name, *[""] * (len(HEADING) - 2), word) for name, word in absent]
    if comparison.overall is not None:
        rows.append((OVERALL, "", "", *_words(comparison.overall)))
    return [HEADING, *rows]


def conclusion(comparison: Comparison) -> str:
    """The last line: the overall verdict, and what it rests on."""
    verdicts = {row.name: row.verdict for row in comparison.rows}
    if comparison.overall is not None:
        verdicts[OVERALL] = comparison.overall
    reasons = [f"{name} vanished" for name in comparison.vanished]
    reasons += [
        f"{name} {change_words(verdict.ratio)}"
        for name, verdict in verdicts.items()
        if verdict.word == comparison.word and verdict.word in (REGRESSED, IMPROVED)
    ]
    reasons += [
        f"{change.benchmark}: {change.text}"
        for change in comparison.changes
        if change.word == comparison.word
    ]
    if open_ := [v for v in verdicts.values() if v.word == comparison.word == INCONCLUSIVE]:
        reasons.append(_advice(open_))
    if len(reasons) > _REASONS:
        reasons = [*reasons[:_REASONS], f"and {len(reasons) - _REASONS} more"]
    return f"verdict: {comparison.word}" + (f" ({'; '.join(reasons)})" if reasons else "")


def calibration_table(content: Mapping[str, Any], which: str) -> list[tuple[str, ...]]:
    """The heading, a row per benchmark of the list `which`, the mean, and all together."""
    rows: list[tuple[str, ...]] = [
        ("benchmark", "sd of a pair", "noise floor", "false alarms", "95 % CI")
    ]
    for name, entries in content["benchmarks"].items():
        if which in entries:
            rows.append((name, *_noise(entries[which]), *_alarms(entries[which]["false_alarms"])))
    listed = content["lists"][which]
    rows.append((OVERALL, *_noise(listed["overall"]), "", ""))
    rows.append(("any benchmark", "", "", *_alarms(listed["false_alarms"])))
    return rows


def duration(seconds: float) -> str:
    """Seconds in a unit that leaves one to three digits before the point."""
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
    unit, scale = next(((u, s) for u, s in units if seconds >= s), units[-1])
    value = seconds / scale
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def change_words(ratio: float) -> str:
    """`12.3 % slower`: how much more or less time B takes."""
    return f"{100 * abs(ratio - 1):.1f} % {'slower' if ratio >= 1 else 'faster'}"


def markdown(title: str, rows: Sequence[Sequence[str]], lines: Sequence[str]) -> str:
    """A section with a table, for the summary of a workflow's step."""
    heading, *body = [f"| {' | '.join(_cell(word) for word in row)} |" for row in rows]
    rule = "|" + " --- |" * len(rows[0])
    below = [f"{_cell(line)}\n" for line in lines if line]
    return "\n".join([f"### {_cell(title)}\n", heading, rule, *body, "", *below, ""])


def add_to_summary(text: str) -> None:
    """Append Markdown to the summary of the workflow's step, if this runs in one."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    path = Path(name)
    room = _LARGEST_SUMMARY - 1 - (path.stat().st_size if path.exists() else 0)
    content = text.encode()
    if len(content) > room:
        whole = content[: max(room - len(_CUT), 0)].rpartition(b"\n")[0]
        content = whole + _CUT.encode() if room >= len(_CUT) else b""
    with path.open("ab") as stream:
        stream.write(content)


def _words(verdict: Verdict) -> tuple[str, ...]:
    low, high = verdict.low, verdict.high
    return (
        change_words(verdict.ratio),
        "" if low is None or high is None else f"{_signed(low)} to {_signed(high)} %",
        _percent(verdict.floor),
        "" if verdict.power is None else _p(verdict.p),
        "" if verdict.power is None else f"{verdict.power:.0%}".replace("%", " %"),
        verdict.word if verdict.word != INCONCLUSIVE else f"{INCONCLUSIVE}, {_advice([verdict])}",
    )


def _advice(verdicts: Sequence[Verdict]) -> str:
    needed = [verdict.further for verdict in verdicts]
    most = max((further for further in needed if further is not None), default=0)
    words = f"more than {MOST_FURTHER}" if None in needed else f"{most}"
    return f"{words} further {'pair' if words == '1' else 'pairs'} needed"


def _noise(entry: Mapping[str, Any]) -> tuple[str, str]:
    return _percent(entry["sd"]), _percent(entry["noise_floor"])


def _alarms(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return "needs 6 launches", ""
    share = found["count"] / found["comparisons"]
    interval = f"{100 * found['low']:.2f} to {100 * found['high']:.2f} %"
    return f"{100 * share:.2f} % of {found['comparisons']}", interval


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _signed(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def _cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
