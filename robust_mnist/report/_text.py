"""Results as plain text for the terminal."""

from collections.abc import Sequence

from robust_mnist.figures import NORMS
from robust_mnist.records import Records
from robust_mnist.report import _facts, _readings


def text_table(records: Records, eps: Sequence[float] = ()) -> str:
    """Accuracy at a few radii, one block per norm.

    Args:
        records: A run.
        eps: Radii to show where a norm was evaluated there, and 0; by default, and in norms that
            were evaluated at none of them, 0 and three more.

    Returns:
        Lines without a line end after the last; empty if the run was not attacked.
    """
    blocks = []
    for table in _readings.tables(records):
        asked = [size for size in eps if size > 0 and size in table.eps]
        chosen = [0.0, *(asked or _readings.headline_eps(table))]
        blocks += [*_block(table.at(chosen)), *_work(records, table.norm)]
    if not blocks:
        return ""
    several = f", mean of {len(records.seeds)} networks" if len(records.seeds) > 1 else ""
    return "\n".join([f"accuracy in %{several}", *blocks])


def _block(table: _readings.AccuracyTable) -> list[str]:
    width = max(len(name) for name in table.methods) + 2
    title = f"{NORMS[table.norm]}, {table.images():,} images, eps"
    width = max(width, len(title))
    lines = [title.ljust(width) + "".join(f"{value:>9g}" for value in table.eps)]
    for column, method in enumerate(table.methods):
        readings = [row[column] for row in table.cells]
        cells = (f"{100 * one.accuracy:>9.2f}" if one else f"{'-':>9}" for one in readings)
        lines.append(f"  {method}".ljust(width) + "".join(cells))
    return lines


def _work(records: Records, norm: str) -> list[str]:
    """What all attacks of a norm took, where it was counted."""
    total = _facts.work(records, norm)
    if total is None:
        return []
    forward, backward = (
        f"{_facts.passes_per_image(total[name], records.info):,.0f} {name}"
        for name in ("forward", "backward")
    )
    return [f"  all attacks: {forward} and {backward} passes per image, {total['seconds']:,.1f} s"]
