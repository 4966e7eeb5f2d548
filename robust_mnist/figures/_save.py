"""Figures on disk and as text."""

import io
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from robust_mnist import files
from robust_mnist.figures import _style


# Matplotlib writes millionths of a point; hundredths make a file half as long.
_FRACTION = re.compile(r"(?<=\.\d\d)\d+")
_PATH = re.compile(r'(?<= d=")[^"]+')
_LINE = re.compile(r"([ML]) (\S+) (\S+) ?")
_DPI = 150  # 1500 pixels across: crisp at the width of a README on a dense screen


@_style.styled
def svg(figure: Figure, name: str) -> str:
    """The figure as SVG, the same text for the same figure.

    Args:
        figure: What to write.
        name: Seed of the identifiers inside; any text.
    """
    stream = io.StringIO()
    # Letters as outlines: the reader may not have the font.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    short = lambda path: _straight(_FRACTION.sub("", path.group()))
    return _PATH.sub(short, stream.getvalue())


def _straight(path: str) -> str:
    """The same path with one number for a horizontal or vertical line: stairs are long enough."""
    found, last = [], ("", "")
    for step in path.split("\n"):
        if not (ends := _LINE.fullmatch(step)):
            found.append(step)
            last = ("", "")  # curves end where only they know
            continue
        command, x, y = ends.groups()
        if command == "L" and x == last[0]:
            found.append(f"V {y} ")
        elif command == "L" and y == last[1]:
            found.append(f"H {x} ")
        else:
            found.append(step)
        last = x, y
    return "\n".join(found)


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a figure as `<name>.svg` and `<name>.png`, each of them whole or not at all.

    Args:
        figure: What to write.
        folder: Where to; it is made if it is missing.
        name: Stem of both files.

    Returns:
        The paths of the SVG and of the PNG.
    """
    paths = folder / f"{name}.svg", folder / f"{name}.png"
    files.write_text(paths[0], svg(figure, name))
    # The panels have found their places, and finding them again would take as long as drawing.
    figure.set_layout_engine("none")
    write_png(figure, paths[1])
    return paths


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with files.writing(path) as temporary:
        temporary.write_bytes(png(figure))


@_style.styled
def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()
