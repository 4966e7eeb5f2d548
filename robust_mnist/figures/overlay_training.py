"""Training curves of several runs, one panel per metric."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from robust_mnist.figures import _runs, _style, training
from robust_mnist.figures._chart import Overlay
from robust_mnist.records import Records


@_style.styled
def draw(runs: Sequence[Records]) -> Figure | None:
    """Draw a panel per metric with a line per run."""
    trained = [(i, records) for i, records in enumerate(runs) if not records.history.empty]
    if not trained:
        return None
    figure = _style.canvas(7.6)
    labels = _runs.labels(runs)
    panels = list(figure.subplots(2, 2, sharex=True).flat)
    for axes, (column, (label, _color, _line)) in zip(
        panels, training.METRICS.items(), strict=True
    ):
        for index, records in trained:
            color, line = _runs.look(index)
            training.draw_metric(
                axes, records.history, column, label=labels[index], color=color, linestyle=line
            )
        axes.set_title(label.replace(" (share)", ""))
        training.plain_numbers(axes, log_y=column != "valid_accuracy")
    panels[3].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    for axes in panels[2:]:
        axes.set_xlabel("epoch")
    _style.legend_below(panels[2], columns=2, drop=0.2)
    several = any(training.count_seeds(records.history) > 1 for _, records in trained)
    bands = "; line and band: mean and range of the networks" if several else ""
    _style.heading(figure, "Training curves", f"{len(trained)} runs{bands}")
    return figure


OVERLAY = Overlay(
    draw=draw,
    title="Training curves",
    reading="One panel per metric, one line per run; with several seeds the line is their mean and "
    "the band their range.",
    limits="Runs that saw other training or validation images are not comparable here.",
    needs="None of the runs holds a training record.",
)
