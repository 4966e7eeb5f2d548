"""Domains in which no neuron bends any more: a network is linear there, and HiGHS finds its least.

Adam approaches what is best there slowly, and branch and bound has nothing left to split.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float64
from scipy import optimize

from robust_mnist.certify._lines import CURVES
from robust_mnist.models import MLP


# What leaving a cut costs, by as much as the neuron moves in the ball, in units of all that the
# margin can change by there. It is more than a multiplier has to be, but for a domain that is
# empty: there it bounds them.
STEEP = 1e4


class Least(NamedTuple):
    """What solves a linear program, to the tolerances of HiGHS, about 1e-7.

    Attributes:
        slopes: Of all hidden neurons: with them the bound of a `Search` is the least margin. A
            neuron whose output weighs nothing has no slope that could carry a multiplier; what is
            lost by that makes the bound lower.
        margin: The least; inf where the domain is empty.
        image: Where it is reached.
    """

    slopes: Float64[np.ndarray, " neurons"]
    margin: float
    image: Float64[np.ndarray, " pixels"]


def least_margin(
    model: MLP,
    y: int,
    other: int,
    x: Float64[np.ndarray, " pixels"],
    eps: float,
    low: Float64[np.ndarray, " neurons"],
    high: Float64[np.ndarray, " neurons"],
    cut_low: Float[np.ndarray, " neurons"],
    cut_high: Float[np.ndarray, " neurons"],
) -> Least | None:
    """The least by which y's logit is above another's in an Linf ball, box and cuts.

    A neuron that is on both sides of its kink counts as straight, as in the middle of its interval:
    what comes out are then some slopes, and prove what they prove.

    Args:
        model: Network with an activation of two straight pieces.
        y: True class.
        other: The class that y is compared with.
        x: Clean image.
        eps: Radius.
        low: Lower ends of the neurons' intervals in the ball, which need no constraints.
        high: Upper ends.
        cut_low: Where the neurons' inputs were cut off below; -inf where they were not.
        cut_high: The same above.

    Returns:
        None where HiGHS finds nothing, as for weights that are not finite.
    """
    curve = CURVES[model.activation]
    left, right = (float(curve.slope(jnp.asarray(side))) for side in (-1.0, 1.0))
    low, high = np.maximum(low, cut_low), np.minimum(high, cut_high)
    steepness = np.where(low + high > 0, right, left)
    last = np.asarray(model.layers[-1].weight, np.float64)
    row = last[y] - last[other]
    ends: list[slice] = []
    maps: list[np.ndarray] = []  # of the pixels, to the inputs of each layer
    offsets: list[np.ndarray] = []
    inward, offset = None, np.zeros(x.size)
    for layer in model.layers[:-1]:
        weight, bias = np.asarray(layer.weight, np.float64), np.asarray(layer.bias, np.float64)
        start = ends[-1].stop if ends else 0
        ends.append(slice(start, start + bias.size))
        maps.append(weight if inward is None else weight @ inward)
        offsets.append(weight @ offset + bias)
        along = steepness[ends[-1]]
        inward, offset = along[:, None] * maps[-1], along * offsets[-1]
    goal = row @ inward
    rows, shift = np.concatenate(maps), np.concatenate(offsets)
    below, above = np.flatnonzero(np.isfinite(cut_low)), np.flatnonzero(np.isfinite(cut_high))
    lowest, highest = np.maximum(x - eps, 0.0), np.minimum(x + eps, 1.0)
    constraints = np.concatenate([-rows[below], rows[above]])
    limits = np.concatenate([shift[below] - low[below], high[above] - shift[above]])
    # In units of what each can change by in the ball: HiGHS has tolerances of its own.
    spans = _span(constraints, highest - lowest)
    unit = float(_span(goal[None], highest - lowest)[0])
    if not (np.all(np.isfinite(goal)) and np.all(np.isfinite(constraints)) and np.all(spans > 0)):
        return None
    solved = optimize.linprog(
        np.append(goal / unit, STEEP),
        A_ub=np.column_stack([constraints / spans[:, None], -np.ones(len(constraints))]),
        b_ub=limits / spans,
        bounds=[*zip(lowest, highest, strict=True), (0.0, None)],
        method="highs-ds",
    )
    if solved.x is None or solved.ineqlin.marginals is None:
        return None
    force = -solved.ineqlin.marginals * unit / spans
    push = np.zeros(rows.shape[0])
    np.subtract.at(push, below, force[: below.size])
    np.add.at(push, above, force[below.size :])
    slopes, weight = np.zeros(rows.shape[0]), row
    for layer, own in reversed(list(zip(model.layers[:-1], ends, strict=True))):
        multiplier = weight * steepness[own] + push[own]
        slopes[own] = np.where(weight == 0, 0.0, multiplier / np.where(weight == 0, 1.0, weight))
        weight = (weight * slopes[own]) @ np.asarray(layer.weight, np.float64)
    bias = np.asarray(model.layers[-1].bias, np.float64)
    image, outside = solved.x[:-1], solved.x[-1] > 1e-6
    margin = float(goal @ image + row @ offset + bias[y] - bias[other])
    return Least(slopes, np.inf if outside else margin, image)


def _span(rows: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """How far each can move; 1 where nothing moves it."""
    spans = np.abs(rows) @ widths
    return np.where(spans == 0, 1.0, spans)
