"""Numbers from foreign files, checked before they become bytes."""

from typing import Any

import numpy as np
from jaxtyping import Num


SAVE_LEVELS = "save the grey levels 0..255 instead"


def first_wrong(
    values: Num[np.ndarray, "*shape"], largest: int | Num[np.ndarray, "..."]
) -> tuple[int, ...] | None:
    """Where the first value is that is not a whole number from 0 to `largest`.

    Args:
        values: Numbers of any kind, NaN and infinity included.
        largest: The largest good value, or one for each column.

    Returns:
        The indices of the first bad value in row-major order; `None` when all are good.
    """
    # NaN fails every comparison. Integers are whole, and `floor` would copy them for nothing.
    good = (values >= 0) & (values <= largest)
    if values.dtype.kind == "f":
        good &= np.floor(values) == values
    if good.all():
        return None
    return tuple(int(index) for index in np.unravel_index(np.argmin(good), good.shape))


def complaint(kind: str, value: Any, largest: int) -> str:
    """What is wrong with a label or a pixel, and what to do about it.

    Args:
        kind: `"label"` or `"pixel"`.
        value: The bad number.
        largest: The largest good one.
    """
    text = f"{kind} {value:g} is not a whole number from 0 to {largest}"
    if kind == "pixel" and 0 < value < 1:
        return f"{text}, so the images seem to be scaled to 0..1; {SAVE_LEVELS}"
    return f"{text}; correct it or drop the image"
