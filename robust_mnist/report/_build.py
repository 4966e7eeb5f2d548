"""From run folders to figures and a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from robust_mnist import figures, files
from robust_mnist.errors import InputError
from robust_mnist.records import Records, RunFolder
from robust_mnist.report import _one, _several


def build(runs: Sequence[RunFolder], out: Path | None = None) -> Path:
    """Draw the figures of one run, or of several over each other, and write their page.

    The figures of one run stand in its folder. Those of several stand beside the page, in a folder
    called after it.

    Args:
        runs: One run, or several on the same test images; the first of several is the baseline.
        out: The page; by default `report.html` in the run's folder, or `comparison.html` in the
            first run's folder.

    Returns:
        The path of the page.

    Raises:
        InputError: There is no run, one cannot be read, or they saw other test images.
    """
    if not runs:
        raise InputError("a report needs at least one run; give the folder of one")
    if len(runs) == 1:
        return _build_one(runs[0], out or runs[0].report)
    return _build_several([run.load() for run in runs], out or runs[0].path / "comparison.html")


def _build_one(run: RunFolder, out: Path) -> Path:
    records = run.load()
    drawn = {name: chart(records) for name, chart in figures.FIGURES.items()}
    drawings = save_all(drawn, run.figures)
    files.write_text(out, _one.page(records, drawings, str(run.path)))
    return out


def _build_several(runs: Sequence[Records], out: Path) -> Path:
    _several.check(runs)
    drawn = {name: overlay(runs) for name, overlay in figures.OVERLAYS.items()}
    drawings = save_all(drawn, out.with_name(f"{out.stem}-figures"))
    files.write_text(out, _several.page(runs, drawings))
    return out


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
