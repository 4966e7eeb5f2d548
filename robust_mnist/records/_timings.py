"""Result files of the benchmarks: what pytest-benchmark saved, checked and made small."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_mnist.errors import InputError, NotComparable


TIMINGS_SCHEMA = 1
# How `compilations` are counted; files without a word counted what earlier benchmarks left over.
COUNTING = "empty caches"
# A full run with every round of every benchmark stays below one MiB.
_LARGEST = 32 * 2**20
_LONGEST_S = 1e9  # thirty years
_WAY = "name another, or measure anew with nox -s bench"


@dataclasses.dataclass(frozen=True)
class Timing:
    """One benchmark of one process.

    Attributes:
        name: Such as `training[1-network]`.
        median_s: Median over the rounds of the seconds a call took.
        rounds_s: The seconds of every round, in the order they were measured.
        facts: Everything else: throughput, arithmetic, compilation, memory, results. The names
            stand in `benchmarks/conftest.py`.
    """

    name: str
    median_s: float
    rounds_s: tuple[float, ...]
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Timings:
    """One result file: what one process measured on one device.

    Attributes:
        path: Where it was read.
        key: Environment key; timings are comparable within one key only.
        created: When the process ended, ISO 8601 in UTC.
        commit: Of the measured code; with `+` where files were changed, empty where unknown.
        machine: Device, versions, threads, peaks: what `bench.environment` and the benchmarks'
            `conftest.py` wrote.
        benchmarks: By name, in the order they ran.
    """

    path: Path
    key: str
    created: str
    commit: str
    machine: Mapping[str, Any]
    benchmarks: Mapping[str, Timing]

    @property
    def counting(self) -> str:
        """How compilations were counted; comparable with equal ones only."""
        return str(self.machine.get("counting", ""))

    @property
    def launch(self) -> tuple[object, ...]:
        """What two copies of one file share, and two launches do not."""
        return self.key, self.created, tuple((t.name, t.rounds_s) for t in self.benchmarks.values())

    @property
    def device(self) -> str:
        """The kind of device, in the words of its maker."""
        return str(self.machine.get("device_kind", self.key))


def read_timings(path: str | Path) -> list[Timings]:
    """Read a result file, or every `*.json` at any depth of a folder.

    Returns:
        The files in the order they were measured, never none.

    Raises:
        InputError: There is no such file, or it is not a result of our benchmarks.
        NotComparable: A folder holds no result, or a file is of another schema.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} is neither a result file nor a folder of them; {_WAY}")
    if path.is_file():
        return [_read(path)]
    found = [_read(file) for file in sorted(path.rglob("*.json")) if not _other(file)]
    if not found:
        raise NotComparable(f"{path} holds no result of nox -s bench; {_WAY}")
    return sorted(found, key=lambda timings: timings.created)


def _other(file: Path) -> bool:
    # What else the suite keeps in these folders.
    return file.name == "calibration.json" or file.name.startswith(".")


def _read(path: Path) -> Timings:
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise InputError(
                f"{path} has {size:,} bytes, a result file has at most {_LARGEST:,}; {_WAY}"
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as JSON: {error}; {_WAY}") from error
    try:
        return _timings(content, path)
    except InputError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no result of nox -s bench: {error!r} is amiss; {_WAY}"
        ) from error


def _timings(content: Any, path: Path) -> Timings:
    machine = content["machine_info"]
    schema = machine.get("schema")
    if schema is None:
        raise InputError(f"{path} is no result of nox -s bench: its machine has no schema; {_WAY}")
    if schema != TIMINGS_SCHEMA:
        raise NotComparable(
            f"{path} has schema {schema!r}, this version reads {TIMINGS_SCHEMA}; run both "
            "sides with the same version of the benchmarks"
        )
    timings = [_timing(benchmark, path) for benchmark in content["benchmarks"]]
    if not timings:
        raise InputError(f"{path} must hold at least one benchmark, got none; {_WAY}")
    return Timings(
        path=path,
        key=_text(machine["key"]),
        created=_text(content["datetime"]),
        commit=_commit(content.get("commit_info", {})),
        machine=machine,
        benchmarks={timing.name: timing for timing in timings},
    )


def _timing(benchmark: Mapping[str, Any], path: Path) -> Timing:
    name, stats = _text(benchmark["name"]).removeprefix("bench_"), benchmark["stats"]
    rounds = tuple(float(seconds) for seconds in stats["data"])
    median = float(stats["median"])
    if not (rounds and all(0 < s < _LONGEST_S for s in (median, *rounds))):
        raise InputError(
            f"{path}: {name} must have rounds of more than 0 s and less than {_LONGEST_S:.0e} s, "
            f"got {median} s; {_WAY}"
        )
    return Timing(name, median, rounds, dict(benchmark["extra_info"]))


def _commit(info: Mapping[str, Any]) -> str:
    return str(info.get("id") or "")[:12] + ("+" if info.get("dirty") else "")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {value!r}")
    return value
