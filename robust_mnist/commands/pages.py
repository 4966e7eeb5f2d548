"""The page of one run, or of several side by side; and one run made of several."""

import shlex
from pathlib import Path

from robust_mnist import config, records, report as reports
from robust_mnist.commands._result import Result
from robust_mnist.console import Console
from robust_mnist.errors import InputError
from robust_mnist.records import RunFolder


REPORTS = Path("reports")


def report(command: config.Report) -> Result:
    """Rebuild the page from files alone; no network and no JAX take part."""
    names = [*command.runs, *([command.run] if command.run else [])]
    if not names:
        raise InputError("report needs the folder of at least one run, such as runs/lab")
    folders = [RunFolder(Path(name)) for name in names]
    for folder in folders:
        folder.check_whole()
    _check_once(folders)
    default = folders[0].report if len(folders) == 1 else Path("runs/comparison.html")
    return write(
        folders,
        Path(command.out) if command.out else default,
        publish=command.publish,
        overwrite=command.overwrite,
        console=Console(quiet=command.output.quiet),
    )


def merge(command: config.Merge) -> Result:
    """Unite the bounds of several runs of the same networks; no JAX takes part."""
    out = RunFolder(Path(command.out))
    if out.path.exists():
        raise InputError(f"{out.path} exists, and merge replaces nothing; choose another --out")
    folders = [RunFolder(Path(name)) for name in command.runs]
    _check_once(folders)
    records.merge(
        folders,
        out,
        shlex.join(["robust-mnist", "merge", *command.runs, "--out", command.out]),
    )
    told = out.load(panels=False)
    lines = [reports.text_table(told), ""] if told.radii else []
    lines.append(f"next: {shlex.join(['robust-mnist', 'audit', '--run', command.out])}")
    return Result("\n".join([*lines, f"run: {out.path}"]), {"run": str(out.path)})


def _check_once(folders: list[RunFolder]) -> None:
    places = [folder.path.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{folder.path} is named twice; name each run once")


def fresh(folder: RunFolder) -> bool:
    """Whether the page of a run stands with its figures and shows the newest results."""
    info = folder.info()
    drawn = [folder.figures / f"{name}.svg" for name in info.get("figures", [])]
    newest = info.get("reported") == info.get("swept") and folder.report.is_file()
    return newest and bool(drawn) and all(path.is_file() for path in drawn)


def refresh(folder: RunFolder, command: config.Run) -> Result:
    """Write the page of a run unless it stands already and shows the newest results."""
    swept = folder.info().get("swept")
    if fresh(folder) and not command.publish:
        return Result(f"report: {folder.report}", {"report": str(folder.report), "published": []})
    made = write(
        [folder],
        folder.report,
        publish=command.publish,
        overwrite=command.overwrite,
        console=Console(quiet=command.output.quiet),
    )
    figures = sorted(path.stem for path in folder.figures.glob("*.svg"))
    folder.update({"reported": swept, "figures": figures})
    return made


def _check_out(folders: list[RunFolder], out: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but an earlier page of the same runs.

    Raises:
        InputError: There is a folder, another file, or the page of other runs.
    """
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir():
        raise InputError(f"--out must lie in a folder, got {out}, and {above.name} is a file")
    if out.is_dir():
        raise InputError(f"--out names the page to write, got the folder {out}")
    if out.is_file() and not overwrite and not reports.is_page_of(out, folders):
        names = shlex.join(str(folder.path) for folder in folders)
        raise InputError(
            f"{out} exists and is no page of {names}; choose another --out, "
            "or replace it with robust-mnist report --overwrite"
        )


def write(
    folders: list[RunFolder], out: Path, *, publish: bool, overwrite: bool, console: Console
) -> Result:
    """Build the page at `out`, and publish the runs if asked to."""
    _check_out(folders, out, overwrite=overwrite)
    unfinished = {
        folder: line for folder in folders
        if (line := reports.unfinished(folder.unfinished(), str(folder.path)))
    }  # fmt: skip
    if publish and unfinished:
        folder, line = next(iter(unfinished.items()))
        raise InputError(f"only finished sweeps are published, got {folder.path}: {line}")
    for folder in folders if publish and not overwrite else []:
        reports.check_owner(folder, REPORTS)
    reports.build(folders, out, console=console)
    lines, published = [f"report: {out}"], []
    for folder, line in unfinished.items():
        # A comparison is of the same images, and the beginning of a sweep may be of a sample.
        without = f"; {folder.path} is compared without it" if len(folders) > 1 else ""
        lines.append(f"{line}{without}")
    for folder in folders if publish else []:
        done = reports.publish(folder, REPORTS, overwrite=overwrite)
        published.append(str(done.folder))
        lines.append(f"published: {len(done.written)} files in {done.folder}")
        lines += [f"left out, too large: {name}" for name in done.left_out]
    return Result("\n".join(lines), {"report": str(out), "published": published})
