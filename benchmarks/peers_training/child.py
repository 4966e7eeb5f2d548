"""One fit of one peer, in a process of its own: `child PEER DATA EPOCHS SEED THREADS RESULT`."""

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path

from benchmarks.peers_training import PEERS, Work


def main(name: str, data: str, epochs: str, seed: str, threads: str, result: str) -> None:
    peer = PEERS[name]
    module = importlib.import_module(f"benchmarks.peers_training.{peer.module}")
    work = Work.read(Path(data), epochs=int(epochs), seed=int(seed), threads=int(threads))
    fit = module.fit(work)
    facts = {
        "fit_s": fit.fit_s,
        "compile_s": fit.compile_s,
        "accuracy": float(fit.correct.mean()),
        "images": len(fit.correct),
        "threads": fit.threads,
        "environment": fit.environment,
        "versions": {library: importlib.metadata.version(library) for library in peer.libraries},
    }
    Path(result).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
