"""Foolbox's attacks, the same on every framework it knows."""

from collections.abc import Callable
from typing import Any

import foolbox
import numpy as np

from benchmarks.peers_attacks import RADII, REL_STEP_SIZE, STEPS, TIMED, norm_of


def attacks(model: foolbox.Model, stack: Callable[[list[Any]], Any]) -> dict[str, Callable]:
    """By name, of images and labels; `stack` joins what is found at each radius."""
    fb = foolbox.attacks
    ball = {
        TIMED: fb.LinfPGD(rel_stepsize=REL_STEP_SIZE, steps=STEPS),
        "pgd40-ce-l2": fb.L2PGD(rel_stepsize=REL_STEP_SIZE, steps=STEPS),
    }
    minimal = {
        "deepfool50-linf": fb.LinfDeepFoolAttack(steps=50),
        "deepfool50-l2": fb.L2DeepFoolAttack(steps=50),
        "ddn100-l2": fb.DDNAttack(steps=100),
        "fmn100-linf": fb.LInfFMNAttack(steps=100, max_stepsize=10.0),
        "cw5x200-l2": fb.L2CarliniWagnerAttack(
            binary_search_steps=5, steps=200, stepsize=0.05, initial_const=0.1
        ),
    }

    def at_radii(attack: foolbox.Attack, norm: str) -> Callable:
        radii = list(RADII[norm])
        return lambda images, labels: stack(attack(model, images, labels, epsilons=radii)[1])

    found = {name: at_radii(attack, norm_of(name)) for name, attack in ball.items()}
    for name, attack in minimal.items():
        found[name] = lambda images, labels, attack=attack: attack(
            model, images, labels, epsilons=None
        )[0]
    return found


def others(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """For each image the first one that the network takes for something else."""
    return (predicted[None, :] != labels[:, None]).argmax(axis=1)
