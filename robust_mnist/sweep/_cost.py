"""What attacks cost, in passes of one image through the network."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robust_mnist.arithmetic import passes
from robust_mnist.attacks import AbstractMinimalAttack, AbstractStepAttack
from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.sweep._driver import Search, _nearer


# Of the clean image, and of the answer as it came, shortened and refined; a step's alone.
_JUDGED, _STEPS_JUDGED = 4, 1


class Passes(NamedTuple):
    """What one run of an attack on one image costs."""

    forward: float
    backward: float


def cost(attack: Search | AbstractStepAttack, model: AbstractClassifier) -> Passes:
    """Passes through the network that a run on one image takes; NaN for other than an MLP."""

    def run(x: Any, y: Any) -> Any:
        key = jax.random.key(0)
        if isinstance(attack, AbstractMinimalAttack):
            return attack(model, x, y, key=key)
        if isinstance(attack, AbstractStepAttack):
            return attack(model, x, y, step=jnp.ones(()), key=key)
        return attack(model, x, y, eps=jnp.ones(()), key=key)

    return _passes(run, model)


def driver_cost(attack: Search | AbstractStepAttack, model: AbstractClassifier) -> Passes:
    """`cost` with all that the driver does to an answer: it is shortened, refined and judged."""
    alone = cost(attack, model)
    if isinstance(attack, AbstractStepAttack):
        return Passes(alone.forward + _STEPS_JUDGED, alone.backward)
    ball = attack.ball
    after = _passes(lambda x, y: _nearer(ball, model, x[None], x[None], y[None]), model)
    return Passes(alone.forward + after.forward + _JUDGED, alone.backward + after.backward)


def _passes(run: Any, model: AbstractClassifier) -> Passes:
    """Passes of a function of an image and its label."""
    if not isinstance(model, MLP):
        return Passes(math.nan, math.nan)
    width, pixels = model.layers[0].weight.shape
    program = jax.make_jaxpr(run)(jnp.zeros(pixels), jnp.zeros((), jnp.int32))
    return Passes(*passes(program, (pixels, width)))
