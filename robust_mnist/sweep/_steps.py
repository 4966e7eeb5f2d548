"""Step attacks: accuracy against the length of the step, and the smallest step that fools."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import PRNGKeyArray

from robust_mnist.attacks import AbstractStepAttack
from robust_mnist.data import Part
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep._driver import step_batch


FIRST, LAST, PER_DECADE = 1e-2, 1e16, 2
FLOOR = 0.05


def step_sweep(
    attack: AbstractStepAttack, model: AbstractClassifier, part: Part, key: PRNGKeyArray
) -> Iterator[tuple[float, int]]:
    """Images still right after a step, for steps from 1e-2 until accuracy is under 5 %.

    Every image is clipped to [0, 1]. A network with vanishing gradients may never get there, so
    the sweep ends at 1e16 in any case, or at the largest step that the attack knows.

    Args:
        attack: What is run.
        model: Classifier under attack.
        part: Images as stored, labels and indices.
        key: Randomness of the method.

    Yields:
        Step and number of right images.
    """
    largest = min(attack.largest_step, LAST)
    first, last = round(math.log10(FIRST) * PER_DECADE), round(math.log10(largest) * PER_DECADE)
    for exponent in range(first, last + 1):
        step = 10.0 ** (exponent / PER_DECADE)
        margins, _ = step_batch(
            attack, model, part.images, part.labels, ids=part.ids, step=step, key=key
        )
        correct = int(np.sum(~(margins <= 0)))  # NaN is never a success of the attack
        yield step, correct
        if correct < FLOOR * len(part.labels):
            return


def smallest_step(fools: Callable[[float], bool], *, tolerance: float = 1e-3) -> float | None:
    """The smallest step that fools, by doubling from 1e-2 up to 1e16 and then bisection.

    Args:
        fools: Whether a step of this length makes the network wrong.
        tolerance: Relative width at which the bisection ends.

    Returns:
        A step that fools, at most `tolerance` above one that does not; 0 if the network is wrong
        without one; None if none was found.
    """
    if fools(0.0):
        return 0.0
    step = FIRST
    low = 0.0
    while not fools(step):
        if step == LAST:
            return None
        low, step = step, min(2 * step, LAST)
    high = step
    while high - low > tolerance * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fools(middle) else (middle, high)
    return high
