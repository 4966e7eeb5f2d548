"""What the trust checks said, in a line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


# Marks beside the words, so that no verdict is told by its color alone.
MARKS = {"ok": "✓", "look": "!", "fail": "✗"}


def trust_line(
    findings: Sequence[Mapping[str, Any]], unchecked: Sequence[Mapping[str, Any]] = ()
) -> str:
    """How many checks came to which verdict: `Trust: 21 of 23 checks ok, 2 failed, 3 not run`.

    Args:
        findings: The checks' answers, as in `run.json`.
        unchecked: The checks that had nothing to look at, as there.
    """
    return f"Trust: {summary(findings, unchecked)}"


def summary(
    findings: Sequence[Mapping[str, Any]], unchecked: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The same without the word; a dash where no check has run."""
    if not findings:
        return "-"
    counts = Counter(verdict_of(finding) for finding in findings)
    parts = [f"{counts['ok']} of {len(findings)} checks ok"]
    for verdict, said in (("look", "to look at"), ("fail", "failed")):
        names = [str(one["check"]) for one in findings if verdict_of(one) == verdict]
        parts += [f"{len(names)} {said} ({', '.join(names)})"] if names else []
    parts += [f"{len(unchecked)} not run"] if unchecked else []
    return ", ".join(parts)


def unchecked_line(unchecked: Sequence[Mapping[str, Any]]) -> str:
    """What checks would need to run: `Not run: G14, G24 (several seeds)`; empty if all ran.

    Args:
        unchecked: The checks that had nothing to look at, as in `run.json`.
    """
    by: dict[str, list[str]] = {}
    for one in unchecked:
        by.setdefault(str(one["needs"]), []).append(str(one["check"]))
    needs = "; ".join(f"{', '.join(names)} (needs {need})" for need, names in by.items())
    return f"Not run: {needs}" if needs else ""


def verdict_of(finding: Mapping[str, Any]) -> str:
    """The verdict of a check; one that is none of the three is no reason for trust."""
    return finding["verdict"] if finding["verdict"] in MARKS else "fail"


def worst_first(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same answers, those that need a person before the others."""
    return sorted(findings, key=lambda finding: -list(MARKS).index(verdict_of(finding)))
