"""Run every peer's training in turn, each time in a fresh process, and write what it took.

Repetitions are interleaved, every other one backwards, so that a machine that slows down or speeds
up meets all peers alike.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import process
from benchmarks.peers_training import OURS, PEERS, summary
from benchmarks.process import ROOT, Failed, load, positive, threads
from robust_mnist import data, files
from robust_mnist.console import Console
from robust_mnist.figures import save
from robust_mnist.figures.peers_training import draw


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
        "--peers", nargs="+", choices=list(PEERS), default=usual(), metavar="PEER",
        help=f"{', '.join(PEERS)}; {OURS} always runs, as what the others are compared with",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "reports/data", help="folder")
    options = parser.parse_args(argv)
    options.peers = [name for name in PEERS if name in options.peers or name == OURS]
    return options


def usual() -> list[str]:
    """Peers that can run here."""
    return [name for name, peer in PEERS.items() if not peer.gpu or shutil.which("nvidia-smi")]


def command(options: argparse.Namespace) -> str:
    """What repeats the measurement; without `--out`, whose folder is nobody else's business."""
    words = ["nox", "-s", NAME, "--", "--epochs", str(options.epochs)]
    if options.repeats:
        words += ["--repeats", str(options.repeats)]
    if options.peers != usual():
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


def export(path: Path) -> None:
    split = data.split(data.load("mnist"), "lab")
    arrays = {}
    for name in ("train", "valid", "test"):
        part = getattr(split, name)
        arrays[f"{name}_images"] = part.images
        arrays[f"{name}_labels"] = part.labels.astype(np.int64)
    np.savez(path, **arrays)


def run(name: str, epochs: int, seed: int, folder: Path) -> dict:
    """One process of one peer: what it measured, and its whole life in seconds.

    Raises:
        Failed: It did not end well.
    """
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    words = [name, str(folder / "data.npz"), str(epochs), str(seed), str(threads()), str(result)]
    seconds = process.run("benchmarks.peers_training.child", words)
    return json.loads(result.read_text(encoding="utf-8")) | {"process_s": seconds}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
