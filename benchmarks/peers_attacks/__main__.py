"""Run every side's attacks on the same weights and images, judge them alike, write what they found.

First the race: one attack, repetitions interleaved, every other one backwards, so that a machine
that slows down or speeds up meets all sides alike. Then all other attacks once, and the networks
of a folder. What was measured before an interruption is written.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import process
from benchmarks.peers_attacks import (
    LAB,
    NETWORKS,
    OURS,
    QUICK,
    RADII,
    SIDES,
    SLOW,
    Work,
    networks,
    norm_of,
    summary,
)
from benchmarks.peers_attacks.judge import judge
from benchmarks.process import Failed, completed, load, positive, threads
from robust_mnist import data, files
from robust_mnist.console import Console
from robust_mnist.errors import InputError
from robust_mnist.figures import save
from robust_mnist.figures.peers_attacks import draw
from robust_mnist.interrupts import EXIT_CODE
from robust_mnist.models import MLP


SCHEMA = 1
NAME = "peers-attacks"
IMAGES, REPEATS, QUICK_IMAGES = 10_000, 5, 200
SEED = 0


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    console = Console()
    try:
        measurement = Measurement(options, console)
    except InputError as error:
        console.note(str(error))
        return 2
    before = load()
    interrupted = not completed(measurement.run, console)
    runs = measurement.runs
    about = {
        "schema": SCHEMA,
        "command": command(options),
        "interrupted": interrupted,
        "images": len(measurement.part.labels),
        "radii": RADII,
        "load_before": before,
        # A side makes a load of its own, about one for each thread; what is above is other work.
        "load_highest": max((run["load"] for run in runs if run["load"] is not None), default=None),
        "environment": next(filter(None, (run.pop("environment", None) for run in runs)), None),
        "runs": runs,
        "failures": measurement.failures,
        "flags": summary.flags(runs, measurement.sizes),
    }
    frame = summary.summarise(runs, measurement.failures, options.peers)
    folder = options.out
    files.write_text(folder / f"{NAME}.json", json.dumps(about, indent=1) + "\n")
    files.write_text(folder / f"{NAME}.md", summary.page(frame, about))
    save(draw(summary.race(frame), summary.conditions(about)), folder, NAME)
    console.note(f"wrote {NAME}.json, .md, .svg and .png")
    if interrupted:
        return EXIT_CODE
    return int(not any(run["side"] == OURS for run in runs))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"nox -s {NAME} --", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_IMAGES} images, 1 repetition, few attacks"
    )
    parser.add_argument("--images", type=positive, help=f"default: {IMAGES}")
    parser.add_argument("--repeats", type=positive, help=f"of the race; default: {REPEATS}")
    parser.add_argument(
        "--peers", nargs="+", choices=list(SIDES), default=list(SIDES), metavar="PEER",
        help=f"{', '.join(SIDES)}; {OURS} always runs, as what the others are compared with",
    )  # fmt: skip
    parser.add_argument("--run", type=Path, help="folder of a trained run; default: train one")
    parser.add_argument("--out", type=Path, default=process.ROOT / "reports/data", help="folder")
    options = parser.parse_args(argv)
    options.peers = [name for name in SIDES if name in options.peers or name == OURS]
    options.images = options.images or (QUICK_IMAGES if options.quick else IMAGES)
    options.repeats = options.repeats or (1 if options.quick else REPEATS)
    return options


def command(options: argparse.Namespace) -> str:
    """What repeats the measurement; without folders, which are nobody else's business."""
    words = ["nox", "-s", NAME, "--", *(["--quick"] if options.quick else [])]
    words += ["--images", str(options.images), "--repeats", str(options.repeats)]
    if options.peers != list(SIDES):
        words += ["--peers", *options.peers]
    return " ".join(words)


@dataclasses.dataclass(frozen=True)
class Turn:
    """One process: a side, the attacks it runs, and on which networks."""

    side: str
    attacks: tuple[str, ...]
    networks: tuple[str, ...] = (LAB,)
    repetition: int = 0

    def __str__(self) -> str:
        where = "" if self.networks == (LAB,) else f" on {len(self.networks)} networks"
        return f"{self.side}: {', '.join(self.attacks)}{where}, repetition {self.repetition + 1}"


def schedule(
    sides: Sequence[str], repeats: int, quick: bool, others: Sequence[str]
) -> Iterator[Turn]:
    """The race, A B C, C B A, A B C; then what is left of each side; then the other networks."""
    chosen = lambda side: [name for name in SIDES[side].attacks if not quick or name in QUICK]
    for repetition in range(repeats):
        for side in sides if repetition % 2 == 0 else reversed(sides):
            if timed := tuple(name for name in chosen(side) if name in SIDES[side].timed):
                yield Turn(side, timed, repetition=repetition)
    for side in sides:
        if left := tuple(name for name in chosen(side) if name not in SIDES[side].timed):
            yield Turn(side, left)
    for side in sides:
        if others and (there := tuple(name for name in chosen(side) if name in NETWORKS)):
            yield Turn(side, there, tuple(others))


class Measurement:
    """The networks, and what has been found so far.

    Attributes:
        runs: Facts of every attack that ended, in the order they ran.
        sizes: By network, side and attack, the float64 size of the closest wrong images.
        failures: By side, or by side and attack, why there is no result.
    """

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        split = data.split(data.load("mnist"), "lab")
        self.part = split.test.take(np.arange(min(options.images, len(split.test.labels))))
        found = networks.named()
        self.models: dict[str, MLP] = {LAB: networks.lab(options.run, split)}
        self.models |= {name: networks.read(path) for name, path in found.items()}
        self.runs: list[dict[str, Any]] = []
        self.sizes: dict[tuple[str, str, str], np.ndarray] = {}
        self.failures: dict[str, str] = {}

    def run(self) -> None:
        """Take every turn.

        Raises:
            KeyboardInterrupt: The rest was not wanted; what had ended is kept.
        """
        others = [name for name in self.models if name != LAB]
        turns = list(schedule(self.options.peers, self.options.repeats, self.options.quick, others))
        for done, turn in enumerate(turns, start=1):
            if turn.side in self.failures:
                continue
            self.console.note(f"{done}/{len(turns)} {turn}")
            with tempfile.TemporaryDirectory() as folder:
                try:
                    self.take(turn, Path(folder))
                finally:
                    self.collect(turn, Path(folder))

    def take(self, turn: Turn, folder: Path) -> None:
        paths = []
        for name in turn.networks:
            paths.append(folder / f"{name}.npz")
            (folder / name).mkdir()
            self.work(name).write(paths[-1])
        words = [turn.side, str(SEED), str(threads()), *map(str, paths), "--", *turn.attacks]
        try:
            process.run("benchmarks.peers_attacks.child", words)
        except Failed as reason:
            self.failures[turn.side] = str(reason)
            self.console.note(f"  not run: {reason}")

    def work(self, name: str) -> Work:
        model, part = self.models[name], self.part
        count = len(part.labels) if name == LAB else min(SLOW, len(part.labels))
        return Work(
            tuple(np.asarray(layer.weight) for layer in model.layers),
            tuple(np.asarray(layer.bias) for layer in model.layers),
            model.activation, part.images[:count], part.labels[:count].astype(np.int64),
            SEED, threads(),
        )  # fmt: skip

    def collect(self, turn: Turn, folder: Path) -> None:
        """Judge what a process has left behind, however it ended."""
        for name in turn.networks:
            for attack in turn.attacks:
                told = folder / name / f"{attack}.json"
                if not told.is_file():
                    continue
                facts = json.loads(told.read_text(encoding="utf-8"))
                if "failure" in facts:
                    reason = process.last_line(facts["failure"])
                    self.failures[f"{turn.side} {attack}"] = reason
                    self.console.note(f"  {attack} failed: {reason}")
                    continue
                self.judge(turn, name, attack, facts, told.with_suffix(".npy"))
            shutil.rmtree(folder / name, ignore_errors=True)

    def judge(
        self, turn: Turn, name: str, attack: str, facts: dict[str, Any], answer: Path
    ) -> None:
        work, norm = self.work(name), norm_of(attack)
        verdict = judge(
            self.models[name], norm, work.pixels, work.labels, np.load(answer), RADII[norm]
        )
        accuracy = [float(np.mean(verdict.size > eps)) for eps in RADII[norm]]
        who = {"network": name, "side": turn.side, "attack": attack}
        found = {
            "accuracy": accuracy,
            "infeasible": verdict.infeasible,
            "excess": verdict.excess if np.isfinite(verdict.excess) else None,
        }
        self.runs.append(who | {"repetition": turn.repetition, "load": load()} | facts | found)
        self.sizes.setdefault((name, turn.side, attack), verdict.size)
        middle = len(accuracy) // 2
        self.console.note(
            f"  {name} {attack}: {facts['seconds']:.2f} s, "
            f"{accuracy[middle]:.2%} standing at {RADII[norm][middle]:g}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
