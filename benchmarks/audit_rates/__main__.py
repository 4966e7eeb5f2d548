"""Measure the trust checks on sound networks and on fakes that their limits were not chosen on."""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import process
from benchmarks.audit_rates import IMAGES, NAME, networks, summary
from benchmarks.audit_rates.judging import Judged, judge, record
from benchmarks.audit_rates.networks import Sound
from benchmarks.audit_rates.variants import COUNT, Wrap, variants
from benchmarks.process import completed, positive
from robust_mnist import data, files
from robust_mnist.audit.fakes import FAKES
from robust_mnist.bench import environment
from robust_mnist.console import Console
from robust_mnist.interrupts import EXIT_CODE


SCHEMA = 1


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    console = Console()
    split = data.split(data.load("mnist"), "lab")
    sound = networks.trained(
        split, options.seed, options.images, quick=options.quick, console=console
    )
    measurement = Measurement()
    interrupted = not completed(lambda: measurement.run(turns(sound, options), console), console)
    trials = measurement.trials
    about = {
        "schema": SCHEMA,
        "command": command(options),
        "interrupted": interrupted,
        "seed": options.seed,
        "images": options.images,
        "environment": environment(),
        "rates": summary.rates(trials, measurement.thresholds),
        "fakes": summary.caught(trials),
        "trials": trials,
    }
    files.write_text(options.out / f"{NAME}.json", json.dumps(about, indent=1) + "\n")
    files.write_text(options.out / f"{NAME}.md", summary.page(about))
    console.note(f"wrote {NAME}.json and .md")
    return EXIT_CODE if interrupted else 0


Turn = tuple[str, Sound, Wrap | None]


def turns(sound: Sequence[Sound], options: argparse.Namespace) -> list[Turn]:
    """Every sound network, then every variant of a fake, each around another of them in turn."""
    count = 2 if options.quick else COUNT
    wraps = [(name, wrap) for name in FAKES for wrap in variants(name, options.seed)[:count]]
    around = itertools.cycle(sound)
    return [
        *(("sound", network, None) for network in sound),
        *((name, next(around), wrap) for name, wrap in wraps),
    ]


class Measurement:
    """What was found so far.

    Attributes:
        trials: What is kept of each network, in order.
        thresholds: By check, its limit in words.
    """

    def __init__(self) -> None:
        self.trials: list[dict[str, Any]] = []
        self.thresholds: dict[str, str] = {}

    def run(self, todo: Sequence[Turn], console: Console) -> None:
        """Take every turn.

        Raises:
            KeyboardInterrupt: The rest was not wanted; what had ended is kept.
        """
        base: dict[str, Judged] = {}
        with console.progress(NAME, len(todo)) as update:
            for done, (name, network, wrap) in enumerate(todo):
                what = f"{name} on {network.name}"
                told = lambda step, done=done, what=what: update(done, f"{what}: {step}")
                judged = judge(name, network, wrap, told)
                if wrap is None:
                    base[network.name] = judged
                inside = None if wrap is None else base[network.name]
                self.trials.append(record(judged, network, inside))
                self.thresholds |= {one["check"]: one["threshold"] for one in judged.trial.findings}
            update(len(todo), "")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"nox -s {NAME} --", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--quick", action="store_true", help="two networks, briefly trained, two variants each"
    )
    parser.add_argument("--images", type=positive, default=IMAGES, help="of each network")
    parser.add_argument(
        "--seed", type=int, default=1, help="of networks and variants; another is another sample"
    )
    parser.add_argument("--out", type=Path, default=process.ROOT / "reports/data", help="folder")
    return parser.parse_args(argv)


def command(options: argparse.Namespace) -> str:
    """What repeats the measurement; without folders, which are nobody else's business."""
    words = ["nox", "-s", NAME, "--", *(["--quick"] if options.quick else [])]
    return " ".join([*words, "--seed", str(options.seed), "--images", str(options.images)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
