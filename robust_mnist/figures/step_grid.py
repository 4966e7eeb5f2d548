"""Robust accuracy against number and length of the steps of PGD."""

import numpy as np
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _attacks, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw a heat map per norm."""
    norms = _attacks.probed(records, "grid")
    if not norms:
        return None
    figure = _style.canvas(_style.HEADING + 4.3)
    for axes, norm in zip(figure.subplots(1, len(norms), squeeze=False).flat, norms, strict=True):
        _panel(axes, records, norm)
    _style.heading(
        figure,
        "Robust accuracy against number and length of the steps of PGD",
        _style.counted(records, _attacks.probe_sample(records, norms)),
    )
    return figure


def _panel(axes: Axes, records: Records, norm: str) -> None:
    steps, shares, accuracy = (
        records.panels[f"grid/{norm}/{name}"] for name in ("steps", "shares", "accuracy")
    )
    # The longest step on top, as on an axis.
    sns.heatmap(
        100 * accuracy[::-1], ax=axes, annot=True, fmt=".0f", cmap="Blues", vmin=0.0, vmax=100.0,
        cbar=False, linewidths=0.4, linecolor="#d7dce2", annot_kws={"fontsize": 8.5},
        xticklabels=steps, yticklabels=[f"{share:g}" for share in shares[::-1]],
    )  # fmt: skip
    lowest = np.argwhere(accuracy[::-1] == accuracy.min())
    for row, column in lowest:
        axes.plot(column + 0.86, row + 0.22, marker="v", color=_style.ORANGE, markersize=4.5)
    axes.tick_params(length=0, rotation=0)
    eps = float(records.panels[f"probe/{norm}/eps"])
    axes.set(xlabel="steps", ylabel="length of a step, as a share of eps")
    axes.set_title(f"{_style.NORMS[norm]}, eps {eps:g}: % still right")


CHART = Chart(
    draw=draw,
    title="Steps of PGD",
    reading="Each cell is PGD on the margin from one random start, with so many steps of that "
    "length, at one eps: how many answers of 100 are still right. Triangles mark the lowest cells. "
    "Where the right column is flat from top to bottom, number and length of the steps no longer "
    "matter; where it is not, pgd40 (40 steps of 0.1) is at the mercy of its settings.",
    limits="A few images: a cell has several points of sampling error, though all cells share the "
    "same images. A flat map says that more of the same finds nothing new, not that nothing is "
    "there.",
    needs=_attacks.NEEDS_PROBES,
    command="sweep",
)
