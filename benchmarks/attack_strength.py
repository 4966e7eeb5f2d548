"""`thorough` beside the parts of AutoAttack, at one radius: who breaks what, and for how much.

Both sides are ours, so that they differ in nothing but the attacks: the parts of AutoAttack
standard have the settings of their authors, run in their order, and each takes only the images that
those before it left. What they break and `thorough` does not is attacked again with ten times its
steps. What was measured before an interruption is written.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import process
from benchmarks.peers_attacks import LAB, networks
from benchmarks.peers_attacks.ours import in_stages
from benchmarks.process import completed, load, positive
from robust_mnist import data, files
from robust_mnist.attacks import ATTACKS
from robust_mnist.bench import environment
from robust_mnist.clock import stopwatch
from robust_mnist.config import PRESETS
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.interrupts import EXIT_CODE
from robust_mnist.models import MLP
from robust_mnist.sweep import break_batch, method_key


SCHEMA = 1
NAME = "attack-strength"
SEED = 0
RADIUS = {"linf": 0.03, "l2": 0.6}
THOROUGH, AUTO_ATTACK = "thorough", "autoattack"
BUDGET = 10


def methods(side: str, norm: str) -> tuple[str, ...]:
    """Names of attacks, in their order."""
    if side == THOROUGH:
        return PRESETS[THOROUGH].stages[norm]
    names = ("apgd100-ce", "apgd100-targeted", "fab100-targeted", "square5000")
    return tuple(f"{name}-{norm}" for name in names)


def longer(attack: Any, times: int) -> Any:
    """The same attack with so many times its steps."""
    own = {field.name: getattr(attack, field.name) for field in dataclasses.fields(attack)}
    more = {name: times * own[name] for name in ("steps", "queries") if name in own}
    if "attack" in own:
        more["attack"] = longer(own["attack"], times)
    return dataclasses.replace(attack, **more)


def compare(model: MLP, part: Part, norm: str, *, repeats: int, seed: int) -> dict[str, Any]:
    """Both sides on all images, in turns, and those that `thorough` missed once more.

    Returns:
        `missed` holds a row for each image that the parts of AutoAttack break and `thorough` does
        not: the size that broke it, and the closest that ten times the steps of `thorough` find,
        None where they find no wrong image in the ball.
    """
    eps, key = RADIUS[norm], jax.random.key(seed)
    sides: dict[str, dict[str, Any]] = {}
    for repetition in range(repeats):
        order = (THOROUGH, AUTO_ATTACK)
        for side in order if repetition % 2 == 0 else reversed(order):
            with stopwatch() as elapsed:
                bounds, spent = in_stages(model, part, norm, methods(side, norm), (eps,), key=key)
            facts = sides.setdefault(side, {"seconds": [], "compile_s": elapsed.compile_seconds})
            facts["seconds"].append(elapsed.seconds)
            facts["size"], facts["spent"] = bounds.radii.upper, spent
    broken = {side: facts["size"] <= eps for side, facts in sides.items()}
    places = np.flatnonzero(broken[AUTO_ATTACK] & ~broken[THOROUGH])
    again = np.full(len(places), np.inf)
    for method in methods(THOROUGH, norm) if len(places) else ():
        attack = longer(ATTACKS[method], BUDGET)
        tried = part.take(places)
        cell = break_batch(
            attack, model, tried.images, tried.labels,
            ids=tried.ids, eps=eps, key=method_key(key, f"{method} again"),
        )  # fmt: skip
        again = np.fmin(again, np.where(cell.size <= eps, cell.size, np.inf))
    return {
        "norm": norm,
        "eps": eps,
        "images": len(part.labels),
        "sides": {
            side: {
                "standing": float(np.mean(~broken[side])),
                "forward": facts["spent"].forward / len(part.labels),
                "backward": facts["spent"].backward / len(part.labels),
                "seconds": facts["seconds"],
                "compile_s": facts["compile_s"],
            }
            for side, facts in sides.items()
        },
        "alone": np.flatnonzero(broken[THOROUGH] & ~broken[AUTO_ATTACK]).tolist(),
        "missed": [
            {
                "image": int(place),
                "autoattack": float(sides[AUTO_ATTACK]["size"][place]),
                "again": float(found) if np.isfinite(found) else None,
            }
            for place, found in zip(places, again, strict=True)
        ],
    }


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    console = Console()
    split = data.split(data.load("mnist"), "lab")
    try:
        models = {LAB: networks.lab(options.run, split)}
        models |= {name: networks.read(path) for name, path in networks.named().items()}
    except InputError as error:
        console.note(str(error))
        return 2
    part = split.test.take(np.arange(min(options.images, len(split.test.labels))))
    before = load()
    rows: list[dict[str, Any]] = []

    def run() -> None:
        with console.progress("networks and norms", len(models) * len(RADIUS)) as update:
            for name, model in models.items():
                # The other networks are there for what is broken; the first one is timed.
                repeats = options.repeats if name == LAB else 1
                for norm in RADIUS:
                    found = compare(model, part, norm, repeats=repeats, seed=SEED)
                    rows.append({"network": name, **found, "load": load()})
                    update(len(rows), f"{name}, {norm}: {len(found['missed'])} missed")

    interrupted = not completed(run, console)
    about = {
        "schema": SCHEMA,
        "command": f"nox -s {NAME} -- --images {options.images} --repeats {options.repeats}",
        "interrupted": interrupted,
        "load_before": before,
        "environment": environment(),
        "rows": rows,
    }
    files.write_text(options.out / f"{NAME}.json", json.dumps(about, indent=1) + "\n")
    files.write_text(options.out / f"{NAME}.md", page(about))
    console.note(f"wrote {NAME}.json and .md")
    return EXIT_CODE if interrupted else 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"nox -s {NAME} --", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--images", type=positive, default=1000, help="default: 1000")
    parser.add_argument(
        "--repeats", type=positive, default=5, help="on the lab's network; default: 5"
    )
    parser.add_argument("--run", type=Path, help="folder of a trained run; default: train one")
    parser.add_argument("--out", type=Path, default=process.ROOT / "reports/data", help="folder")
    return parser.parse_args(argv)


def page(about: Mapping[str, Any]) -> str:
    rows, where = about["rows"], about["environment"]
    head = (
        "network", "norm", "eps", "images", "standing", "AutoAttack leaves", "missed",
        "found with 10 x", "alone", "backward", "of AutoAttack's", "seconds", "of AutoAttack's",
        "compilation (s)", "of AutoAttack (s)", "runs",
    )  # fmt: skip
    reading = (
        "Both with our code, so that both count and time alike: each part "
        "of AutoAttack runs with its settings, in its order, on the images that those before it "
        "left. `missed`: broken by them and not by `thorough`; `found with 10 x`: of these, by "
        f"{BUDGET} times the steps of `thorough`; `alone`: broken by `thorough` only. `backward` "
        "passes are for each image attacked, everything counted; seconds are medians of runs in "
        "turns without compilation, which stands beside them."
    )
    loads = [row["load"] for row in rows if row["load"] is not None]
    lines = [
        "# The preset thorough beside the parts of AutoAttack standard",
        "",
        (
            f"{where['device_kind']}, {where['threads']} threads; load average up to "
            f"{max(loads, default=math.nan):.2f}, the own threads among it."
        ),
        *(["", "Interrupted: what follows is not all that was asked for."] * about["interrupted"]),
        "",
        reading,
        "",
        "| " + " | ".join(head) + " |",
        "| " + " | ".join(["---"] * len(head)) + " |",
    ]
    for row in rows:
        ours, theirs = row["sides"][THOROUGH], row["sides"][AUTO_ATTACK]
        seconds = {name: float(np.median(side["seconds"])) for name, side in row["sides"].items()}
        cells = (
            row["network"], row["norm"], f"{row['eps']:g}", str(row["images"]),
            f"{ours['standing']:.2%}", f"{theirs['standing']:.2%}", str(len(row["missed"])),
            str(sum(one["again"] is not None for one in row["missed"])), str(len(row["alone"])),
            f"{ours['backward']:.0f}", f"{ours['backward'] / theirs['backward']:.0%}",
            f"{seconds[THOROUGH]:.2f}", f"{seconds[THOROUGH] / seconds[AUTO_ATTACK]:.0%}",
            f"{ours['compile_s']:.1f}", f"{theirs['compile_s']:.1f}", str(len(ours["seconds"])),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for row in rows:
        for one in row["missed"]:
            found = "not found again" if one["again"] is None else f"{one['again']:.6f} with 10 x"
            lines.append(
                f"- {row['network']}, image {one['image']}: AutoAttack at {one['autoattack']:.6f} "
                f"in {row['norm']}, {found}"
            )
    return "\n".join(
        [*lines, "", process.again(about["command"], networks=len(rows) > len(RADIUS)), ""]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
