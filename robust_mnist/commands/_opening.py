"""Which folder a command works in, and whether it may: nothing is overwritten by accident."""

import dataclasses
from pathlib import Path

from robust_mnist.config import SweepSettings, TrainSettings, restore, typed
from robust_mnist.data import Dataset
from robust_mnist.errors import InputError
from robust_mnist.records import RunFolder, attack_seed


def open_run(
    given: TrainSettings, *, run: str | None, out: str | None, overwrite: bool
) -> tuple[TrainSettings, RunFolder]:
    """The settings and the folder that the flags of a command amount to.

    `run` takes the settings from an existing run; `out` is a new folder, or the folder of a run
    with the same settings, which is then continued.

    Raises:
        InputError: The folder belongs to a run with other settings, or is no run at all.
    """
    if run is not None and out is not None:
        raise InputError(
            f"--run names an existing run and --out a new one, got {run} and {out}; give one"
        )
    if run is not None:
        folder = RunFolder(Path(run))
        held = folder.settings()
        if given not in (TrainSettings(), held):
            raise InputError(
                f"{run} {difference(held, given)}; leave those flags out, or train another --out"
            )
        return held, folder
    folder = RunFolder(Path(out or default_out(given)))
    file = next((above for above in folder.path.parents if above.is_file()), None)
    if file is not None:
        raise InputError(f"{file} is a file and can hold no {folder.path}; choose another --out")
    if folder.exists and not overwrite:
        held = folder.settings()
        if held != given:
            raise InputError(
                f"{folder.path} {difference(held, given)}; "
                "use another --out, or --overwrite to replace it"
            )
    if not folder.exists and _taken(folder.path):
        raise InputError(f"{folder.path} exists and is no run; choose another --out")
    return given, folder


def settle_sweep(folder: RunFolder, given: SweepSettings, *, named: bool) -> SweepSettings:
    """The sweep that a run consists of: what its folder says, if it says anything.

    Args:
        folder: The run.
        given: Flags of the command.
        named: Whether the run was named with --run, so that flags left out mean its own.

    Raises:
        InputError: The run has another sweep.
    """
    stored = folder.info().get("sweep") if folder.exists else None
    if stored is None:
        return given
    held = restore(SweepSettings, stored)
    if given == held or (named and given == SweepSettings()):
        return held
    raise InputError(
        f"{folder.path} {difference(held, given)}; use another --out, "
        f"or add methods and radii with `robust-mnist sweep --run {folder.path}`"
    )


def check_attack_seed(folder: RunFolder, given: SweepSettings) -> None:
    """Refuse to mix draws: all results of a run come from one attack seed.

    Raises:
        InputError: The run was attacked with another seed.
    """
    held = attack_seed(folder.info(), given.attack_seed) if folder.exists else given.attack_seed
    if held != given.attack_seed:
        raise InputError(
            f"{folder.path} was attacked with --attack-seed {held}, got {given.attack_seed}; "
            "give that one, or train another --out to compare attack seeds"
        )


def check_data(folder: RunFolder, settings: TrainSettings, dataset: Dataset) -> None:
    """Refuse data that are not those of a run.

    Raises:
        InputError: The run was made from other data under the same name.
    """
    held = folder.info().get("data", {}) if folder.exists else {}
    if held.get("sha256", dataset.sha256) != dataset.sha256:
        raise InputError(
            f"{folder.path} was made from other data (sha256 {held['sha256'][:12]}...) than "
            f"{' '.join(settings.data)} holds now ({dataset.sha256[:12]}...)"
        )


def default_out(settings: TrainSettings) -> str:
    """`runs/lab`, `runs/full`, or `runs/<data>-<split>`."""
    if settings.data == ("mnist",):
        return f"runs/{settings.split}"
    return f"runs/{Path(settings.data[0]).stem}-{settings.split}"


def difference(held: TrainSettings | SweepSettings, given: TrainSettings | SweepSettings) -> str:
    """Words for what two settings differ in: `belongs to a run with --epochs 500, got 20`."""
    parts = []
    for field in dataclasses.fields(held):
        theirs, ours = getattr(held, field.name), getattr(given, field.name)
        if theirs != ours:
            parts.append(f"--{field.name.replace('_', '-')} {_word(theirs)}, got {_word(ours)}")
    return f"belongs to a run with {'; '.join(parts)}"


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return typed(value) if value else "unset"
    return str(value)


def _taken(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))
