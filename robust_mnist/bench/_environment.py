"""What a result depends on besides the settings."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from robust_mnist.bench._device import device_in_use
from robust_mnist.records import commit


_VECTORS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}  # the widest first
LIBRARIES = ("jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "jaxtyping", "seaborn")


def environment() -> dict[str, Any]:
    """Device, versions and threads; never the host's name.

    Returns:
        JSON values: `platform` and `device_kind` of the device in use, `device_count`, `cpu`,
        `threads` (those JAX computes with on a CPU), `python`, `system`, `machine`, `versions` by
        library, `plugin` (what drives the device, with its version; empty for a CPU), `xla_flags`,
        `matmul_precision`, `x64`, `commit`.
    """
    device = device_in_use()
    settings: Any = jax.config  # its values are attributes that no type checker sees
    return {
        "platform": device.platform,
        "device_kind": device.device_kind if device.platform != "cpu" else _cpu(),
        "device_count": jax.device_count(device.platform),
        "cpu": _cpu(),
        "threads": _threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "plugin": _plugin(device),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": str(settings.jax_default_matmul_precision or "default"),
        "x64": bool(settings.jax_enable_x64),
        "commit": commit(),
    }


def environment_key(about: Mapping[str, Any]) -> str:
    """A short name for everything besides the code that a timing depends on.

    Timings are comparable within one key only. Python and the other libraries are not part of it:
    the work is done in what XLA compiled.

    Args:
        about: What `environment` returned, here or elsewhere.

    Returns:
        The platform and ten hexadecimal digits, such as `cpu-0a1b2c3d4e`; usable as a folder name.
    """
    names = (
        "device_kind", "device_count", "threads", "plugin", "xla_flags", "matmul_precision", "x64",
    )  # fmt: skip
    parts = {name: about[name] for name in names}
    parts |= {name: about["versions"][name] for name in ("jax", "jaxlib")}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{about['platform']}-{digest[:10]}"


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


def _plugin(device: jax.Device) -> str:
    if device.platform == "cpu":
        return ""  # the plugin of an accelerator that is not in use changes nothing
    found = importlib.metadata.entry_points(group="jax_plugins")  # where JAX looks for them
    dists = [plugin.dist for plugin in found if plugin.dist is not None]
    return " ".join(sorted(f"{dist.name}-{dist.version}" for dist in dists))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = lambda key: [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
    name, flags = (next(iter(told(key)), "") for key in ("model name", "flags"))
    # Rented machines of one name differ by several times where their vectors do.
    widest = next((words for flag, words in _VECTORS.items() if flag in flags.split()), "")
    return f"{name or platform.machine()}{widest and f' ({widest})'}"


def _threads() -> int:
    # XLA reads these two, in this order, before it counts processors.
    for name in ("PJRT_NPROC", "NPROC"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
