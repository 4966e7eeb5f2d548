"""A peer's process: its environment, its end, and how busy the machine was."""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from robust_mnist.console import Console


ROOT = Path(__file__).resolve().parents[1]


class Failed(Exception):  # noqa: N818
    """A process left no result."""


def threads() -> int:
    """Those that every peer computes with."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run(module: str, words: Sequence[str]) -> float:
    """Run a module with arguments, and tell its whole life in seconds.

    Raises:
        Failed: It ended with another exit code than 0.
    """
    with tempfile.TemporaryDirectory() as caches:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env=os.environ | variables(str(threads()), caches),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.perf_counter() - start
    if done.returncode:
        raise Failed(reason(done))
    return seconds


def variables(threads: str, caches: str) -> dict[str, str]:
    """The same threads for all, and no program read back from a cache."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "PJRT_NPROC")
    return dict.fromkeys(names, threads) | {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_TRACEBACK_FILTERING": "off",  # or the last line of an error would be about filtering
        "TORCHINDUCTOR_CACHE_DIR": caches,
        "TRITON_CACHE_DIR": caches,
        "NUMBA_CACHE_DIR": caches,
        "KERAS_HOME": caches,  # Keras would write its settings into the home folder
        "KERAS_BACKEND": "jax",
    }


def again(command: str, *, networks: bool) -> str:
    """What repeats a measurement, on further networks as well."""
    folder = "ROBUST_MNIST_NETWORKS=FOLDER " if networks else ""
    return f"Again: `{folder}{command}`"


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of an error, without the folders of this machine."""
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}"
    return last_line(done.stderr) or f"ended with exit code {done.returncode}"


def last_line(text: str) -> str:
    """The last line of a traceback, without the folders of this machine; "" of nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"(?:[A-Za-z]:)?(?:[\\/][\w.+~-]+)+[\\/]", "", lines[-1])[:200] if lines else ""


def completed(work: Callable[[], object], console: Console) -> bool:
    """Whether work ends by itself; after a Ctrl-C what it has measured is there to be written."""
    try:
        work()
    except KeyboardInterrupt:
        console.note("interrupted: what was measured is written")
        return False
    return True


def load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none to tell


def positive(text: str) -> int:
    """A whole number from 1 on, as an argument of a command line."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)
