"""Training curves: four metrics against the epoch, both axes logarithmic."""

import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from robust_mnist.figures import _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


# Column of the history: its name in the legend, colour and line. The lines differ in more than
# colour, since the validation accuracy is not in the unit of the others.
METRICS: dict[str, tuple[str, str, str]] = {
    "train_cross_entropy": ("training cross-entropy (nats)", _style.BLUE, "-"),
    "valid_cross_entropy": ("validation cross-entropy (nats)", _style.ORANGE, "-"),
    "valid_mse": ("validation mean squared error", _style.GREEN, "--"),
    "valid_accuracy": ("validation accuracy (share)", _style.PINK, "-."),
}


@_style.styled
def training_curves(history: pd.DataFrame, below: str = "") -> Figure:
    """Draw the training curves from a history alone, finished or not.

    Args:
        history: One row per record and seed, with at least the columns of `METRICS` and `epoch`.
        below: What stands under the heading.
    """
    figure = _style.canvas(5.4)
    axes = figure.subplots()
    seeds = draw_metrics(axes, history)
    _style.heading(figure, title(history), below or spread_note(seeds))
    axes.set(xlabel="epoch", ylabel="value")
    axes.margins(x=0.01)
    if seeds > 1:
        axes.set_title(spread_note(seeds), fontsize=9.5)
    _style.legend_below(axes, columns=2, drop=0.14)
    return figure


def draw_metrics(axes: Axes, history: pd.DataFrame) -> int:
    """Draw a line per metric, and the range over the seeds if there are several.

    Returns:
        The number of seeds.
    """
    for column, (label, color, style) in METRICS.items():
        draw_metric(axes, history, column, label=label, color=color, linestyle=style)
    plain_numbers(axes)
    return count_seeds(history)


def plain_numbers(axes: Axes, *, log_y: bool = True) -> None:
    """Make axes that hold their lines logarithmic, labelled 0.1 and 1, not 10 to the power."""
    axes.set(xscale="log", yscale="log" if log_y else "linear")
    if not any(np.size(line.get_xdata()) for line in axes.lines):
        axes.set(xlim=(1.0, 10.0), ylim=(0.1, 1.0))  # nothing positive to scale to, so far
    _label(axes.xaxis, *axes.get_xlim())
    if log_y:
        _label(axes.yaxis, *axes.get_ylim())


def _label(axis: Axis, low: float, high: float) -> None:
    # Over more than three decades 0.2 and 0.5 would stand on top of each other.
    steps = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_metric(
    axes: Axes, history: pd.DataFrame, column: str, *, label: str, color: str, linestyle: str = "-"
) -> None:
    """Draw one metric: its mean over the seeds, within the range from worst to best seed."""
    # A logarithmic axis has no place for epoch 0, nor for a loss that has reached 0.
    shown = history[(history["epoch"] > 0) & (history[column] > 0)]
    several = count_seeds(history) > 1
    name = axes.get_ylabel()
    sns.lineplot(
        shown, x="epoch", y=column, ax=axes, color=color, linestyle=linestyle, label=label,
        # All of the distribution: from the lowest to the highest seed.
        errorbar=("pi", 100) if several else None, err_kws={"alpha": 0.22, "linewidth": 0},
        # A line of one point would be invisible.
        marker="o" if len(set(shown["epoch"])) == 1 else None, linewidth=1.8, legend=False,
    )  # fmt: skip
    axes.set_ylabel(name)  # seaborn writes the name of the column


def title(history: pd.DataFrame) -> str:
    """The last epoch and the validation accuracy there, as in the lab."""
    epoch = history["epoch"].max()
    accuracy = history.loc[history["epoch"] == epoch, "valid_accuracy"]
    if len(accuracy) == 1:
        return f"Training: epoch {epoch}, validation accuracy {_style.share(accuracy.iloc[0])}"
    return (
        f"Training: epoch {epoch}, validation accuracy {_style.share(accuracy.mean())} "
        f"({_style.share(accuracy.min())} to {_style.share(accuracy.max())})"
    )


def spread_note(seeds: int) -> str:
    """What a line and its band are."""
    if seeds == 1:
        return "one network"
    return f"lines: mean of {seeds} networks; bands: from the lowest to the highest of them"


def count_seeds(history: pd.DataFrame) -> int:
    """The number of networks in a history."""
    return int(history["seed"].nunique()) if "seed" in history else 1


def draw(records: Records) -> Figure | None:
    """Draw the training curves of a run."""
    if records.history.empty:
        return None
    data = records.info["data"]
    what = f"{data['train']:,} training and {data['valid']:,} validation images"
    below = _style.counted(records, f"{what} of {_style.dataset(records)}")
    return training_curves(records.history, below)


CHART = Chart(
    draw=draw,
    title="Training curves",
    reading="Both axes are logarithmic. The distance between training and validation "
    "cross-entropy is the overfitting; the mean squared error compares the ten probabilities "
    "with the one-hot label. With several seeds the line is their mean and the band their range.",
    limits="The validation images are few, so the last digit of the validation accuracy is noise; "
    "the test images play no part here.",
    needs="This run holds no training record.",
    command="train",
)
