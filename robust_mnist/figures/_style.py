"""One look for every figure: fonts, colours, axes in percent, headings with what was counted."""

import functools
import zlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.ticker import PercentFormatter

from robust_mnist.records import Records


P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 10.0  # inches: at the width of a README one point of text is then about one pixel
HEADING = 0.68  # inches
# Text, axes and grid. The page replaces this very colour by that of its own text, so that a figure
# follows light and dark; what has to stay dark, such as numbers on a light cell, uses another.
INK = "#1c2128"
PAPER = "#ffffff"

PALETTE: list[str] = sns.color_palette("colorblind").as_hex()
BLUE, ORANGE, GREEN, RED, PINK, BROWN, ROSE, GREY, _YELLOW, SKY = PALETTE

ALARM = "#c8102e"  # the palette's own red is an orange

# One colour per family of methods: in every figure, and on both of its norms.
METHODS: dict[str, str] = {
    "apgd100-ce": RED,
    "clean": GREY,
    "ddn100": BROWN,
    "fgm": ORANGE,
    "fgsm": ORANGE,
    "fmn100": PINK,
    "gradient-step": PINK,
    "ibp": SKY,
    "pgd40": BLUE,
}
_SPARE = (BROWN, RED, ROSE, SKY, GREEN, PINK)

NORMS: dict[str, str] = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}
EPS_LABEL: dict[str, str] = {
    "linf": "eps: largest change of any pixel\n(pixel intensity, black 0 to white 1)",
    "l2": "eps: Euclidean length of the change\n(pixel intensity, black 0 to white 1)",
    "l1": "eps: sum of the changes of all pixels\n(pixel intensity, black 0 to white 1)",
    "l0": "eps: number of pixels that change",
}

_FONT = "DejaVu Sans"  # travels with matplotlib, so a figure is the same on every machine
_RC: Any = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.family": _FONT,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "axes.grid": True,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    # Ten thousand images make ten thousand steps. Which of them to merge is settled when a line
    # is drawn, in pixels; its data stay exact.
    "path.simplify_threshold": 0.5,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color",
         "grid.color"),
        INK,
    ),
}  # fmt: skip


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Give a drawing function the look of the house, without leaving it behind for others."""

    @functools.wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return within


def method_color(name: str) -> str:
    """The colour of a method, the same in every figure and every run."""
    family, _, norm = name.rpartition("-")
    family = family if norm in NORMS else name
    # Python's own hash of a text differs from process to process.
    return METHODS.get(family, _SPARE[zlib.crc32(family.encode()) % len(_SPARE)])


def canvas(height: float, *, square: bool = False) -> Figure:
    """An empty figure whose panels keep clear of the heading and of each other.

    Args:
        height: In inches.
        square: Whether the panels are images, which keep their shape and should stand close.
    """
    engine = ConstrainedLayoutEngine(
        rect=(0.005, 0.005, 0.99, 1 - HEADING / height - 0.005), compress=square, wspace=0.03
    )
    return Figure(figsize=(WIDTH, height), layout=engine)


def heading(figure: Figure, title: str, below: str) -> None:
    """Put what is shown, and under it what was counted, over the upper left corner.

    Args:
        figure: Where to write.
        title: The content in a few words.
        below: N, the dataset and the run.
    """
    inch = 1 / figure.get_figheight()
    # The blank second line reserves the room of the second text.
    first = figure.suptitle(
        f"{plain(title)}\n ", x=0.012, y=1 - 0.08 * inch, ha="left", va="top",
        fontsize=12.5, fontweight="bold", linespacing=1.3,
    )  # fmt: skip
    second = Annotation(
        plain(below), xy=(0, 0), xycoords=first, ha="left", va="bottom", fontsize=9.5, alpha=0.8
    )
    figure.add_artist(second)


def counted(records: Records, what: str) -> str:
    """The line under a heading: what was counted, in which run, of which model."""
    return f"{what} · run {shorten(records.name)} · {records.info['model_name']}"


def dataset(records: Records) -> str:
    """The name of the dataset, fit for a heading."""
    return shorten(str(records.info["data"]["name"]))


def shorten(text: str, limit: int = 40) -> str:
    """A name that fits into a heading."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def plain(text: str) -> str:
    """Text for matplotlib as it stands: no formulas, and nothing that the font cannot draw."""
    font = _font()
    drawable = (
        letter
        if letter == "\n" or font.get_char_index(ord(letter))
        else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
    return "".join(drawable).replace("$", r"\$")


@functools.cache
def _font() -> ft2font.FT2Font:
    return font_manager.get_font(font_manager.findfont(_FONT))


def percent(axes: Axes, *, top: float = 1.0) -> None:
    """Show shares on the vertical axis in percent, from 0."""
    axes.set_ylim(0.0, top * 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def share(value: float) -> str:
    """A share in percent, to a tenth."""
    return f"{100 * value:.1f} %"


def legend_below(axes: Axes, *, columns: int = 1, drop: float = 0.22) -> None:
    """A legend under its axes, where it can hide no curve."""
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -drop), ncols=columns, borderaxespad=0.0,
        handlelength=1.8, columnspacing=1.4, labelspacing=0.35,
    )  # fmt: skip
