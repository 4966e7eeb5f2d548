"""The page of one run, or of several side by side."""

from pathlib import Path

from robust_mnist import config, report as reports
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
    return write(
        folders,
        Path(command.out) if command.out else default,
        publish=command.publish,
        overwrite=command.output.overwrite,
    )


def about(folder: RunFolder) -> dict[str, object]:
    """What is said of a page that stands already."""
    return {"report": str(folder.report), "published": []}


def write(folders: list[RunFolder], out: Path, *, publish: bool, overwrite: bool) -> Result:
    """Build the page at `out`, and publish the runs if asked to."""
    reports.build(folders, out)
    lines, published = [f"report: {out}"], []
    for folder in folders if publish else []:
        done = reports.publish(folder, REPORTS, overwrite=overwrite)
        published.append(str(done.folder))
        lines.append(f"published: {len(done.written)} files in {done.folder}")
        lines += [f"left out, too large: {name}" for name in done.left_out]
    return Result("\n".join(lines), {"report": str(out), "published": published})
