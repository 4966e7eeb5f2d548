"""The page of one run."""

from typing import Any

from robust_mnist import figures, statistics
from robust_mnist.records import ABOUT_CERTIFICATES, Records
from robust_mnist.report import (
    _attacks,
    _certificates,
    _closed,
    _commands,
    _facts,
    _owner,
    _page,
    _readings,
    _trust,
)


def page(records: Records, drawings: dict[str, str | None], place: str) -> str:
    """The page as HTML.

    Args:
        records: The run.
        drawings: SVG of every entry of `FIGURES`; None where there was nothing to draw.
        place: The run's folder as commands should name it.
    """
    plates = {
        name: _plate(name, chart, records, drawings[name], place)
        for name, chart in figures.FIGURES.items()
    }
    tables = _tables(records)
    audit = _trust.worst_first(records.info.get("audit", []))
    unchecked = records.info.get("unchecked", [])
    return _page.render(
        "run.html",
        title=records.name,
        runs_identity=_owner.identity([records]),
        records=records,
        created=str(records.info.get("created", "")).replace("T", " ").replace("+00:00", " UTC"),
        data=records.info["data"],
        model=records.info["model_name"],
        tiles=tiles(records),
        first=plates.pop("robust_accuracy"),
        second=plates.pop("sandwich"),
        plates=list(plates.values()),
        tables=tables,
        sample=_by_norm(tables, "images", "{:,} test images"),
        band=_by_norm(tables, "band", "±{} points"),
        warnings=_attacks.warnings(records),
        attacks=_attacks.summaries(records),
        certificates=_certificates.summaries(records),
        about_certificates=ABOUT_CERTIFICATES,
        closed=_closed.closed(records),
        audit=audit,
        trust=_trust.trust_line(audit, unchecked),
        unchecked=_trust.unchecked_line(unchecked),
        verdict_of=_trust.verdict_of,
        marks=_trust.MARKS,
        facts=_facts.facts(records),
        timings=_facts.timings(records),
        commands=_commands.commands(records, place),
        unfinished=_commands.unfinished(records.info.get("unfinished"), place),
        sweep_command=_commands.missing("sweep", place),
        audit_command=_commands.missing("audit", place) if records.norms else "",
    )


def _plate(
    name: str, chart: figures.Chart, records: Records, drawing: str | None, place: str
) -> _page.Plate:
    return _page.Plate(
        name=name,
        title=chart.title,
        reading=chart.reading_of(records),
        limits=chart.limits,
        svg=drawing,
        missing=chart.needs,
        command=_commands.missing(chart.command, place),
    )


def tiles(records: Records) -> list[dict[str, str]]:
    """The headline numbers: a name, a value and what belongs beside it."""
    found = []
    if clean := _readings.clean(records):
        found.append(_tile("Test accuracy", clean))
    if training := records.info.get("training"):
        networks = f", {training['networks']} networks" if training["networks"] > 1 else ""
        found.append(
            {
                "name": "Training images/s",
                "value": f"{training['images_per_second']:,.0f}",
                "note": f"on {_facts.device(records)}{networks}; {training['seconds']:.1f} s, "
                f"and {training['compile_seconds']:.1f} s of compilation apart",
            }
        )
    exact = _certificates.exact(records)
    for table in _readings.tables(records):
        found += _table_tiles(table, exact[table.norm])
    return found


def _table_tiles(table: _readings.AccuracyTable, exact: list[float]) -> list[dict[str, str]]:
    chosen = table.at(_readings.headline_eps(table))
    norm, found = figures.NORMS[table.norm], []
    for eps, row in zip(chosen.eps, chosen.cells, strict=True):
        worst = row[chosen.methods.index(_readings.MERGED["worst"])]
        proved = row[-1] if chosen.methods[-1].startswith(_readings.MERGED["certified"]) else None
        if worst:
            extra = f"; certified {proved.value}" if proved else ""
            extra = "; exact: no image is open" if eps in exact else extra
            found.append(_tile(f"Robust, {norm} eps {eps:g}", worst, extra))
    return found


def _tile(name: str, reading: _readings.Reading, extra: str = "") -> dict[str, str]:
    of = f"{reading.networks} networks" if reading.networks > 1 else f"{reading.images:,} images"
    kind = "range over" if reading.networks > 1 else "95 % interval,"
    return {
        "name": name,
        "value": reading.value,
        "note": f"{reading.interval} ({kind} {of}){extra}",
    }


def _tables(records: Records) -> list[dict[str, Any]]:
    exact = _certificates.exact(records)
    return [
        {
            "norm": figures.NORMS[table.norm],
            "methods": table.methods,
            "rows": list(zip(table.eps, table.cells, strict=True)),
            "exact": exact[table.norm],
            "images": table.images(),
            "networks": len(records.seeds),
            "band": f"{100 * statistics.band_half_width(table.images()):.2f}",
        }
        for table in _readings.tables(records)
    ]


def _by_norm(tables: list[dict[str, Any]], name: str, text: str) -> str:
    """What holds in all norms alike, or in which norm what does."""
    found = {table["norm"]: text.format(table[name]) for table in tables}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return " and ".join(f"{told} in {norm}" for norm, told in found.items())
