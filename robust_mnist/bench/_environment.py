"""What a result depends on besides the settings."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax

from robust_mnist.records import commit


LIBRARIES = ("jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "jaxtyping", "seaborn")


def environment() -> dict[str, Any]:
    """Device, versions and threads; never the host's name.

    Returns:
        JSON values: `platform` and `device_kind` of JAX's default device, `device_count`, `cpu`,
        `threads` (processors this process may use), `python`, `system`, `machine`, `versions` by
        library, `xla_flags`, `commit`.
    """
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind if device.platform != "cpu" else _cpu(),
        "device_count": jax.device_count(),
        "cpu": _cpu(),
        "threads": _threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": commit(),
    }


def devices() -> list[dict[str, Any]]:
    """The devices JAX sees, each with its memory in bytes where the device tells."""
    found = []
    for device in jax.devices():
        memory = device.memory_stats() or {}
        found.append(
            {
                "id": device.id,
                "platform": device.platform,
                "kind": device.device_kind if device.platform != "cpu" else _cpu(),
                "memory": memory.get("bytes_limit"),
            }
        )
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
