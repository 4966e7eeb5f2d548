"""The device that work really lands on, and whether it is the one that was asked for."""

import os

import jax
import numpy as np

from robust_mnist.errors import WrongDevice


def device_in_use() -> jax.Device:
    """Where JAX puts an array that nobody placed; the first device unless a default was set."""
    [device] = jax.device_put(np.zeros((), np.float32)).devices()
    return device


def wrong_device(asked: str) -> str | None:
    """What is wrong with the device in use, if anything.

    JAX is silent about it where a second choice is named: `JAX_PLATFORMS=cuda,cpu` runs on the CPU
    of a machine without a GPU, and a timing taken there would pass for one of the GPU.

    Args:
        asked: Value of `JAX_PLATFORMS`; of several kinds the first counts, and of none, anything
            goes.

    Returns:
        One line for the user, or None if the device is of the kind asked for.
    """
    kind = asked.partition(",")[0].strip()
    try:
        used = device_in_use()
        # JAX compares, because it knows the names: a CUDA device says that its platform is "gpu".
        if not kind or used in jax.devices(kind):
            return None
    except Exception as error:  # noqa: BLE001 which one depends on JAX's version and on the plugin
        return _unusable(asked, error)
    return f"JAX_PLATFORMS={asked} asks for {kind}, but the device in use is {used.platform}"


def check_device() -> None:
    """Start JAX on its device. A second choice will do: where nothing is timed, it was wanted.

    Raises:
        WrongDevice: JAX can use no device, or none that `JAX_PLATFORMS` asks for.
    """
    try:
        device_in_use()
    except Exception as error:
        raise WrongDevice(_unusable(os.environ.get("JAX_PLATFORMS", ""), error)) from error


def _unusable(asked: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or "it found none"
    if not asked:
        return f"JAX can use no device here: {reason}"
    return f"JAX_PLATFORMS={asked} asks for a device that JAX cannot use here: {reason}"
