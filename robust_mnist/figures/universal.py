"""Universal perturbations: one change for all images of a class, or for all of them."""

import numpy as np
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _images, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


_COLUMNS = 6
_IMAGES_HEIGHT, _MATRIX_HEIGHT = 3.2, 4.6  # inches


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw the perturbation of each class and of all, and where those of pairs lead."""
    if "universal/perturbations" not in records.panels:
        return None
    panels = {
        name.removeprefix("universal/"): array
        for name, array in records.panels.items()
        if name.startswith("universal/")
    }
    height = _style.HEADING + _IMAGES_HEIGHT + _MATRIX_HEIGHT
    figure = Figure(figsize=(_style.WIDTH, height))
    split = _MATRIX_HEIGHT / height
    grid = figure.add_gridspec(
        2, _COLUMNS, left=0.01, right=0.99, bottom=split + 0.03,
        top=1 - (_style.HEADING + 0.2) / height, wspace=0.08, hspace=0.2,
    )  # fmt: skip
    names = [*map(str, range(len(panels["fooled"]) - 1)), "all"]
    rows = zip(names, panels["perturbations"], panels["fooled"], strict=True)
    for place, (name, perturbation, fooled) in enumerate(rows):
        axes = figure.add_subplot(grid[divmod(place, _COLUMNS)])
        _images.show_signed(axes, perturbation)
        axes.set_title(f"{name}: {_rate(float(fooled))}", loc="center", pad=3)
    below = figure.add_gridspec(1, 1, left=0.2, right=0.8, bottom=0.06, top=split - 0.04)
    _matrix(figure.add_subplot(below[0, 0]), panels["flow"])
    eps, count = float(panels["eps"]), int(panels["images"][-1])
    norm = _style.NORMS[str(panels.get("norm", "linf"))]  # earlier versions knew no other
    what = f"{count:,} {_style.dataset(records)} test images that are right without"
    _style.heading(
        figure,
        f"One perturbation for many images, {norm} eps {eps:g}",
        _style.counted(records, f"{what} · seed {records.seeds[0]}"),
    )
    return figure


def _rate(fooled: float) -> str:
    return "-" if np.isnan(fooled) else _style.share(fooled)


def _matrix(axes: Axes, flow: np.ndarray) -> None:
    shares = 100 * flow
    texts = np.where(shares >= 0.5, np.char.mod("%.0f", np.nan_to_num(shares)), "")
    sns.heatmap(
        shares, ax=axes, annot=texts, fmt="", cmap="Blues", vmin=0.0, vmax=100.0, cbar=False,
        square=True, annot_kws={"fontsize": 7.5}, linewidths=0.4, linecolor="#d7dce2",
    )  # fmt: skip
    axes.set_title("% of a class that its perturbation towards another takes there", loc="center")
    axes.set(xlabel="towards", ylabel="true class")
    axes.tick_params(labelsize=8, length=0, rotation=0)


CHART = Chart(
    draw=draw,
    title="Universal perturbations",
    reading="Each image is a single change, blue darker and red brighter, that was found on "
    "training images of one class, or of all, and added to every test image of that class: the "
    "number is the share of the right ones that it makes wrong. The matrix has a perturbation for "
    "each true class and class to reach, and shows the share that it takes there.",
    limits="The share is a lower bound: a better perturbation may exist. It is far below what an "
    "attack on each image alone breaks at the same eps, and says nothing about robust accuracy.",
    needs="Universal perturbations are looked for in runs with a preset, and this is none.",
    command="sweep --preset quick",
)
