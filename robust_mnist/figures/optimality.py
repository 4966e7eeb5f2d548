"""How close each attack comes to the smallest changes known."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _attacks, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Alone, Records


# Below it an attack is weak: it gives away a tenth of what can be had.
WEAK = 0.9


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw sorted bars, a panel per norm."""
    # Whoever ran at fewer radii would seem weak at the others.
    compared = [alone for alone in _attacks.compared(records) if alone.even]
    if not compared:
        return None
    rows = max(len(alone.methods) for alone in compared)
    figure = _style.canvas(_style.HEADING + 1.2 + 0.34 * rows)
    panels = figure.subplots(1, len(compared), squeeze=False).flat
    for axes, alone in zip(panels, compared, strict=True):
        _panel(axes, alone, rows)
    _style.heading(
        figure,
        "How close each attack alone comes to the smallest changes known",
        _style.counted(records, _attacks.sample(records, compared)),
    )
    return figure


def _panel(axes: Axes, alone: Alone, rows: int) -> None:
    values = alone.optimality()
    order = np.argsort(-values, kind="stable")
    names = [alone.methods[index] for index in order]
    shown = np.nan_to_num(values[order])
    axes.barh(names, shown, height=0.62, color=[_style.method_color(name) for name in names])
    for row, value in enumerate(values[order]):
        axes.text(1.02, row, f"{value:.3f}", va="center", fontsize=8.5)
    axes.axvline(WEAK, color=_style.INK, linestyle=":", linewidth=1.2)
    axes.text(
        WEAK, 1.0, f"weak below {WEAK:g}", transform=axes.get_xaxis_transform(), ha="right",
        va="bottom", fontsize=8.5,
    )  # fmt: skip
    axes.set(xlim=(0.0, 1.16), ylim=(rows - 0.4, -0.6), xlabel="optimality (1: nothing is closer)")
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_title(f"{_style.NORMS[alone.norm]} norm")


CHART = Chart(
    draw=draw,
    title="Optimality of the attacks",
    reading="Local optimality as in AttackBench (Cina et al., AAAI 2025): 1 where the attack finds "
    "every image at the smallest size that anything in this run found, 0 where it finds nothing "
    "but the clean mistakes. It is the area between the attack's own curve and the lowest one "
    "known, as a share of the area that there is to win.",
    limits="It is measured against this run's other attacks, not against the truth: the best of "
    "weak attacks has 1 as well. An attack inside a ball is known at the radii of the grid and "
    "below what it found there, and at none beyond, which a minimal attack is not held to.",
    needs=_attacks.NEEDS,
    command="sweep",
)
