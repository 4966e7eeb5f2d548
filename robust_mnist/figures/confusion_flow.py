"""Where the classes go: true class against the class reached, at growing eps."""

import numpy as np
import seaborn as sns  # type: ignore[import-untyped]
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _curves, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Radii, Records


# Shares of the clean accuracy that are left at the radii shown, beside eps = 0.
_LEVELS = (0.75, 0.4, 0.05)


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw a row of matrices per norm, one for each of a few radii."""
    norms = _curves.swept(records)
    if not norms or "flow/labels" not in records.panels:
        return None
    labels = records.panels["flow/labels"]
    figure = _style.canvas(_style.HEADING + 2.95 * len(norms), square=True)
    panels = figure.subplots(len(norms), len(_LEVELS) + 1, squeeze=False)
    for row, norm in zip(panels, norms, strict=True):
        radii = records.radii_of(norm)
        shown = spread_radii(radii, _curves.grid(records, norm), len(row))
        for axes, eps in zip(row, shown, strict=False):
            _panel(axes, radii, labels, norm, eps)
        for axes in row[len(shown) :]:
            axes.remove()
    networks = f", mean of {len(records.seeds)} networks" if len(records.seeds) > 1 else ""
    _style.heading(
        figure,
        "Which class the closest wrong image reaches",
        _style.counted(
            records,
            f"{labels.size:,} {_style.dataset(records)} test images, in % of their class{networks}",
        ),
    )
    return figure


def spread_radii(radii: list[Radii], grid: list[float], count: int) -> list[float]:
    """Radii of the grid that show the fall of the worst case: 0, and the closest to each level."""
    eps = np.asarray(grid)
    worst = np.mean([one.attacked_accuracy(eps) for one in radii], axis=0)
    nearest = {int(np.argmin(np.abs(worst - level * worst[0]))) for level in _LEVELS}
    return [grid[index] for index in sorted({0, *nearest})][:count]


def flow(
    radii: list[Radii], labels: Integer[np.ndarray, " images"], eps: float
) -> Float[np.ndarray, "classes classes"]:
    """Share of each true class that ends in each class at `eps`, over all networks.

    An image that no attack broke within `eps` stays in its own class.
    """
    counts = np.zeros((10, 10))
    for one in radii:
        reached = np.where(one.upper > eps, labels, one.reached)
        np.add.at(counts, (labels, reached), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _panel(axes: Axes, radii: list[Radii], labels: np.ndarray, norm: str, eps: float) -> None:
    shares = 100 * flow(radii, labels.astype(np.int64), eps)
    # Numbers under 5 % would be a carpet of digits; the shade still shows them.
    texts = np.where(shares >= 4.5, np.char.mod("%.0f", shares), "")
    sns.heatmap(
        shares, ax=axes, annot=texts, fmt="", cmap="Blues", vmin=0.0, vmax=100.0, cbar=False,
        square=True, annot_kws={"fontsize": 6.5}, linewidths=0.4, linecolor="#d7dce2",
    )  # fmt: skip
    right = np.mean([np.mean(one.upper > eps) for one in radii])
    axes.set_title(
        f"{_style.NORMS[norm]} eps {eps:g}: {_style.share(float(right))} right", fontsize=9.5
    )
    axes.tick_params(labelsize=7.5, length=0, rotation=0)
    axes.set(xlabel="class reached", ylabel="true class")
    axes.label_outer()


CHART = Chart(
    draw=draw,
    title="Confusion flow",
    reading="Each row of a matrix is a true class and sums to 100 %; the diagonal holds the images "
    "that no attack broke within eps, every other cell the class that the closest wrong image "
    "found is taken for. At eps 0 this is the ordinary confusion matrix.",
    limits="The class reached is that of the closest wrong image some attack found, not of every "
    "wrong image there is; another attack of equal strength may reach another class.",
    needs="No sweep was run.",
    command="sweep",
)
