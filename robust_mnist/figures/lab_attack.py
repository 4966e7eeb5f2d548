"""The attack of the lab: one image, moved along the gradient of its own cross-entropy."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _images, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw a row per step: original, prediction, gradient, attacked image, prediction."""
    if "lab/image" not in records.panels:
        return None
    steps = records.panels["lab/steps"]
    figure = _style.canvas(_style.HEADING + 2.3 * len(steps), square=True)
    for row, step in zip(figure.subplots(len(steps), 5, squeeze=False), steps, strict=True):
        _draw_row(row, records, float(step))
    panel = records.info["lab_panel"]
    _style.heading(
        figure,
        _title(panel["smallest_step"], panel["searched_to"]),
        _style.counted(
            records,
            f"training image {panel['index']:,} of {_style.dataset(records)} · seed "
            f"{records.seeds[0]} · attacked images are shown unclipped",
        ),
    )
    return figure


def _title(smallest: float | None, searched_to: float) -> str:
    if smallest is None:
        return f"The lab's attack: no step up to {searched_to:.0e} fools the network"
    if smallest == 0:
        return "The lab's attack: the network is wrong without a step"
    return f"The lab's attack: step {smallest:.4g} is the smallest that fools the network"


def _draw_row(row: np.ndarray, records: Records, step: float) -> None:
    lab = {
        name.removeprefix("lab/"): array
        for name, array in records.panels.items()
        if name.startswith("lab/")
    }
    index = int(np.flatnonzero(lab["steps"] == step)[0])
    label, attacked = int(lab["label"]), lab["attacked"][index]
    original, before, gradient, moved, after = row
    _images.show(original, lab["image"])
    original.set_title(f"original: {label}", loc="center")
    original.set_ylabel(f"step {step:.4g}", fontweight="bold")
    _prediction(before, lab["probabilities"], label)
    top = _images.show_signed(gradient, lab["gradient"])
    gradient.set_title("gradient dCE/dx", loc="center")
    gradient.set_xlabel(f"blue -{top:.1e} to red {top:.1e}", fontsize=8.0)
    low, high = float(attacked.min()), float(attacked.max())
    _images.show(moved, attacked, low=low, high=high if high > low else low + 1.0)
    moved.set_title("attacked, unclipped", loc="center")
    moved.set_xlabel(f"black {low:.3g} to white {high:.3g}", fontsize=8.0)
    _prediction(after, lab["attacked_probabilities"][index], label)


def _prediction(axes: Axes, probabilities: np.ndarray, label: int) -> None:
    _images.draw_bars(axes, probabilities, label)
    axes.set_title(f"prediction: {_images.verdict(probabilities, label)}", loc="center")
    axes.set_box_aspect(1)
    axes.tick_params(labelsize=7.5, length=2)


CHART = Chart(
    draw=draw,
    title="The lab's attack",
    reading="From left to right: the last image of the training set, its prediction, the gradient "
    "of the cross-entropy with respect to its pixels, the image plus step times that gradient, and "
    "the prediction for it. The smallest step that fools the network was found by doubling and "
    "bisection.",
    limits="The attacked image is shown as the lab shows it, unclipped: its pixels may leave the "
    "range from 0 to 1. Every measured result on this page uses the image clipped to that range. "
    "One image says nothing about the others, and a step is not a size: the same step moves "
    "another image by another distance.",
    needs="No sweep was run.",
    command="sweep",
)
