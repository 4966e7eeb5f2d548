"""`thorough` beside the parts of AutoAttack, at one radius: who breaks what, and for how much.

In a process of its own: `strength SEED THREADS REPEATS WORK...`, which writes what it found beside
each work. Both sides are ours, so that they differ in nothing but the attacks: the parts of
AutoAttack standard have the settings of their authors, run in their order, and each takes only the
images that those before it left. What they break and `thorough` does not is attacked again with ten
times its steps.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.peers_attacks import LAB, Work
from benchmarks.peers_attacks.networks import mlp
from benchmarks.peers_attacks.ours import in_stages
from robust_mnist.attacks import ATTACKS
from robust_mnist.clock import stopwatch
from robust_mnist.config import PRESETS
from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.sweep import break_batch, method_key


IMAGES = 1000
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


def main(seed: str, threads: str, repeats: str, *paths: str) -> None:
    for path in map(Path, paths):
        work = Work.read(path, seed=int(seed), threads=int(threads))
        model = mlp(work.weights, work.biases, work.activation)
        count = min(IMAGES, len(work.labels))
        part = Part(work.images[:count], work.labels[:count].astype(np.uint8), np.arange(count))
        # The other networks are there for what is broken; the first one is timed.
        turns = int(repeats) if path.stem == LAB else 1
        for norm in RADIUS:
            found = compare(model, part, norm, repeats=turns, seed=int(seed))
            target = path.with_name(f"{path.stem}-{norm}.json")
            target.write_text(json.dumps({"network": path.stem, **found}), encoding="utf-8")


def section(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The part of the page, as lines of Markdown."""
    if not rows:
        return []
    head = (
        "network", "norm", "eps", "images", "standing", "AutoAttack leaves", "missed",
        "found with 10 x", "alone", "backward", "of AutoAttack's", "seconds", "of AutoAttack's",
    )  # fmt: skip
    reading = (
        "Both with our code, so that both count and time alike: each part "
        "of AutoAttack runs with its settings, in its order, on the images that those before it "
        "left. `missed`: broken by them and not by `thorough`; `found with 10 x`: of these, by "
        f"{BUDGET} times the steps of `thorough`; `alone`: broken by `thorough` only. `backward` "
        "passes are for each image attacked, everything counted; seconds are medians without "
        "compilation."
    )
    lines = [
        "## Strength: thorough beside the parts of AutoAttack standard",
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
    return lines


if __name__ == "__main__":
    main(*sys.argv[1:])
