"""Is B slower than A, and how noisy is this machine?"""

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_mnist import config, gate
from robust_mnist.commands._result import Result, columns
from robust_mnist.console import Console
from robust_mnist.errors import InputError
from robust_mnist.files import write_text
from robust_mnist.records import read_timings


# Where calibrations keep their launches until there are enough of them.
CALIBRATIONS = Path("runs/bench/calibrate")


def compare(command: config.Compare) -> Result:
    """Judge B against A: from result files, or by measuring both in turns."""
    console = Console(quiet=command.output.quiet)
    a, b = gate.resolve(command.a, "A"), gate.resolve(command.b, "B")
    retired: Mapping[str, str] = {}
    if isinstance(a, gate.Code) and isinstance(b, gate.Code):
        pairs, earlier, retired = _measured(a, b, command, console)
        notes = [side.note for side in (a, b) if side.note]
        if earlier:
            notes.append(
                f"{earlier} of the pairs were measured by an earlier command; --pairs N adds some, "
                "another --out begins anew"
            )
    elif isinstance(a, gate.Results) and isinstance(b, gate.Results):
        gate.same_environment([*a.launches, *b.launches])
        pairs, notes = gate.pair_up(a.launches, b.launches)
        retired = gate.retired(Path())
        if command.pairs or command.quick:
            notes.append("--pairs and --quick are for code; these results exist already")
    else:
        sides = [f"{s.name} is {'code' if isinstance(s, gate.Code) else 'results'}" for s in (a, b)]
        raise InputError(
            f"A and B must both be code or both be results, but {' and '.join(sides)}; give two "
            "revisions or folders with the code, or two result files or folders of them"
        )
    return _judged(pairs, retired, notes, command)


def calibrate(command: config.Calibrate) -> Result:
    """Launch the code of the current folder again and again, and keep the noise that is left."""
    here, console = Path(), Console(quiet=command.output.quiet)
    if not gate.is_code(here):
        raise InputError(
            "calibrate measures the code in the current folder, which must have robust_mnist/ and "
            f"benchmarks/, got {here.resolve()}"
        )
    code = gate.Code(".", here, gate.content_hash(here))
    quick = "-quick" if command.quick else ""
    folder = CALIBRATIONS / f"{gate.environment_key()}{quick}-{code.state[:10]}"
    if command.overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    wanted = [folder / f"{number:03}.json" for number in range(1, command.launches + 1)]
    _measure([gate.Launch(code, here.resolve(), out) for out in wanted], command, console)
    launches = read_timings(folder)
    key = gate.same_environment(launches)
    found = gate.calibrate(launches, quick=command.quick)
    content = gate.save_calibration(found, Path(command.out))
    [which] = found["lists"]
    text = columns(gate.calibration_table(content, which))
    saved = Path(command.out) / key / "calibration.json"
    lines = [
        f"{key}: {len(launches)} launches of the {which} list",
        "", text, "", gate.REMARK, f"calibration: {saved}",
    ]  # fmt: skip
    return Result("\n".join(lines), content)


def _measured(
    a: gate.Code, b: gate.Code, command: config.Compare, console: Console
) -> tuple[list[gate.Pair], int, Mapping[str, str]]:
    """All pairs of two versions, how many there were before, and what B retired."""
    states = f"{a.state} {b.state} {gate.environment_key()}"
    digest = hashlib.sha256(states.encode()).hexdigest()[:10]
    quick = "-quick" if command.quick else ""
    folder = Path(command.out) / f"{a.short}..{b.short}{quick}-{digest}"
    earlier = len(_complete(folder))
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(gate.checked_out(code)) for code in (a, b))
        retired = gate.retired(second)
        launches = [
            gate.Launch(*((a, first) if side == "a" else (b, second)), _file(folder, side, number))
            for number, side in _turns(_target(folder, command.pairs))
        ]
        _measure(launches, command, console)
    files = [(_file(folder, "a", n), _file(folder, "b", n)) for n in _complete(folder)]
    pairs = [(read_timings(one)[0], read_timings(other)[0]) for one, other in files]
    gate.same_environment([timings for pair in pairs for timings in pair])
    return pairs, earlier, retired


def _measure(
    launches: Sequence[gate.Launch], command: config.Compare | config.Calibrate, console: Console
) -> None:
    missing = [launch for launch in launches if not launch.out.exists()]
    if missing:
        title = "launches" if len(missing) == len(launches) else "further launches"
        gate.measure(missing, quick=command.quick, title=title, console=console)


def _turns(pairs: int) -> Iterator[tuple[int, str]]:
    """A B, B A, A B: whatever drifts by the minute then favours neither side."""
    for number in range(1, pairs + 1):
        for side in "ab" if number % 2 else "ba":
            yield number, side


def _target(folder: Path, further: int | None) -> int:
    """How many pairs there are to be, as far as it takes what an interrupted command had begun."""
    done, plan = len(_complete(folder)), folder / "pairs"
    if further is None:
        return max(done, gate.USUAL_PAIRS)
    # The same command after Ctrl-C is to end where the first would have ended.
    begun = _begun(plan)
    target = min(begun, done + further) if begun > done else done + further
    write_text(plan, str(target))
    return target


def _begun(plan: Path) -> int:
    text = plan.read_text(encoding="utf-8", errors="replace") if plan.is_file() else ""
    return int(text) if text.isdecimal() else 0


def _complete(folder: Path) -> list[int]:
    numbers = sorted(int(path.stem[2:]) for path in folder.glob("a-*.json"))
    return [number for number in numbers if _file(folder, "b", number).exists()]


def _file(folder: Path, side: str, number: int) -> Path:
    return folder / f"{side}-{number:03}.json"


def _judged(
    pairs: Sequence[gate.Pair],
    retired: Mapping[str, str],
    notes: Sequence[str],
    command: config.Compare,
) -> Result:
    key = pairs[0][0].key
    quick = all(bool(a.machine.get("quick", False)) for a, _ in pairs)
    names = list(dict.fromkeys(name for a, _ in pairs for name in a.benchmarks))
    calibration = gate.read_calibration(Path(command.calibration), key)
    floors, unknown = gate.floors_of(calibration, names, quick=quick)
    notes = [*notes, *([_uncalibrated(unknown, key, command)] if unknown else [])]
    if len({timings.counting for pair in pairs for timings in pair}) > 1:
        notes.append("compilations were counted in different ways and are not compared")
    comparison = gate.compare(pairs, floors, retired)
    rows, last = gate.table(comparison), gate.conclusion(comparison)
    about = [f"{n} {s}" for n, s in zip((command.a, command.b), _commits(pairs), strict=True)]
    count = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''}"
    title = f"A: {about[0]}, B: {about[1]}; {count} on {key}"
    below = [f"{change.word}: {change.benchmark}: {change.text}" for change in comparison.changes]
    below += [f"note: {note}" for note in notes]
    try:
        gate.add_to_summary(gate.markdown(title, rows, [*below, last]))
    except OSError as error:  # the verdict is not lost for that
        below.append(f"note: the summary of this step cannot be written: {error}")
    text = "\n".join([title, "", columns(rows), "", *below, last])
    data = {
        "verdict": comparison.word,
        "a": {"name": command.a, "commit": pairs[-1][0].commit},
        "b": {"name": command.b, "commit": pairs[-1][1].commit},
        "key": key,
        "pairs": len(pairs),
        "quick": quick,
        "calibrated": not unknown,
        "notes": notes,
        **_data(comparison),
    }
    return Result(text, data, comparison.exit_code(strict=command.strict))


def _data(comparison: gate.Comparison) -> dict[str, Any]:
    found = dataclasses.asdict(comparison)
    found["benchmarks"] = [
        {"name": row["name"], "a_s": row["a_s"], "b_s": row["b_s"], **row["verdict"]}
        for row in found.pop("rows")
    ]
    return found


def _uncalibrated(names: Sequence[str], key: str, command: config.Compare) -> str:
    which = "any benchmark" if gate.OVERALL in names else ", ".join(names)
    return (
        f"the noise of {which} on {key} is not known from {command.calibration}, so the floor is "
        "5 %; robust-mnist bench calibrate measures it"
    )


def _commits(pairs: Sequence[gate.Pair]) -> list[str]:
    found = [dict.fromkeys(launch.commit for launch in side) for side in zip(*pairs, strict=True)]
    told = [", ".join(filter(None, commits)) for commits in found]
    return [f"({commits})" if commits else "" for commits in told]
