"""Two straight lines that enclose an activation on an interval, neuron by neuron.

Any slope is sound, for the intercept is found from the curve itself: the lowest point of
`s(t) - slope t` lies at an end of the interval or where the curve has that very slope, and those
points have closed forms. So a slope can come from a rule of thumb, a bisection that stops early or
an optimiser, and only affects how tight a line is.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from robust_mnist.models import ACTIVATIONS


# One row for each neuron's interval; lines may differ from row to row of what is bounded.
Neurons = Float[Array, "1 neurons"]
Rows = Float[Array, "rows neurons"]


class Lines(NamedTuple):
    """`low_slope z + low_at <= s(z) <= high_slope z + high_at` for z in the interval."""

    low_slope: Rows
    low_at: Rows
    high_slope: Rows
    high_at: Rows


@dataclasses.dataclass(frozen=True)
class Curve:
    """What the lines have to know of an increasing activation.

    Attributes:
        value: The activation.
        slope: Its derivative.
        at_slope: All points, or more, where it has a given slope, or a kink.
        stretch: For one that is convex below 0 and concave above, the factor that makes its slope
            that of tanh, up to scale; None for one that is convex.
        kinked: Whether it consists of two straight pieces that meet at 0.
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    at_slope: Callable[[Array], tuple[Array, ...]]
    stretch: float | None = None
    kinked: bool = False

    def slopes_between(self, low: Array, high: Array) -> tuple[Array, Array]:
        """The least and the largest slope between two points; it is flattest at one of them."""
        ends = self.slope(low), self.slope(high)
        nearest = self.slope(jnp.clip(jnp.zeros_like(low), low, high))
        least = jnp.minimum(jnp.minimum(*ends), nearest)
        return least, jnp.maximum(jnp.maximum(*ends), nearest)


def _at_slope_of_tanh(slope: Array) -> tuple[Array, ...]:
    # Solves 1 - tanh(t)^2 = slope; in this form it is accurate however flat the slope.
    within = jnp.clip(slope, jnp.finfo(slope.dtype).tiny, 1.0)
    point = jnp.log1p(jnp.sqrt(1 - within)) - jnp.log(within) / 2
    return -point, point


def _at_slope_of_softplus(slope: Array) -> tuple[Array, ...]:
    within = jnp.clip(slope, jnp.finfo(slope.dtype).tiny, 1 - jnp.finfo(slope.dtype).epsneg)
    return (jnp.log(within) - jnp.log1p(-within),)


def _sigmoid_slope(z: Array) -> Array:
    return jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)


def _kink(slope: Array) -> tuple[Array, ...]:
    return (jnp.zeros_like(slope),)


def _step(below: float) -> Callable[[Array], Array]:
    return lambda z: jnp.where(z > 0, 1.0, below).astype(z.dtype)


CURVES: dict[str, Curve] = {
    "tanh": Curve(jnp.tanh, lambda z: 1 - jnp.tanh(z) ** 2, _at_slope_of_tanh, stretch=1.0),
    "sigmoid": Curve(
        jax.nn.sigmoid,
        _sigmoid_slope,
        lambda k: tuple(2 * t for t in _at_slope_of_tanh(4 * k)),
        stretch=0.5,
    ),
    "relu": Curve(jax.nn.relu, _step(0.0), _kink, kinked=True),
    "leaky-relu": Curve(jax.nn.leaky_relu, _step(0.01), _kink, kinked=True),
    "softplus": Curve(jax.nn.softplus, jax.nn.sigmoid, _at_slope_of_softplus),
    "elu": Curve(
        jax.nn.elu,
        lambda z: jnp.exp(jnp.minimum(z, 0.0)),
        lambda k: (jnp.log(jnp.clip(k, jnp.finfo(k.dtype).tiny, 1.0)),),
    ),
}
assert set(CURVES) <= set(ACTIVATIONS)


def slopes(activation: str, low: Neurons, high: Neurons) -> tuple[Neurons, Neurons]:
    """Slopes of good lines below and above, for the interval from `low` to `high`.

    A line on the convex side of the curve is a tangent, in the middle where that is allowed; one on
    the concave side is the chord. An S-shaped curve has both sides: there the tangent touches no
    nearer to the far end than the point whose tangent meets the curve at that end.

    Reference:
        Zhang et al., "Efficient neural network robustness certification with general activation
        functions", NeurIPS 2018, for the rule; the middle as the point of touch is a choice that
        later verifiers make.
    """
    curve = CURVES[activation]
    middle, width = low + (high - low) / 2, high - low
    narrow = width < 1e-6 * (1 + jnp.abs(middle))
    rise = curve.value(high) - curve.value(low)
    chord = jnp.where(narrow, curve.slope(middle), rise / jnp.where(narrow, 1.0, width))
    if curve.stretch is None:
        return curve.slope(middle), chord
    touch_low, touch_high = _touch(high, curve.stretch), -_touch(-low, curve.stretch)
    below = curve.slope(jnp.minimum(touch_low, middle))
    above = curve.slope(jnp.maximum(touch_high, middle))
    return jnp.where(touch_low <= low, chord, below), jnp.where(touch_high >= high, chord, above)


def _touch(end: Neurons, stretch: float) -> Neurons:
    """Where the tangent of a stretched tanh through its point at `end` touches, at most 0.

    For an end of at most 0 that is the end itself. Otherwise by bisection: the tangent at d passes
    below the end's point for d = -log(1 + end), and above it for d = 0.
    """
    right = jnp.maximum(end * stretch, 0.0)
    height = jnp.tanh(right)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        value = jnp.tanh(middle)
        above = value + (1 - value**2) * (right - middle) > height
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, _ = jax.lax.fori_loop(0, 12, halve, (-jnp.log1p(right), jnp.zeros_like(right)))
    return jnp.where(end > 0, low / stretch, end)


def lines(activation: str, low: Neurons, high: Neurons, low_slope: Rows, high_slope: Rows) -> Lines:
    """The closest lines of these slopes that enclose the activation from `low` to `high`.

    Rounding: the activation is right to 16 units in the last place, of its larger end since it
    increases, or to a few of the smallest numbers where it underflows; a product and a difference
    add one unit each. A point of touch that is off by d moves the
    intercept by d^2 alone, as the slope of `s(t) - slope t` is 0 there.
    """
    curve = CURVES[activation]

    def heights(slope: Rows) -> list[Rows]:
        inner = (jnp.clip(t, low, high) for t in curve.at_slope(jax.lax.stop_gradient(slope)))
        points = [jnp.broadcast_to(end, slope.shape) for end in (low, high)]
        return [curve.value(t) - slope * t for t in [*points, *inner]]

    def slack(slope: Rows) -> Rows:
        size = jnp.maximum(jnp.abs(curve.value(low)), jnp.abs(curve.value(high)))
        far = jnp.maximum(jnp.abs(low), jnp.abs(high))
        limits = jnp.finfo(low.dtype)
        return 16 * limits.eps * (size + jnp.abs(slope) * far) + 16 * limits.tiny

    return Lines(
        low_slope,
        functools.reduce(jnp.minimum, heights(low_slope)) - slack(low_slope),
        high_slope,
        functools.reduce(jnp.maximum, heights(high_slope)) + slack(high_slope),
    )
