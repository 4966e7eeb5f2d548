"""Run every peer's training in turn, each time in a fresh process, and write what it took.

Repetitions are interleaved, every other one backwards, so that a machine that slows down or speeds
up meets all peers alike.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers_training import OURS, PEERS, summary
from robust_mnist import data, files
from robust_mnist.console import Console
from robust_mnist.figures import save
from robust_mnist.figures.peers_training import draw


ROOT = Path(__file__).resolve().parents[2]
SCHEMA = 1
NAME = "peers-training"
EPOCHS, REPEATS = 500, 3


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    console = Console()
    before = load()
    runs, failures = measure(options, console)
    environments = [run.pop("environment") for run in runs]
    about = {
        "schema": SCHEMA,
        "command": command(options),
        "epochs": options.epochs,
        "load_before": before,
        # A peer makes a load of its own, about one for each thread; what is above is other work.
        "load_highest": max((run["load"] for run in runs if run["load"] is not None), default=None),
        "environment": next(filter(None, environments), None),
        "runs": runs,
        "failures": failures,
    }
    frame = summary.summarise(runs, failures, options.peers)
    about["summary"] = json.loads(frame.reset_index().to_json(orient="records"))
    folder = options.out
    files.write_text(folder / f"{NAME}.json", json.dumps(about, indent=1) + "\n")
    files.write_text(folder / f"{NAME}.md", summary.table(frame, about))
    save(draw(frame, summary.conditions(about)), folder, NAME)
    console.note(f"wrote {NAME}.json, .md, .svg and .png")
    return int(not any(run["peer"] == OURS for run in runs))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"nox -s {NAME} --", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--epochs", type=positive, default=EPOCHS, help="default: %(default)s")
    parser.add_argument(
        "--repeats", type=positive, help=f"of each peer; default: {REPEATS}, and 1 of slow ones"
    )
    parser.add_argument(
        "--peers", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER",
        help=f"{', '.join(PEERS)}; {OURS} always runs, as what the others are compared with",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "reports/data", help="folder")
    options = parser.parse_args(argv)
    options.peers = [name for name in PEERS if name in options.peers or name == OURS]
    return options


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


def command(options: argparse.Namespace) -> str:
    """What repeats the measurement; without `--out`, whose folder is nobody else's business."""
    words = ["nox", "-s", NAME, "--", "--epochs", str(options.epochs)]
    if options.repeats:
        words += ["--repeats", str(options.repeats)]
    if options.peers != list(PEERS):
        words += ["--peers", *options.peers]
    return " ".join(words)


def schedule(peers: Sequence[str], repeats: int | None) -> Iterator[tuple[int, str]]:
    """Pairs of repetition and peer: A B C, C B A, A B C; slow ones once unless asked otherwise."""
    for repetition in range(repeats or REPEATS):
        for name in peers if repetition % 2 == 0 else reversed(peers):
            if repetition == 0 or repeats or not PEERS[name].slow:
                yield repetition, name


def measure(options: argparse.Namespace, console: Console) -> tuple[list[dict], dict[str, str]]:
    """Facts of every process that ended well, and why the others did not, in one line a peer."""
    runs, failures = [], {}
    turns = list(schedule(options.peers, options.repeats))
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder) / "data.npz")
        for done, (repetition, name) in enumerate(turns, start=1):
            if name in failures:
                continue
            console.note(f"{done}/{len(turns)} {name}, repetition {repetition + 1}")
            try:
                facts = run(name, options.epochs, repetition, Path(folder))
            except Failed as reason:
                failures[name] = str(reason)
                console.note(f"  failed: {reason}")
                continue
            runs.append({"peer": name, "repetition": repetition, "load": load()} | facts)
            console.note(f"  {facts['fit_s']:.2f} s, test accuracy {facts['accuracy']:.2%}")
    return runs, failures


def load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none to tell


def export(path: Path) -> None:
    split = data.split(data.load("mnist"), "lab")
    arrays = {}
    for name in ("train", "valid", "test"):
        part = getattr(split, name)
        arrays[f"{name}_images"] = part.images
        arrays[f"{name}_labels"] = part.labels.astype(np.int64)
    np.savez(path, **arrays)


class Failed(Exception):  # noqa: N818
    """A peer's process left no result."""


def run(name: str, epochs: int, seed: int, folder: Path) -> dict:
    """One process of one peer: what it measured, and its whole life in seconds.

    Raises:
        Failed: It did not end well.
    """
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [name, str(folder / "data.npz"), str(epochs), str(seed), str(threads), str(result)]
    with tempfile.TemporaryDirectory() as caches:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers_training.child", *words],
            cwd=ROOT,
            env=os.environ | variables(str(threads), caches),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.perf_counter() - start
    if done.returncode or not result.exists():
        raise Failed(reason(done))
    return json.loads(result.read_text(encoding="utf-8")) | {"process_s": seconds}


def variables(threads: str, caches: str) -> dict[str, str]:
    """The same threads for all, and no program read back from a cache."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "PJRT_NPROC")
    return dict.fromkeys(names, threads) | {
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_TRACEBACK_FILTERING": "off",  # or the last line of an error would be about filtering
        "TORCHINDUCTOR_CACHE_DIR": caches,
        "TRITON_CACHE_DIR": caches,
        "KERAS_HOME": caches,  # Keras would write its settings into the home folder
        "KERAS_BACKEND": "jax",
    }


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of an error, without the folders of this machine."""
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else f"ended with exit code {done.returncode}"
    return re.sub(r"(?:[A-Za-z]:)?(?:[\\/][\w.+~-]+)+[\\/]", "", last)[:200]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
