"""Rates of every check, what became of every variant, and the page."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.audit_rates import MEASURED, RISE, SWEEP, USUAL


Trials = Sequence[Mapping[str, Any]]
READING = (
    "A check accuses a network where it says look or fail. The usual limit is the one that others "
    "name; ours is that of the code; both see the same numbers, but for G8, which draws 10,000 "
    "times for the usual limit on sound networks, G13, whose number is another, and G22, where the "
    "usual limit is for every attack. One image of 200 is 0.5 %. Fakes noticed are variants that "
    "no limit was chosen on; one whose sweep ends in a contradiction reaches no check and is in no "
    "count of one. An alarm on a sound network need not be false of its run: G4, G7, G9, G10 and "
    "G15 name images that an attack of this short sweep has missed."
)
CAUGHT = (
    "Caught: by a check that is due to, as severely as is due, and that passes the network inside. "
    f"Harmless: not caught, and no curve lies more than {RISE:.0%} of the images above that of the "
    "network inside, so that nothing misleads."
)
RISES = "Rises: how far a curve, of one attack or of all, lies above that of the network inside."


@dataclasses.dataclass(frozen=True)
class Count:
    """Of so many networks, how many a check accuses.

    Attributes:
        networks: On which the check ran.
        look: Accused by look or fail.
        fail: Accused by fail.
    """

    networks: int
    look: int
    fail: int

    @classmethod
    def of(cls, verdicts: Sequence[str]) -> "Count":
        return cls(len(verdicts), len(verdicts) - verdicts.count("ok"), verdicts.count("fail"))

    def __str__(self) -> str:
        return f"{self.look} of {self.networks}" + (f", {self.fail} fail" if self.look else "")


def rates(trials: Trials, thresholds: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each check: its limit and the usual one, and how often each accuses.

    `alarms` are those of sound networks, `noticed` of all variants, `rising` of those among them
    under which a curve seems more robust; `usual_` the same by the usual limit.
    """
    sound = [trial for trial in trials if trial["fake"] is None]
    fakes = [trial for trial in trials if trial["fake"] is not None]
    groups = {"alarms": sound, "noticed": fakes, "rising": [f for f in fakes if f["rises"]]}
    rows = []
    for check in MEASURED:
        usual = USUAL.get(check)
        row = {"check": check, "ours": thresholds.get(check)}
        row |= {"usual": usual.words if usual else None, "source": usual.source if usual else None}
        for name, group in groups.items():
            ran = [trial for trial in group if check in trial["checks"]]
            ours = [trial["checks"][check][0] for trial in ran]
            row[name] = dataclasses.asdict(Count.of(ours))
            if usual is not None and usual.look is not None:
                theirs = [usual.said(_number(trial, check)) for trial in ran]
                row[f"usual_{name}"] = dataclasses.asdict(Count.of(theirs))
        rows.append(row)
    return rows


def _number(trial: Mapping[str, Any], check: str) -> float:
    return trial["usual"].get(check, trial["checks"][check][1])


def sentence(row: Mapping[str, Any]) -> str:
    """The usual limit and the measured rates, as a check's docstring has them."""
    alarms, noticed = (Count(**row[name]) for name in ("alarms", "noticed"))
    by = ""
    if "usual_alarms" in row:
        by = (
            f", by the usual limit {row['usual_alarms']['look']} and {row['usual_noticed']['look']}"
        )
    return (
        f"The usual limit: {row['usual']} ({row['source']}). Measured: false alarms on "
        f"{alarms.look} of {alarms.networks} sound networks, {noticed.look} of {noticed.networks} "
        f"variants of fakes noticed{by}; reports/data/audit-rates.md."
    )


def caught(trials: Trials) -> list[dict[str, Any]]:
    """A row for each fake: how many of its variants a check that is due caught, and who else."""
    rows = []
    for name in dict.fromkeys(trial["fake"] for trial in trials if trial["fake"] is not None):
        mine = [trial for trial in trials if trial["fake"] == name]
        by: dict[str, int] = {}
        for trial in mine:
            for check in trial["caught_by"]:
                by[check] = by.get(check, 0) + 1
        rows.append(
            {
                "fake": name,
                "variants": len(mine),
                "caught": sum(trial["caught"] for trial in mine),
                "harmless": sum(not trial["caught"] and not trial["rises"] for trial in mine),
                "by": dict(sorted(by.items(), key=lambda item: -item[1])),
            }
        )
    return rows


def page(about: Mapping[str, Any]) -> str:
    """The page, from what the JSON file holds."""
    trials = about["trials"]
    sound = [trial for trial in trials if trial["fake"] is None]
    what = (
        f"`{about['command']}`: {len(sound)} sound networks, {len(trials) - len(sound)} fakes, "
        f"{about['images']} test images each, attacked by {', '.join(SWEEP.methods)}."
    )
    lines = ["# What the trust checks are worth", "", what, "", READING]
    for title, words, rows in (
        ("Checks", "", _checks(about["rates"])),
        ("Fakes", CAUGHT, _fakes(about["fakes"])),
        ("Sound networks", "", _networks(sound)),
        ("Variants", RISES, _variants(trials)),
    ):
        lines += ["", f"## {title}", "", *([words, ""] if words else []), *_table(rows)]
    return "\n".join([*lines, ""])


def _table(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield f"|{'---|' * len(row)}"


def _checks(rows: Trials) -> Iterator[tuple[str, ...]]:
    yield (
        "check", "usual limit", "ours", "false alarms", "by the usual limit", "fakes noticed",
        "by the usual limit", "of those that seem more robust", "by the usual limit",
    )  # fmt: skip
    for row in rows:
        told = lambda name, row=row: str(Count(**row[name])) if name in row else ""
        if row["ours"] is None:
            yield (row["check"], *["not run here"] * 2, *[""] * 6)
            continue
        usual = f"{row['usual']} ({row['source']})" if row["usual"] else "the same"
        counts = [
            f"{way}{name}" for name in ("alarms", "noticed", "rising") for way in ("", "usual_")
        ]
        yield (row["check"], usual, row["ours"], *map(told, counts))


def _fakes(rows: Trials) -> Iterator[tuple[str, ...]]:
    yield "fake", "variants caught", "harmless", "by"
    for row in rows:
        by = ", ".join(f"{name} {count}" for name, count in row["by"].items())
        yield row["fake"], f"{row['caught']} of {row['variants']}", str(row["harmless"]), by


def _networks(sound: Trials) -> Iterator[tuple[str, ...]]:
    yield "network", "test accuracy", "accused by"
    for trial in sound:
        yield trial["network"], f"{trial['accuracy']:.2%}", _accusers(trial)


def _accusers(trial: Mapping[str, Any]) -> str:
    named = [
        f"{check} ({verdict})" for check, (verdict, _) in trial["checks"].items() if verdict != "ok"
    ]
    return ", ".join(named) or "nobody"


def _variants(trials: Trials) -> Iterator[tuple[str, ...]]:
    yield "fake", "what it is", "network inside", "rises", "caught", "noticed by"
    for trial in trials:
        if trial["fake"] is None:
            continue
        state = "yes" if trial["caught"] else "MISSED" if trial["rises"] else "harmless"
        rise = "-" if trial["rise"] is None else f"{100 * trial['rise']:.0f} points"
        by = ", ".join(trial["caught_by"])
        yield trial["fake"], trial["about"], trial["network"], rise, state, by
