"""The page of one run, or of several side by side."""

from pathlib import Path

from robust_mnist import config, report as pages
from robust_mnist.commands._result import Result
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
        folder.info()
    default = folders[0].report if len(folders) == 1 else Path("runs/comparison.html")
    return write(folders, Path(command.out) if command.out else default, publish=command.publish)


def write(folders: list[RunFolder], out: Path, *, publish: bool) -> Result:
    """Build the page at `out`, and publish the runs if asked to."""
    pages.build(folders, out)
    published = [str(path) for folder in folders for path in pages.publish(folder, REPORTS)] if publish else []
    text = f"report: {out}"
    if published:
        text += f"\npublished {len(published)} files to {REPORTS}/"
    return Result(text, {"report": str(out), "published": published})
