"""Test images, each over the bar chart of the probabilities the network gives it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _images, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


_COLUMNS = 8


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw each test image over its probabilities, eight images in a row."""
    if "test/images" not in records.panels:
        return None
    names = ("images", "labels", "probabilities")
    images, labels, probabilities = (records.panels[f"test/{name}"] for name in names)
    figure, panels = _layout(len(images))
    for (above, below), image, label, shares in zip(
        panels, images, labels, probabilities, strict=True
    ):
        _images.show(above, image)
        above.set_title(_images.verdict(shares, int(label)), loc="center", pad=2)
        _images.draw_bars(below, shares, int(label))
        below.tick_params(labelsize=6.5, length=0, pad=2)
    wrong = int(np.sum(probabilities.argmax(axis=1) != labels))
    _style.heading(
        figure,
        f"Predictions: {len(images) - wrong} of the first {len(images)} test images are right",
        _style.counted(
            records,
            f"title: true class, {_images.MARKS[True]} or {_images.MARKS[False]} and the "
            f"predicted class · seed {records.seeds[0]} · {_style.dataset(records)}",
        ),
    )
    return figure


def _layout(images: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A pair of axes per image, the probabilities right under the picture."""
    rows = -(-images // _COLUMNS)
    height = _style.HEADING + 2.05 * rows
    figure = Figure(figsize=(_style.WIDTH, height))
    outer = figure.add_gridspec(
        rows, _COLUMNS, left=0.03, right=0.995, bottom=0.22 / height,
        top=1 - (_style.HEADING + 0.17) / height, wspace=0.14, hspace=0.2,
    )  # fmt: skip
    panels = []
    for index in range(images):
        row, column = divmod(index, _COLUMNS)
        inner = outer[row, column].subgridspec(2, 1, height_ratios=(1.45, 1.0), hspace=0.06)
        above, below = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
        # One scale for the whole row is enough, and leaves the bars more room.
        below.tick_params(labelleft=column == 0)
        panels.append((above, below))
    return figure, panels


CHART = Chart(
    draw=draw,
    title="Predictions",
    reading="Under each test image stand the probabilities of the ten classes, from 0 to 1. The "
    "predicted class is green where it is right, red and hatched where it is wrong; over the image "
    "stands the true class and, after a cross, the class the network saw instead.",
    limits="A handful of images shows what mistakes look like, not how frequent they are; and a "
    "probability near 1 is not a promise, as the attacks show.",
    needs="A sweep keeps these predictions, and none was run.",
    command="sweep",
)
