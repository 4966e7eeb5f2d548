"""Files of a comparison of devices, and of the history of one."""

import os
from pathlib import Path

from robust_mnist import figures, files, trends
from robust_mnist.report import _accelerators, _grids
from robust_mnist.report._build import save_all


def write_accelerators(found: trends.Comparison, folder: Path) -> list[Path]:
    """Write the page, the table as CSV and as Markdown, and the figures.

    Returns:
        The paths of the page and of the two tables.
    """
    drawn = {name: chart(found.table) for name, chart in figures.TIMING_FIGURES.items()}
    drawings = save_all(drawn, folder / "figures")
    contents = {
        "accelerators.html": _accelerators.page(found, drawings),
        "accelerators.csv": found.table.to_csv(index=False),
        "accelerators.md": _accelerators.markdown(found),
    }
    for name, content in contents.items():
        files.write_text(folder / name, content)
    return [folder / name for name in contents]


def write_history(found: trends.History, folder: Path) -> list[Path]:
    """Write the launches and the change points as CSV, and the figure.

    Returns:
        The paths of the tables.
    """
    drawn = {name: chart(found.launches) for name, chart in figures.HISTORY_FIGURES.items()}
    save_all(drawn, folder / "figures")
    contents = {"history.csv": found.launches, "changes.csv": found.changes}
    for name, table in contents.items():
        files.write_text(folder / name, table.to_csv(index=False))
    return [folder / name for name in contents]


def append_summary(found: trends.Comparison) -> bool:
    """Append the tables to the summary of the running step of a workflow, if there is one.

    GitHub drops a summary above 1 MiB as a whole, so what another command of the step has written
    counts as well.

    Returns:
        Whether something was written.
    """
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return False
    path = Path(name)
    before = path.stat().st_size if path.exists() else 0
    text = _accelerators.markdown(found, limit=_grids.SUMMARY_LIMIT - before)
    # Not renamed into place: the file belongs to the runner.
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)
    return bool(text)
