"""From run folders to figures and a page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from robust_mnist import figures, files
from robust_mnist.console import Console
from robust_mnist.errors import InputError
from robust_mnist.records import Records, RunFolder
from robust_mnist.report import _one, _several


_SILENT = Console(quiet=True)


def build(
    runs: Sequence[RunFolder], out: Path | None = None, *, console: Console = _SILENT
) -> Path:
    """Draw the figures of one run, or of several over each other, and write their page.

    The figures of one run stand in its folder. Those of several stand beside the page, in a folder
    called after it. The page of one run also shows what an unfinished sweep has found so far.

    Args:
        runs: One run, or several on the same test images; the first of several is the baseline.
        out: The page; by default `report.html` in the run's folder, or `comparison.html` in the
            first run's folder.
        console: Where progress goes.

    Returns:
        The path of the page.

    Raises:
        InputError: There is no run, one cannot be read, or they saw other test images.
    """
    if not runs:
        raise InputError("a report needs at least one run; give the folder of one")
    if len(runs) == 1:
        return _build_one(runs[0], out or runs[0].report, console)
    loaded = [run.load() for run in runs]
    return _build_several(loaded, out or runs[0].path / "comparison.html", console)


def _build_one(run: RunFolder, out: Path, console: Console) -> Path:
    records = run.load(unfinished=True)
    drawings = _draw_all(figures.FIGURES, records, run.figures, console)
    files.write_text(out, _one.page(records, drawings, str(run.path)))
    return out


def _build_several(runs: Sequence[Records], out: Path, console: Console) -> Path:
    _several.check(runs)
    folder = out.with_name(f"{out.stem}-figures")
    drawings = _draw_all(figures.OVERLAYS, runs, folder, console)
    files.write_text(out, _several.page(runs, drawings))
    return out


def _draw_all(
    charts: Mapping[str, Callable[[Any], Figure | None]], of: Any, folder: Path, console: Console
) -> dict[str, str | None]:
    drawings: dict[str, str | None] = {}
    with console.progress("report", len(charts)) as update:
        for done, (name, chart) in enumerate(charts.items()):
            update(done, name)
            drawings |= save_all({name: chart(of)}, folder)
        update(len(charts), "")
    return drawings


def save_all(drawn: Mapping[str, Figure | None], folder: Path) -> dict[str, str | None]:
    """Write the figures as SVG and PNG, remove those there is no longer anything to draw for.

    Returns:
        The SVG of each figure, or None.
    """
    drawings: dict[str, str | None] = {}
    for name, figure in drawn.items():
        if figure is None:
            drawings[name] = None
            for suffix in ("svg", "png"):
                (folder / f"{name}.{suffix}").unlink(missing_ok=True)
        else:
            svg, _ = figures.save(figure, folder, name)
            drawings[name] = svg.read_text(encoding="utf-8")
    return drawings
