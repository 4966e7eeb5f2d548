"""Single images and their bar charts of probabilities, as several figures show them."""

import io

import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.axes import Axes
from matplotlib.image import AxesImage, imsave

from robust_mnist.figures import _style


RIGHT, WRONG = _style.GREEN, _style.ALARM
MARKS = {True: "✓", False: "✗"}


def show(
    axes: Axes, image: Num[np.ndarray, " pixels"], *, low: float = 0.0, high: float = 255.0
) -> AxesImage:
    """Draw an image in grey, without axes.

    Args:
        axes: Where to draw.
        image: Flattened square image.
        low: Value that is shown black.
        high: Value that is shown white.
    """
    return _draw(axes, image, cmap="gray", low=low, high=high)


def show_signed(axes: Axes, image: Num[np.ndarray, " pixels"]) -> float:
    """Draw a signed image, blue below zero and red above, without axes.

    Returns:
        The value behind the darkest red; its negative stands behind the darkest blue.
    """
    top = float(np.max(np.abs(image)))
    _draw(axes, image, cmap="vlag", low=-(top or 1.0), high=top or 1.0)
    return top


def _draw(
    axes: Axes, image: Num[np.ndarray, " pixels"], *, cmap: str, low: float, high: float
) -> AxesImage:
    side = round(image.size**0.5)
    frame(axes)
    return axes.imshow(
        image.reshape(side, side), cmap=cmap, vmin=low, vmax=high, interpolation="none"
    )


def frame(axes: Axes) -> None:
    """Leave nothing of the axes but a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.5, alpha=0.4)


def draw_bars(axes: Axes, probabilities: Float[np.ndarray, " classes"], label: int) -> None:
    """Draw the probabilities of the classes; the predicted one is green if right, red if wrong.

    A wrong bar is hatched as well, for eyes that cannot tell the two colours apart.

    Args:
        axes: Where to draw.
        probabilities: One per class.
        label: True class.
    """
    classes = np.arange(probabilities.size)
    bars = axes.bar(classes, probabilities, color=_style.BLUE, width=0.8, linewidth=0)
    predicted = int(np.argmax(probabilities))
    bars[predicted].set_facecolor(RIGHT if predicted == label else WRONG)
    if predicted != label:
        bars[predicted].set(hatch="////", edgecolor=_style.PAPER)
    axes.set(xlim=(-0.7, probabilities.size - 0.3), ylim=(0.0, 1.0), yticks=[0.0, 0.5, 1.0])
    axes.set_xticks(classes, [str(number) for number in classes])
    axes.grid(visible=False, axis="x")


def verdict(probabilities: Float[np.ndarray, " classes"], label: int) -> str:
    """The true class, whether the prediction is right, and what it is where it is wrong."""
    predicted = int(np.argmax(probabilities))
    if predicted == label:
        return f"{label} {MARKS[True]}"
    return f"{label} {MARKS[False]} {predicted}"


def thumbnail(image: UInt8[np.ndarray, " pixels"]) -> bytes:
    """A flattened square image of 0 to 255 as PNG, pixel by pixel."""
    side = round(image.size**0.5)
    stream = io.BytesIO()
    # A colour map would shift some grey levels by one.
    colors = np.repeat(image.reshape(side, side, 1), 3, axis=2)
    imsave(stream, colors, format="png", metadata={"Software": None})  # type: ignore[dict-item]
    return stream.getvalue()
