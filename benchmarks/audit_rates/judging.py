"""A network attacked and checked: our verdicts, and the numbers that others' limits take."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from benchmarks.audit_rates import OTHERS, RISE, SWEEP
from benchmarks.audit_rates.networks import Sound
from benchmarks.audit_rates.variants import Wrap, program
from robust_mnist import audit
from robust_mnist.attacks import CrossEntropy
from robust_mnist.audit import Evidence
from robust_mnist.audit._probe import logits_of
from robust_mnist.audit.fakes import FAKES
from robust_mnist.audit.noise import kinds_of
from robust_mnist.audit.optimality import baseline, nearness, optimality
from robust_mnist.audit.selftest import Outcome, Trial, attacked
from robust_mnist.records import Contradiction
from robust_mnist.threat import Linf


@dataclasses.dataclass(frozen=True)
class Judged:
    """What was found of one network.

    Attributes:
        trial: What our checks said, as the self-test keeps it.
        curves: Accuracy at every radius by attack, and of all of them; empty where it stopped.
        usual: By check, the number that the usual limit takes where it is not ours.
    """

    trial: Trial
    curves: dict[str, np.ndarray]
    usual: dict[str, float]


def judge(name: str, sound: Sound, wrap: Wrap | None, told: Callable[[str], None]) -> Judged:
    """Attack and check a network, or the fake that `wrap` makes of it."""
    fakes = [None if wrap is None else wrap(inside) for inside in (sound.model, sound.sibling)]
    about = "the network itself" if fakes[0] is None else fakes[0].about
    model, sibling = (
        program(inside, fake)
        for inside, fake in zip((sound.model, sound.sibling), fakes, strict=True)
    )
    due = {} if wrap is None else FAKES[name].due
    told("sweep")
    try:
        evidence = attacked(model, sound.part, SWEEP)
    except Contradiction as found:
        return Judged(Trial(name, about, None, [], str(found), due), {}, {})
    evidence = dataclasses.replace(evidence, seeds=2, siblings=(sibling,))
    usual = {"G13-unstable": _loss_change(evidence), "G22-optimality": -_weakest(evidence)}
    findings = audit.audit(evidence, told)
    if wrap is None:
        usual["G8-noise"] = _noise_10000(evidence)
        # In other norms attacks differ more, and a limit for attacks has to hold there as well.
        others = attacked(sound.model, sound.part, OTHERS)
        usual["G22-optimality"] = max(usual["G22-optimality"], -_weakest(others))
        findings = [_worse(one, others) for one in findings]
    trial = Trial(name, about, None, findings, due=due)
    return Judged(trial, _curves(evidence), usual)


def record(judged: Judged, sound: Sound, base: Judged | None) -> dict[str, Any]:
    """What is kept of a trial, as JSON values; `base` is the network inside a fake."""
    trial = judged.trial
    facts = {
        "fake": trial.name if base else None,
        "network": sound.name,
        "about": trial.about,
        "stopped": bool(trial.stopped),
        "checks": {one["check"]: [one["verdict"], one["number"]] for one in trial.findings},
        "usual": judged.usual,
    }
    if base is None:
        return facts | {"accuracy": sound.accuracy}
    outcome = Outcome(base.trial, [trial])
    rises = [np.max(curve - base.curves[name]) for name, curve in judged.curves.items()]
    rise = float(max(rises)) if rises else None
    return facts | {
        "rise": rise,
        "rises": rise is None or rise > RISE,
        "caught": outcome.caught(trial),
        "caught_by": outcome.caught_by(trial),
    }


def _curves(evidence: Evidence) -> dict[str, np.ndarray]:
    found = {}
    for norm, radii in evidence.radii.items():
        eps = np.unique(evidence.rows.eps[evidence.rows.norm == norm])
        standing = lambda sizes, eps=eps: np.mean(sizes[:, None] > eps, axis=0)
        found |= {name: standing(sizes) for name, sizes in evidence.own[norm].items()}
        found[f"all-{norm}"] = standing(radii.upper)
    return found


def _weakest(evidence: Evidence) -> float:
    """How near the weakest attack of many steps comes to all together, in any norm."""
    return min(
        nearness(own, evidence.radii[norm].upper)
        for norm, methods in evidence.own.items() for name, own in methods.items()
        if not baseline(name)
    )  # fmt: skip


def _worse(finding: dict[str, Any], others: Evidence) -> dict[str, Any]:
    """The answer of G22 where it is worse in other norms; any other as it is."""
    if finding["check"] != "G22-optimality":
        return finding
    there = optimality(others)
    assert there is not None
    return min(finding, finding | there.as_dict(), key=lambda one: one["number"])


def _loss_change(evidence: Evidence, draws: int = 100) -> float:
    """How much noise of 8/255 changes the cross-entropy, relative to itself and by 1 at most.

    The mean over draws and over the images that the network gets right.
    """
    probe = evidence.probe
    assert probe is not None
    labels = probe.part.labels.astype(np.int32)

    @jax.jit
    def noisy(pixels: Array, key: Array) -> Array:
        draw = lambda x, k: Linf().sample(k, x.size, jnp.asarray(8 / 255, x.dtype))
        change = jax.vmap(draw)(pixels, jax.random.split(key, len(pixels)))
        return jnp.clip(pixels + change, 0.0, 1.0)

    def loss(pixels: np.ndarray) -> np.ndarray:
        logits = jnp.asarray(logits_of(probe.model, pixels))
        return np.asarray(jax.vmap(CrossEntropy())(logits, jnp.asarray(labels)), np.float64)

    clean = loss(probe.pixels)
    right = np.argmax(logits_of(probe.model, probe.pixels), axis=1) == labels
    keys = jax.random.split(jax.random.fold_in(probe.key, 8255), draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = [
            np.abs(loss(np.asarray(noisy(probe.pixels, key))) - clean) / np.abs(clean)
            for key in keys
        ]
    # A loss of nothing that stays nothing has not changed.
    return float(np.mean(np.minimum(np.nan_to_num(changes, nan=0.0), 1.0)[:, right]))


def _noise_10000(evidence: Evidence) -> float:
    """Share of images that 10,000 draws of every kind of noise break and the run has not broken.

    The larger of both norms'.
    """
    shares = []
    for norm, probe in evidence.probes.items():
        new = np.zeros(probe.count, bool)
        for kind in kinds_of(norm):
            new |= probe.attack(dataclasses.replace(kind, samples=10_000)).broken & ~probe.known
        shares.append(float(np.mean(new)))
    return max(shares)
