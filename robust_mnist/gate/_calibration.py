"""How noisy this machine is: the code compared with itself, and what the rule makes of it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from robust_mnist.errors import InputError, NotComparable
from robust_mnist.files import write_text
from robust_mnist.gate._compare import OVERALL
from robust_mnist.gate._verdicts import (
    FEWEST_PAIRS,
    REGRESSED,
    SMALLEST_FLOOR,
    UNCALIBRATED_FLOOR,
    decide,
    noise_floor,
)
from robust_mnist.records import Timings
from robust_mnist.statistics import wilson


CALIBRATION_SCHEMA = 1
COMPARISONS = 2000
REMARK = (
    "The false alarms are counted in random re-pairings of the same few launches. These are not "
    "independent, so the truth may lie further from the share than its interval says."
)
_MEDIANS = Float[np.ndarray, "launches benchmarks"]


def calibrate(launches: Sequence[Timings], *, quick: bool) -> dict[str, Any]:
    """Noise floor and false alarms of every benchmark that all launches have.

    The standard deviation is that of the log-ratios of neighbouring launches. They are of the same
    code, so their mean is known to be zero, and a machine that slowly warms up hardly matters, just
    as in a comparison. It is read off their median size: a launch that something else on the
    machine disturbed by half must not keep every later change of a tenth from counting. Such
    launches widen the interval of the comparison they happen in, and are among the false alarms.

    Args:
        launches: Of one code in one environment, in order of time; at least 4.
        quick: Whether they ran the short list.

    Returns:
        The content of `calibration.json` for this list of benchmarks.

    Raises:
        NotComparable: No benchmark is in all launches.
    """
    names = [n for n in launches[0].benchmarks if all(n in t.benchmarks for t in launches)]
    if not names:
        raise NotComparable("the launches have no benchmark in common; start anew with --overwrite")
    medians = np.array([[math.log(t.benchmarks[n].median_s) for n in names] for t in launches])
    spread = dict(zip(names, _spread(medians), strict=True))
    spread[OVERALL] = _spread(medians.mean(axis=1, keepdims=True))[0]
    noise = {
        n: {"sd": float(sd), "noise_floor": noise_floor(float(sd))} for n, sd in spread.items()
    }
    floors = np.array([max(SMALLEST_FLOOR, noise[name]["noise_floor"]) for name in names])
    alarms = false_alarms(medians, floors)
    which = "quick" if quick else "full"
    return {
        "schema": CALIBRATION_SCHEMA,
        "key": launches[0].key,
        "remark": REMARK,
        "lists": {
            which: {
                "created": launches[-1].created,
                "commit": launches[-1].commit,
                "launches": len(launches),
                "false_alarms": _share(np.any(alarms, axis=1)),
                "overall": noise[OVERALL],
            }
        },
        "benchmarks": {
            name: {which: noise[name] | {"false_alarms": _share(found)}}
            for name, found in zip(names, alarms.T, strict=True)
        },
    }


def false_alarms(
    medians: _MEDIANS, floors: Float[np.ndarray, " benchmarks"], *, comparisons: int = COMPARISONS
) -> np.ndarray:
    """Put launches of the same code into random pairs, and judge them as if A and B differed.

    Args:
        medians: Logarithms of the launches' medians.
        floors: Smallest relative change that counts.
        comparisons: How many to make, each of all launches.

    Returns:
        Whether REGRESSED was said, by comparison and benchmark; no comparison at all where the
        launches make fewer than the three pairs that a verdict needs.
    """
    pairs = len(medians) // 2
    if pairs < FEWEST_PAIRS:
        return np.zeros((0, medians.shape[1]), bool)
    rng = np.random.default_rng(0)
    drawn = np.array([rng.permutation(len(medians))[: 2 * pairs] for _ in range(comparisons)])
    ratios = medians[drawn[:, :pairs]] - medians[drawn[:, pairs:]]
    mean, sd = ratios.mean(axis=1), ratios.std(axis=1, ddof=1)
    words, _ = decide(mean, sd, np.full(mean.shape, pairs), np.broadcast_to(floors, mean.shape))
    return words == REGRESSED


def save_calibration(content: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write it as `<out>/<key>/calibration.json`, beside what the other list of benchmarks gave.

    Returns:
        What the file holds now.
    """
    held = read_calibration(out, content["key"]) or {"lists": {}, "benchmarks": {}}
    # Of the same list nothing old remains: a benchmark that is gone has no noise any more.
    [which] = content["lists"]
    kept = {
        name: {other: entry for other, entry in entries.items() if other != which}
        for name, entries in held["benchmarks"].items()
    }
    names = [*content["benchmarks"], *(n for n in kept if n not in content["benchmarks"])]
    benchmarks = {n: kept.get(n, {}) | content["benchmarks"].get(n, {}) for n in names}
    merged = content | {
        "lists": held["lists"] | content["lists"],
        "benchmarks": {name: entries for name, entries in benchmarks.items() if entries},
    }
    text = json.dumps(merged, indent=2, allow_nan=False) + "\n"
    write_text(_path(out, content["key"]), text)
    return merged


def read_calibration(out: Path, key: str) -> dict[str, Any] | None:
    """The calibration of an environment; None if there is none.

    Raises:
        InputError: The file is damaged.
        NotComparable: It is of another schema.
    """
    path = _path(out, key)
    if not path.is_file():
        return None
    way_out = "move it away, and run robust-mnist bench calibrate"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content["schema"]
        entries = [entry for found in content["benchmarks"].values() for entry in found.values()]
        entries += [found["overall"] for found in content["lists"].values()]
        sound = all(0 <= entry["noise_floor"] < math.inf for entry in entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no calibration ({error!r}); {way_out}") from error
    if schema != CALIBRATION_SCHEMA:
        raise NotComparable(f"{path} has schema {schema}, not {CALIBRATION_SCHEMA}; {way_out}")
    if not sound:
        raise InputError(f"{path} has a noise floor below 0; {way_out}")
    return content


def floors_of(
    calibration: Mapping[str, Any] | None, names: Sequence[str], *, quick: bool
) -> tuple[dict[str, float], list[str]]:
    """The smallest change that counts: 3 %, or the noise where that is more.

    Args:
        calibration: What `read_calibration` gave.
        names: Benchmarks.
        quick: Whether the short list ran; its own calibration goes before that of the full list.

    Returns:
        Floors by benchmark and for `OVERALL`, and the names that are not calibrated.
    """
    content = calibration or {"benchmarks": {}, "lists": {}}
    found = {name: content["benchmarks"].get(name, {}) for name in names}
    found[OVERALL] = {which: entry["overall"] for which, entry in content["lists"].items()}
    order = ("quick", "full") if quick else ("full", "quick")
    floors, missing = {}, []
    for name, entries in found.items():
        entry = next((entries[which] for which in order if which in entries), None)
        if entry is None:
            floors[name] = UNCALIBRATED_FLOOR
            missing.append(name)
        else:
            floors[name] = max(SMALLEST_FLOOR, entry["noise_floor"])
    return floors, missing


def _spread(medians: _MEDIANS) -> Float[np.ndarray, " benchmarks"]:
    # Half of all normal deviates are smaller than 0.6745 standard deviations.
    return np.median(np.abs(np.diff(medians, axis=0)), axis=0) / 0.6745


def _share(found: np.ndarray) -> dict[str, Any] | None:
    if not found.size:
        return None
    count, comparisons = int(found.sum()), len(found)
    low, high = wilson(count, comparisons)
    return {"count": count, "comparisons": comparisons, "low": float(low), "high": float(high)}


def _path(out: Path, key: str) -> Path:
    return out / key / "calibration.json"
