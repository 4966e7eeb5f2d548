"""G19: the network gives logits, and the same ones when asked again."""

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.audit._probe import logits_of


PASSES = 5


def logits(evidence: Evidence) -> Finding | None:
    """Largest difference between five passes over the same images, relative to the largest logit.

    An attack on a network that draws at random aims at something that has moved: average over its
    draws, or fix them. Probabilities in place of logits saturate, and leave no gradient where the
    network is sure: give what goes into the softmax.

    Reference:
        The limits are those of AutoAttack's checks.
    """
    probe = evidence.probe
    if probe is None:
        return None
    passes = np.array([logits_of(probe.model, probe.pixels) for _ in range(PASSES)], np.float64)
    size = np.max(np.abs(passes))
    difference = float(np.max(np.ptp(passes, axis=0)) / (size if size > 0 else 1.0))
    total = np.abs(passes.sum(axis=-1) - 1.0).max()
    softmax = bool(passes.min() > -1e-5 and passes.max() < 1 + 1e-5 and total < 1e-5)
    steady = difference <= 1e-4
    return Finding(
        title="the network gives logits, the same ones each time",
        verdict="ok" if steady and not softmax else "fail",
        number=difference,
        threshold="fail above 0.0001, or if the outputs are probabilities",
        meaning=(
            "The outputs lie in [0, 1] and add up to 1: they are probabilities."
            if softmax
            else f"Relative difference of {PASSES} passes; attacks aim at a network that stays."
        ),
    )
