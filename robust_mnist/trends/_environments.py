"""Result files of one environment key are launches of one environment."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from robust_mnist.records import Timing, Timings


# What tells two environments with the same device apart, in the order of what a reader sees first.
_TELLING = ("threads", "device_count", "matmul_precision", "x64", "xla_flags", "jax", "plugin")
_LABEL = 48  # letters: two labels still fit beside each other


@dataclasses.dataclass(frozen=True)
class Environment:
    """One device with its settings, and what was measured there.

    Attributes:
        key: Environment key.
        label: Name of the device; where several have the same, also what tells them apart.
        launches: Result files, the oldest first.
    """

    key: str
    label: str
    launches: tuple[Timings, ...]

    @property
    def machine(self) -> Mapping[str, object]:
        """What the newest launch says about the machine."""
        return self.launches[-1].machine

    @property
    def platform(self) -> str:
        """Such as `cpu` or `gpu`."""
        return words(self.machine.get("platform", ""))

    @property
    def commits(self) -> list[str]:
        """Measured commits, in order of time; a `+` stands for changed files."""
        return list(dict.fromkeys(launch.commit or "unknown" for launch in self.launches))

    def peak(self, name: str) -> float:
        """A measured rate of the device, the median over the launches; NaN if not measured."""
        found = []
        for launch in self.launches:
            peaks = launch.machine.get("peaks")
            value = number(peaks.get(name)) if isinstance(peaks, Mapping) else math.nan
            found.append(value if value > 0 else math.nan)
        return middle(found)

    def timings(self, benchmark: str) -> list[Timing]:
        """The benchmark in every launch that ran it."""
        return [one.benchmarks[benchmark] for one in self.launches if benchmark in one.benchmarks]

    def fact(self, benchmark: str, name: str) -> float:
        """A number beside a timing, the median over the launches; NaN if there is none."""
        return middle([number(timing.facts.get(name)) for timing in self.timings(benchmark)])

    def newest(self, benchmark: str, name: str) -> object:
        """What the newest launch that has it says beside a timing; None if there is nothing."""
        found = [timing.facts[name] for timing in self.timings(benchmark) if name in timing.facts]
        return found[-1] if found else None


def group(files: Iterable[Timings]) -> list[Environment]:
    """Put result files of the same environment together; copies of a file count once.

    Returns:
        The environments in the order in which they first come up.
    """
    by_key: dict[str, list[Timings]] = {}
    seen = set()
    for one in files:
        # A copied file would pass for an independent launch and make intervals too narrow.
        if one.launch not in seen:
            seen.add(one.launch)
            by_key.setdefault(one.key, []).append(one)
    launches = [tuple(sorted(found, key=lambda one: one.created)) for found in by_key.values()]
    return [
        Environment(key, label, found)
        for key, label, found in zip(by_key, _labels(launches), launches, strict=True)
    ]


def number(value: object) -> float:
    """A finite number, or NaN for anything else a file may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def middle(values: Sequence[float]) -> float:
    """The median of those that are numbers; NaN if there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def words(value: object) -> str:
    """Text of a file as one line of reasonable length."""
    text = " ".join(str(value).split())
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"


def _labels(environments: Sequence[tuple[Timings, ...]]) -> list[str]:
    machines = [launches[-1].machine for launches in environments]
    names = [words(launches[-1].device) for launches in environments]
    labels = []
    for mine, name in zip(machines, names, strict=True):
        rivals = [m for m, other in zip(machines, names, strict=True) if other == name]
        parts = [
            _told(what, _setting(mine, what))
            for what in _TELLING
            if len({_setting(rival, what) for rival in rivals}) > 1
        ]
        labels.append(words(", ".join([name, *filter(None, parts)])))
    # Nothing that is told differs, or the text was cut: only the key is left.
    return [
        label if labels.count(label) == 1 else f"{label} ({launches[0].key})"
        for label, launches in zip(labels, environments, strict=True)
    ]


def _setting(machine: Mapping[str, object], name: str) -> str:
    versions = machine.get("versions")
    if name == "jax":
        return str(versions.get("jax", "")) if isinstance(versions, Mapping) else ""
    return str(machine.get(name, ""))


def _told(name: str, value: str) -> str:
    if name in {"plugin", "xla_flags"}:
        return value
    if name == "threads":
        return f"{value} thread{'' if value == '1' else 's'}"
    return f"{name.replace('_', ' ')} {value}" if value else ""
