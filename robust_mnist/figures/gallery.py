"""The least and the most robust test digit of every class, with the change that breaks it."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.data.pixels import to_float
from robust_mnist.figures import _curves, _images, _style
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


_CLASSES = 10
_ROWS = ("original", "closest\nwrong image", "difference")
_KINDS = ("least robust", "most robust")


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw, per norm, three rows for the least and three for the most robust digits."""
    norms = [norm for norm in _style.NORMS if f"gallery/{norm}/images" in records.panels]
    if not norms:
        return None
    blocks = [(norm, kind) for norm in norms for kind in range(len(_KINDS))]
    block_height, top = 3.5, _style.HEADING
    height = top + block_height * len(blocks)
    figure = Figure(figsize=(_style.WIDTH, height))
    for index, (norm, kind) in enumerate(blocks):
        upper = 1 - (top + block_height * index) / height
        lower = 1 - (top + block_height * (index + 1)) / height
        _block(figure, records, norm, kind, upper, lower)
    what = f"{records.info['data']['test']:,} {_style.dataset(records)} test images"
    _style.heading(
        figure,
        "The least and the most robust test digit of each class",
        _style.counted(records, f"among the right answers on {what} · seed {records.seeds[0]}"),
    )
    return figure


def _block(
    figure: Figure, records: Records, norm: str, kind: int, upper: float, lower: float
) -> None:
    inch = 1 / figure.get_figheight()
    figure.text(
        0.012, upper - 0.03 * inch, f"{_style.NORMS[norm]}: {_KINDS[kind]}", va="top",
        fontweight="bold",
    )  # fmt: skip
    grid = figure.add_gridspec(
        len(_ROWS), _CLASSES, left=0.085, right=0.995, top=upper - 0.45 * inch,
        bottom=lower + 0.32 * inch, wspace=0.06, hspace=0.06,
    )  # fmt: skip
    last = _curves.grid(records, norm)
    digits = _digits(records, norm, kind)
    for column in range(_CLASSES):
        panels = [figure.add_subplot(grid[row, column]) for row in range(len(_ROWS))]
        if column in digits:
            _column(panels, *digits[column], tried=last[-1] if last else float("nan"))
        else:
            panels[0].set_title(f"{column}\nnone right", loc="center", fontsize=8.5, pad=2)
            for axes in panels:
                _nothing(axes, "-")
        if column == 0:
            for axes, name in zip(panels, _ROWS, strict=True):
                axes.set_ylabel(name, fontsize=8.5)


def _digits(records: Records, norm: str, kind: int) -> dict[int, tuple[Any, ...]]:
    """Image, witness, label, class reached and radius by class; a class without any is absent."""
    names = ("images", "witnesses", "labels", "reached", "upper")
    arrays = [records.panels[f"gallery/{norm}/{name}"] for name in names]
    half = len(arrays[0]) // len(_KINDS)
    rows = zip(*(array[kind * half : (kind + 1) * half] for array in arrays), strict=True)
    return {int(row[2]): row for row in rows}


def _column(
    panels: list[Axes], image: np.ndarray, witness: np.ndarray, label: np.integer,
    reached: np.integer, upper: np.floating, *, tried: float,
) -> None:  # fmt: skip
    original, found, difference = panels
    _images.show(original, image)
    if not np.isfinite(upper):
        original.set_title(f"{label}\nnone up to {tried:g}", loc="center", fontsize=8.5, pad=2)
        for axes in (found, difference):
            _nothing(axes, "none\nfound")
        return
    original.set_title(f"{label} → {reached}\nr ≤ {upper:.3g}", loc="center", fontsize=8.5, pad=2)
    _images.show(found, witness, high=1.0)
    top = _images.show_signed(difference, witness - to_float(image))
    difference.set_xlabel(f"±{top:.2g}", fontsize=8.0, labelpad=2)


def _nothing(axes: Axes, text: str) -> None:
    _images.frame(axes)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8)


CHART = Chart(
    draw=draw,
    title="Least and most robust digits",
    reading="Of every class the right answer that the smallest change breaks, and the one that "
    "needs the largest. The title gives the true class, the class reached and the size r of the "
    "change; below stand the closest wrong image found and its difference from the original, blue "
    "darker and red brighter, each on its own scale.",
    limits="r is an upper bound on the robust radius: a closer wrong image may exist. Where none "
    "was found, nothing is proved. The extremes of a test set say little about its middle.",
    needs="No sweep was run.",
    command="sweep",
)
