"""What the trust checks said, in a line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


# Marks beside the words, so that no verdict is told by its color alone.
MARKS = {"ok": "✓", "look": "!", "fail": "✗"}


def trust_line(findings: Sequence[Mapping[str, Any]]) -> str:
    """How many checks came to which verdict: `Trust: 23 of 25 checks ok, 1 to look at, 1 failed`.

    Args:
        findings: The checks' answers, as in `run.json`.
    """
    counts = Counter(verdict_of(finding) for finding in findings)
    parts = [f"{counts['ok']} of {len(findings)} checks ok"]
    parts += [f"{counts['look']} to look at"] if counts["look"] else []
    parts += [f"{counts['fail']} failed"] if counts["fail"] else []
    return f"Trust: {', '.join(parts)}"


def verdict_of(finding: Mapping[str, Any]) -> str:
    """The verdict of a check; one that is none of the three is no reason for trust."""
    return finding["verdict"] if finding["verdict"] in MARKS else "fail"


def worst_first(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same answers, those that need a person before the others."""
    return sorted(findings, key=lambda finding: -list(MARKS).index(verdict_of(finding)))
