"""What result files of the benchmarks say across devices and along time. JAX takes no part."""

import math
from pathlib import Path
from typing import Any

from robust_mnist import config, records, report, trends
from robust_mnist.commands._result import Result, columns


def accelerators(command: config.Accelerators) -> Result:
    """Compare devices.

    Raises:
        InputError: A path is no result file.
        NotComparable: A folder holds none, or a file is of another schema.
    """
    found = trends.compare(
        [timings for path in command.files for timings in records.read_timings(path)]
    )
    written = report.write_accelerators(found, Path(command.out))
    report.append_summary(found)
    return Result(
        f"{report.accelerators_text(found)}\npage: {written[0]}",
        {
            "environments": [
                {"key": one.key, "device": one.label, "launches": len(one.launches)}
                for one in found.environments
            ],
            "headline": _plain(found.headline.to_dict("records")),
            "agreement": {one.device: one.verdict for one in found.agreements},
            "crossover": {
                one.label: trends.crossover_of(found.table, one.label).text
                for one in found.environments[1:]
            },
            "benchmarks": _plain(found.table.to_dict("records")),
            "notes": found.notes,
            "files": [str(path) for path in written],
        },
    )


def history(command: config.History) -> Result:
    """Show every benchmark over the launches of one environment.

    Raises:
        InputError: The folder or the key does not exist.
        NotComparable: The folder holds no result, or several keys and none was chosen.
    """
    files = trends.one_key(records.read_timings(command.folder), command.key)
    found = trends.history(files)
    written = report.write_history(found, Path(command.out))
    launches = found.launches
    rows = [("benchmark", "launches", "first", "last", "change", "change points")]
    for name, mine in launches.groupby("benchmark", sort=False):
        points = found.changes[found.changes["benchmark"] == name].to_dict("records")
        told = [f"{p['change']:+.1%} {p['before']} -> {p['after']}" for p in points]
        first, last = mine["seconds"].iloc[0], mine["seconds"].iloc[-1]
        few = "too few launches" if len(mine) < trends.ENOUGH else "none"
        rows.append(
            (str(name), str(len(mine)), report.duration(first), report.duration(last),
             f"{last / first - 1:+.1%}" if len(mine) > 1 else "", "; ".join(told) or few)
        )  # fmt: skip
    lines = [f"{found.environment.label} ({found.environment.key})", columns(rows)]
    if launches.groupby("benchmark").size().max() < trends.ENOUGH:
        lines.append(f"Change points need {trends.ENOUGH} launches of a benchmark.")
    return Result(
        "\n".join([*lines, f"table: {written[0]}"]),
        {
            "key": found.environment.key,
            "launches": _plain(launches.to_dict("records")),
            "changes": _plain(found.changes.to_dict("records")),
            "files": [str(path) for path in written],
        },
    )


def _plain(rows: list[dict[Any, Any]]) -> list[dict[str, Any]]:
    """Rows as JSON values; what was not measured is null."""
    return [
        {
            str(name): None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]
