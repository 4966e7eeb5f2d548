"""What a run depends on, as tables of names and values."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from robust_mnist import figures
from robust_mnist.records import ON_OPEN_IMAGES, Records, attack_seed
from robust_mnist.report import _readings


@dataclasses.dataclass(frozen=True)
class Facts:
    """A titled table of two columns.

    Attributes:
        title: What the facts are about.
        rows: Names and values.
    """

    title: str
    rows: list[tuple[str, str]]


def facts(records: Records) -> list[Facts]:
    """Settings, data, environment, versions and hashes; a part that the run lacks is left out."""
    info = records.info
    environment = dict(info.get("environment", {}))
    versions = environment.pop("versions", {})
    parts = {
        "Training settings": info.get("settings", {}),
        "Attack settings": _sweep(records),
        "Data": info.get("data", {}),
        "Environment": {"created": info.get("created", ""), **environment},
        "Versions": versions,
        "SHA-256 of the weights": info.get("models", {}),
    }
    return [
        Facts(title, [(name.replace("_", " "), _text(value)) for name, value in part.items()])
        for title, part in parts.items()
        if part
    ]


def _sweep(records: Records) -> dict[str, Any]:
    """What was run, rather than what was asked for: an empty flag stands for the default."""
    found: dict[str, Any] = {}
    for table in _readings.tables(records):
        norm = figures.NORMS[table.norm]
        rows = records.rows[records.rows["norm"] == table.norm]
        found[f"eps in {norm}"] = [f"{eps:g}" for eps in table.eps]
        if methods := sorted(set(rows["method"]) - {"all"}):
            found[f"methods in {norm}"] = methods
    return found | ({"attack seed": attack_seed(records.info)} if found else {})


def timings(records: Records) -> list[list[str]]:
    """Rows of the table of timings.

    Each holds what was done, its seconds, those of compilation, images per second, how many
    decisions fell within 1e-4 of a tie or were not finite, and of an attack the passes forward and
    backward per image of the test set. The attacks of a norm are added up at the end.
    """
    info = records.info
    parts = {"training": info["training"]} if "training" in info else {}
    totals = {f"{norm}/all attacks": work(records, norm) for norm in figures.NORMS}
    return [
        [
            name,
            *(_seconds(part.get(n)) for n in ("seconds", "compile_seconds")),
            *(_count(part.get(n)) for n in ("images_per_second", "close", "nonfinite")),
            *(_per_image(part.get(n), info) for n in ("forward", "backward")),
        ]
        for name, part in (parts | info.get("cells", {}) | totals).items()
        if part  # a merge of copies leaves none of what went on in several, or what warns alone
    ]


def work(records: Records, norm: str) -> dict[str, float] | None:
    """What all attacks of a norm took together in sweeps, under the names of `run.json`.

    None where one of them did not count its passes, as the runs of older versions and those of
    networks that are no MLP.
    """
    rows = records.rows
    certifiers = {*rows[rows["kind"] == "certified"]["method"]}
    cells = {name.partition("/"): cell for name, cell in records.info.get("cells", {}).items()}
    attacks = [
        cell for (its, _, by), cell in cells.items()
        if its == norm and by not in certifiers and not by.endswith(ON_OPEN_IMAGES)
    ]  # fmt: skip
    if not attacks or any("forward" not in cell for cell in attacks):
        return None
    names = ("seconds", "compile_seconds", "close", "nonfinite", "forward", "backward")
    return {name: math.fsum(cell[name] for cell in attacks) for name in names}


def passes_per_image(total: float, info: Mapping[str, Any]) -> float:
    """Passes per image of the test set, and per network where there are several."""
    return total / info["data"]["test"] / (len(info.get("models", {})) or 1)


def _per_image(total: float | None, info: Mapping[str, Any]) -> str:
    return "" if total is None else f"{passes_per_image(total, info):,.1f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def device(records: Records) -> str:
    """The device that did the work."""
    environment = records.info.get("environment", {})
    names = [str(environment.get(name, "")) for name in ("platform", "device_kind")]
    return " ".join(names).strip() or "an unknown device"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return "-" if value in (None, "") else str(value)
