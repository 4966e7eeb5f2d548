"""Grey levels as numbers: the one place where a byte becomes a pixel."""

from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8


# Dividing by 255 inside jit is turned into this multiplication, and numpy's division differs from
# it in 126 of 256 grey levels. Multiplying everywhere makes host and device agree to the last bit.
# 255 times this number is exactly 1, so the brightest pixel lies on the edge of the box.
SCALE = np.float32(1 / 255)


def to_float(images: UInt8[Any, "*shape"]) -> Float32[Any, "*shape"]:
    """Pixels in [0, 1] from grey levels, bit for bit the same on the host and on any device.

    Args:
        images: Grey levels 0..255 as bytes, of any shape; a numpy or a JAX array, traced or not.

    Returns:
        `float32(k) * float32(1 / 255)` for each grey level k, as the same kind of array. Black is
        exactly 0 and white exactly 1.
    """
    return images.astype(np.float32) * SCALE
