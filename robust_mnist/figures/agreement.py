"""Which attack breaks what: pairs of attacks against each other, and what one alone breaks."""

import numpy as np
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _attacks, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Alone, Records


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw per norm a heat map of all pairs, and beside each row what that attack broke alone."""
    compared = _attacks.compared(records)
    if not compared:
        return None
    heights = [1.3 + 0.34 * len(alone.methods) for alone in compared]
    figure = _style.canvas(_style.HEADING + sum(heights))
    grid = figure.subplots(
        len(compared), 2, squeeze=False, height_ratios=heights, width_ratios=(3, 1)
    )
    for (pairs, bars), alone in zip(grid, compared, strict=True):
        order = np.argsort(-alone.broken(alone.eps).sum(axis=1), kind="stable")
        _draw_pairs(pairs, alone, order)
        _draw_only(bars, alone, order)
    _style.heading(
        figure,
        "Which attack breaks what the others miss",
        _style.counted(records, _attacks.sample(records, compared)),
    )
    return figure


def _draw_pairs(axes: Axes, alone: Alone, order: np.ndarray) -> None:
    shares = 100 * alone.missed(alone.eps)[np.ix_(order, order)]
    names = [alone.methods[index] for index in order]
    texts = np.char.mod("%.1f", shares)
    sns.heatmap(
        shares, ax=axes, annot=texts, fmt="", cmap="Blues", vmin=0.0, vmax=max(shares.max(), 1.0),
        cbar=False, mask=np.eye(len(names), dtype=bool), linewidths=0.4, linecolor="#d7dce2",
        annot_kws={"fontsize": 8.0 if len(names) < 9 else 7.0}, xticklabels=names,
        yticklabels=names,
    )  # fmt: skip
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    axes.set_xticks(axes.get_xticks(), names, rotation=25, ha="right")
    axes.set(xlabel="missed by", ylabel="broken by")
    axes.set_title(f"{_style.NORMS[alone.norm]}, eps {alone.eps:g}: % of the images")


def _draw_only(axes: Axes, alone: Alone, order: np.ndarray) -> None:
    shares = 100 * alone.only(alone.eps)[order]
    rows = np.arange(len(order)) + 0.5  # where the rows of the heat map beside it are
    colors = [_style.method_color(alone.methods[index]) for index in order]
    bars = axes.barh(rows, shares, height=0.62, color=colors)
    axes.bar_label(bars, [f"{share:.1f}" for share in shares], padding=3, fontsize=8.5)
    axes.set(ylim=(len(order), 0), xlabel="% of the images", xlim=(0, max(shares.max(), 0.5) * 1.3))
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.set_title("broken by it alone")


CHART = Chart(
    draw=draw,
    title="Agreement of the attacks",
    reading="A cell is the share of the images that the attack of its row breaks within eps and "
    "that of its column does not; a pale column is a strong attack, a dark one misses much. The "
    "bars are what an attack breaks and no other does: without it the worst case would be that "
    "much higher. Of the radii at which all of them ran, eps is the one at which about half of the "
    "right answers are left.",
    limits="Every attack ran on the same images, the control sample where there is one; attacks "
    "that ran only where the bounds were open take no part. Attacks that agree may all be wrong: "
    "only a certificate rules out what none of them found.",
    needs=_attacks.NEEDS,
    command="sweep",
)
