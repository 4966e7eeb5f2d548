"""The small results of a run, fit to be kept and shown to others."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from robust_mnist import config, figures, files
from robust_mnist.errors import InputError
from robust_mnist.records import RunFolder
from robust_mnist.report import _one
from robust_mnist.report._paths import without_paths


LIMIT = 2_000_000  # bytes; a larger file does not belong into a repository


@dataclasses.dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        folder: Where it stands.
        written: Names of the files, relative to `folder`.
        left_out: Names of the files that were too large.
    """

    folder: Path
    written: list[str]
    left_out: list[str]


def publish(run: RunFolder, folder: Path, *, overwrite: bool = False) -> Published:
    """Copy tables, facts, figures and the page of a run to `folder`, under the run's name.

    The page is written anew, because facts and commands lose the paths of this machine: only the
    last part of an absolute path remains. Weights, radii and images stay behind.

    Args:
        run: A run whose report has been built.
        folder: Usually `reports`.
        overwrite: Replace what another run left under the same name.

    Raises:
        InputError: There is no report, or the name is taken by a run with other settings.
    """
    if not run.report.is_file():
        raise InputError(f"{run.path} holds no report; make it with robust-mnist report {run.path}")
    if not overwrite:
        check_owner(run, folder)
    target = folder / run.path.resolve().name
    info = without_paths(run.info())
    written, left_out = [], []
    for name, content in _contents(run, info).items():
        if len(content) > LIMIT:
            left_out.append(name)
            continue
        with files.writing(target / name) as temporary:
            temporary.write_bytes(content)
        written.append(name)
    for name in ("report.html", *_names()):
        if name not in written:
            (target / name).unlink(missing_ok=True)  # of an earlier state of the run
    return Published(target, written, left_out)


def _names() -> list[str]:
    drawn = [f"figures/{name}.{end}" for name in figures.FIGURES for end in ("svg", "png")]
    return ["rows.csv", "history.csv", *drawn]


def _contents(run: RunFolder, info: dict[str, Any]) -> dict[str, bytes]:
    records = dataclasses.replace(run.load(), info=info)
    drawings = {name: _text(run.figures / f"{name}.svg") for name in figures.FIGURES}
    page = _one.page(records, drawings, without_paths(str(run.path)))
    contents = {
        "run.json": (json.dumps(info, indent=2) + "\n").encode(),
        "report.html": page.encode(),
    }
    for name in _names():
        if (run.path / name).is_file():
            contents[name] = (run.path / name).read_bytes()
    return contents


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def check_owner(run: RunFolder, folder: Path) -> None:
    """Refuse to publish where another run stands.

    Raises:
        InputError: The run's name is taken in `folder` by a run with other settings.
    """
    taken = RunFolder(folder / run.path.resolve().name)
    if not taken.exists:
        return
    info, theirs = without_paths(run.info()), taken.info()
    odd = [
        part for part in ("settings", "sweep", "data")
        if _with_defaults(part, theirs) != _with_defaults(part, info)
    ]  # fmt: skip
    if odd:
        raise InputError(
            f"{taken.path} holds a run with other {' and '.join(odd)}; "
            "rename this run's folder, or replace what stands there with "
            f"robust-mnist report {run.path} --publish --overwrite"
        )


def _with_defaults(part: str, info: dict[str, Any]) -> object:
    """What was published before a setting existed is a run with that setting's default."""
    kind = {"settings": config.TrainSettings, "sweep": config.SweepSettings}.get(part)
    held = info.get(part)
    if part == "data" and held is not None:
        # The hash is what counts; the same data can come from elsewhere.
        return [held.get(name) for name in ("name", "sha256", "train", "valid", "test")]
    if part == "settings" and held is not None:
        held = {name: value for name, value in held.items() if name != "data"}  # told by the hash
    return held if kind is None or held is None else config.restore(kind, held)
