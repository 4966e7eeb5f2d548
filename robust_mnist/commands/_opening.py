"""Which folder a command works in, and whether it may: nothing is overwritten by accident."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_mnist import config
from robust_mnist.config import SweepSettings, TrainSettings, restore, typed
from robust_mnist.data import DATASETS, Dataset
from robust_mnist.errors import InputError
from robust_mnist.records import RunFolder, attack_seed


def with_run(kind: type, run: str) -> Any:
    """What a command is with `--run` alone: flags that are left out are those of the run.

    Returns:
        The command; None where there is no run, of which the command itself says more, or where
        the command knows no `--run`.

    Raises:
        InputError: The run is damaged.
    """
    folder = RunFolder(Path(run))
    names = {field.name for field in dataclasses.fields(kind)}
    if "run" not in names or not folder.exists:
        return None
    settings, seed = settings_of(folder), attack_seed(folder.info())
    # `sweep` adds to a run, and takes no more of it than the randomness.
    sweep = _sweep_of(folder) if kind is config.Run else None
    held = {
        "run": run,
        "train": settings,
        "sweep": sweep or SweepSettings(attack_seed=seed),
        "data": settings.data,
        "activation": settings.activation,
        "attack_seed": seed,
    }
    return kind(**{name: value for name, value in held.items() if name in names})


def open_run(
    given: TrainSettings, *, run: str | None, out: str | None, overwrite: bool
) -> tuple[TrainSettings, RunFolder]:
    """The settings and the folder that the flags of a command amount to.

    `run` is an existing run, from which the command line has taken the settings that were not
    typed; `out` is a new folder, or the folder of a run with the same settings. Both are continued.

    Raises:
        InputError: The folder belongs to a run with other settings, or is no run at all.
    """
    if run is not None and out is not None:
        raise InputError(
            f"--run names an existing run and --out a new one, got {run} and {out}; give one"
        )
    given = dataclasses.replace(given, data=placed(given.data))
    if run is not None:
        folder = RunFolder(Path(run))
        check_flags(folder, vars(settings_on(folder, given.data)), vars(given))
        return given, folder
    folder = RunFolder(Path(out or default_out(given)))
    check_above(folder.path)
    if folder.exists and not overwrite:
        held = settings_on(folder, given.data)
        if held != given:
            raise InputError(
                f"{folder.path} {difference(vars(held), vars(given))}; "
                "use another --out, or --overwrite to replace it"
            )
    if not folder.exists and _taken(folder.path):
        raise InputError(f"{folder.path} exists and is no run; choose another --out")
    return given, folder


def check_above(out: Path) -> None:
    """Refuse a place for `--out` within something that is no folder.

    Raises:
        InputError: A file stands above it.
    """
    file = next((above for above in out.parents if above.is_file()), None)
    if file is not None:
        raise InputError(f"{file} is a file and can hold no {out}; choose another --out")


def check_flags(folder: RunFolder, held: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse flags that say something else than the run that --run names.

    Raises:
        InputError: They do.
    """
    if any(given[name] != value for name, value in held.items()):
        raise InputError(
            f"{folder.path} {difference(held, given)}; "
            "leave those flags out, or train another --out"
        )


def check_sweep(folder: RunFolder, given: SweepSettings) -> None:
    """Refuse another sweep than that which a run consists of, if its folder tells of one.

    Raises:
        InputError: The run has another sweep.
    """
    held = _sweep_of(folder) if folder.exists else None
    if held not in (None, given):
        raise InputError(
            f"{folder.path} {difference(vars(held), vars(given))}; use another --out, "
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


def check_place(folder: RunFolder, settings: TrainSettings) -> None:
    """Refuse a run whose data have gone from where it found them, and say how it finds them again.

    Raises:
        InputError: They have.
    """
    if folder.exists and settings.data == settings_of(folder).data:
        gone = [n for n in settings.data if n not in DATASETS and not Path(n).exists()]
        if gone:
            raise InputError(
                f"{folder.path} was made from {' and '.join(gone)}, where nothing is now; "
                f"say where the data are with `robust-mnist train --run {folder.path} --data PATH`"
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
            f"{' '.join(settings.data)} holds now ({dataset.sha256[:12]}...); "
            "put those back, or train another --out"
        )


def settings_of(folder: RunFolder) -> TrainSettings:
    """The settings a run was trained with.

    Raises:
        InputError: The folder holds no run, or one of another version.
    """
    settings = folder.settings()
    return dataclasses.replace(settings, data=placed(settings.data))


def _sweep_of(folder: RunFolder) -> SweepSettings | None:
    """The sweep that a run consists of; None if it was only trained, or swept piece by piece."""
    stored = folder.info().get("sweep")
    return None if stored is None else restore(SweepSettings, stored)


def placed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Data as any folder can find them again: files by their absolute paths, the rest as it is."""
    if len(names) == 1 and names[0] in DATASETS:
        return names
    # Links stay: what they lead to may have a name that tells nothing of its content.
    return tuple(os.path.abspath(n) if os.path.exists(n) else n for n in names)  # noqa: PTH100 PTH110


def settings_on(folder: RunFolder, names: tuple[str, ...]) -> TrainSettings:
    """The settings of a run, with its files of data in another place if a command says so.

    Not the place of files counts but their content, and `check_data` compares that.
    """
    held = settings_of(folder)
    files = not {*DATASETS} & {*held.data, *names}
    return dataclasses.replace(held, data=names) if files else held


def default_out(settings: TrainSettings) -> str:
    """`runs/lab`, `runs/full`, or `runs/<data>-<split>`."""
    if settings.data == ("mnist",):
        return f"runs/{settings.split}"
    name = Path(Path(placed(settings.data)[0]).name.removesuffix(".gz")).stem or "data"
    return f"runs/{name}-{settings.split}"


def difference(held: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Words for what two settings differ in: `belongs to a run with --epochs 500, got 20`."""
    parts = [
        f"--{name.replace('_', '-')} {_word(value)}, got {_word(given[name])}"
        for name, value in held.items()
        if given[name] != value
    ]
    return f"belongs to a run with {'; '.join(parts)}"


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return typed(value) if value else "unset"
    return str(value)


def _taken(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))
