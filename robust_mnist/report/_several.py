"""The page of several runs on the same test images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_mnist import figures
from robust_mnist.errors import InputError
from robust_mnist.records import Records
from robust_mnist.report import _facts, _owner, _page, _readings, _trust


def check(runs: Sequence[Records]) -> None:
    """Refuse to compare runs that saw other test images.

    Raises:
        InputError: They did; the message names the first such run.
    """
    first = runs[0]
    for other in runs[1:]:
        key = _hash(first, other)
        if _seen(other, key) != _seen(first, key) or not _same_labels(first, other):
            raise InputError(
                f"runs compare on the same test images only: {other.name} saw {_told(other, key)}, "
                f"{first.name} saw {_told(first, key)}; give each its own report"
            )


def _hash(*runs: Records) -> str:
    """The hash that all runs have: of the test images, or in earlier versions of all data."""
    return "test_sha256" if all("test_sha256" in r.info["data"] for r in runs) else "sha256"


def _seen(records: Records, key: str) -> tuple[str, int]:
    data = records.info["data"]
    return str(data[key]), int(data["test"])


def _told(records: Records, key: str) -> str:
    sha256, images = _seen(records, key)
    return f"{images:,} of {records.info['data']['name']} (sha256 {sha256[:12]})"


def _same_labels(first: Records, second: Records) -> bool:
    name = "flow/labels"
    if name not in first.panels or name not in second.panels:
        return True
    return np.array_equal(first.panels[name], second.panels[name])


def page(runs: Sequence[Records], drawings: dict[str, str | None]) -> str:
    """The page as HTML.

    Args:
        runs: At least two runs; the first is the baseline.
        drawings: SVG of every entry of `OVERLAYS`; None where there was nothing to draw.
    """
    names = figures.names(runs)
    return _page.render(
        "comparison.html",
        title=" and ".join(names),
        names=names,
        runs_identity=_owner.identity(runs),
        data=runs[0].info["data"],
        runs=[_summary(name, records) for name, records in zip(names, runs, strict=True)],
        plates=[
            _page.Plate(name, o.title, o.reading, o.limits, drawings[name], o.needs)
            for name, o in figures.OVERLAYS.items()
        ],
        absent=absent(runs),
        tables=_tables(runs, names),
        differing=_differing(runs),
    )


def _summary(name: str, records: Records) -> dict[str, Any]:
    training = records.info.get("training")
    return {
        "name": name,
        "model": records.info["model_name"],
        "networks": len(records.seeds),
        "clean": _readings.clean(records),
        "norms": ", ".join(figures.NORMS[norm] for norm in figures.swept(records)) or "none",
        "rate": f"{training['images_per_second']:,.0f} images/s" if training else "-",
        "device": _facts.device(records),
        "trust": _trust.summary(records.info.get("audit", []), records.info.get("unchecked", [])),
    }


def absent(runs: Sequence[Records]) -> list[str]:
    """A sentence for every norm that some of the runs, but not all, were attacked in."""
    names, sentences = figures.names(runs), []
    for norm, called in figures.NORMS.items():
        lacking = [n for n, r in zip(names, runs, strict=True) if norm not in figures.swept(r)]
        if 0 < len(lacking) < len(runs):
            verb = "was" if len(lacking) == 1 else "were"
            who = ", ".join(lacking)
            sentences.append(f"{who} {verb} not attacked in {called}, so {called} is left out.")
    return sentences


def _tables(runs: Sequence[Records], names: list[str]) -> list[dict[str, Any]]:
    found = figures.differences(runs)
    if found.empty:
        return []
    return [
        {
            "norm": figures.NORMS[norm],
            "first": names[0],
            "second": names[index],
            "rows": found[(found["norm"] == norm) & (found["index"] == index)].to_dict("records"),
        }
        for norm in figures.shared_norms(runs)
        for index in range(1, len(runs))
    ]


def _differing(runs: Sequence[Records]) -> list[tuple[str, list[str]]]:
    """Facts that are not the same in all runs, one value per run."""
    per_run = [
        {(part.title, name): value for part in _facts.facts(records) for name, value in part.rows}
        for records in runs
    ]
    keys = dict.fromkeys(key for one in per_run for key in one)
    rows = [
        (f"{part}: {name}", [one.get((part, name), "-") for one in per_run]) for part, name in keys
    ]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
