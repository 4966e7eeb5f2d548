"""Attacks of one side, in a process of its own: `child SIDE SEED THREADS WORK... -- ATTACK...`.

Writes an answer and its facts for each attack as soon as it has them, beside the work, so that what
was done before an interruption or a failure is kept.
"""

import importlib
import importlib.metadata
import json
import sys
import traceback
from pathlib import Path

import numpy as np

from benchmarks.peers_attacks import SIDES, Count, Prepared, Work


def main(name: str, seed: str, threads: str, *words: str) -> None:
    side, at = SIDES[name], words.index("--")
    module = importlib.import_module(f"benchmarks.peers_attacks.{side.module}")
    versions = {library: importlib.metadata.version(library) for library in side.libraries}
    for path in map(Path, words[:at]):
        work = Work.read(path, seed=int(seed), threads=int(threads))
        prepared = module.prepare(work)
        for attack in words[at + 1 :]:
            target = path.with_suffix("") / f"{attack}.json"
            images = min(side.attacks[attack], len(work.labels))
            try:
                facts = measure(prepared, attack, images, target.with_suffix(".npy"))
            except Exception:  # noqa: BLE001 the row says so, and the other attacks go on
                facts = {"failure": traceback.format_exc(limit=-1)}
            facts |= {"versions": versions, **prepared.facts}
            target.write_text(json.dumps(facts), encoding="utf-8")


def measure(prepared: Prepared, attack: str, images: int, target: Path) -> dict[str, float]:
    """Run the attack on the first images, write its answer to `target`, and tell what it took."""
    count, batch = prepared.count, prepared.batch or images
    before = Count(count.forward, count.backward)
    slices = [slice(start, min(start + batch, images)) for start in range(0, images, batch)]
    with prepared.stopwatch() as elapsed:
        answers = [prepared.run[attack](at) for at in slices]
    np.save(target, np.concatenate(answers, axis=-2))
    return {
        "images": images,
        "seconds": elapsed.seconds,
        "compile_s": elapsed.compile_seconds,
        "forward": (count.forward - before.forward) / images,
        "backward": (count.backward - before.backward) / images,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
