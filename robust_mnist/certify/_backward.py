"""Linear bounds carried backwards from rows over a hidden layer to the pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_mnist.certify._intervals import affine, outwards
from robust_mnist.certify._lines import Lines, lines, slopes
from robust_mnist.models import ACTIVATIONS, MLP
from robust_mnist.threat import AbstractBall, Linf


# The widest layer that a bound has room for.
MOST_TERMS = 2**20


class Hidden(NamedTuple):
    """A hidden layer and what is known of it on a ball.

    Attributes:
        weight: From the layer below.
        bias: The same.
        low: Lower bounds on its inputs z.
        high: Upper bounds on them.
        size: Bounds on |weight| |a| + |bias|, a the outputs below: no partial sum of z is larger.
        lines: What encloses its activation, one row for all or one for each.
    """

    weight: Float[Array, "neurons below"]
    bias: Float[Array, " neurons"]
    low: Float[Array, " neurons"]
    high: Float[Array, " neurons"]
    size: Float[Array, " neurons"]
    lines: Lines


def lowest(
    rows: Float[Array, "rows neurons"],
    offset: Float[Array, " rows"],
    layers: Sequence[Hidden],
    ball: AbstractBall,
    x: Float[Array, " pixels"],
    eps: Float[Array, ""],
) -> Float[Array, " rows"]:
    """Lower bounds on `rows @ a + offset` over ball and box, a the outputs of the last layer.

    Where a row is positive a neuron is replaced by its line below, where negative by that above,
    layer by layer, until the rows weigh pixels.

    Rounding: let u be half a unit in the last place. The rows after a step are `rows' = fl(w W)`
    with `w = fl(rows * slope)`. The first differs from the exact product by n u |w| |W| at most, n
    the neurons summed over, and the second by u |w|; multiplied by what they weigh, by
    (n + 1) u |w| size. The sums of intercepts and biases differ by n u (|rows| |intercepts| +
    |w| |bias|). All of these are added up and taken twice, and 16 more than n each, which covers
    terms of order u^2, the sum of the sums, and the rounding of the slack itself. What the pixels
    add is rounded down where it is computed. What underflows is covered by `vanished`.

    Reference:
        Zhang et al., "Efficient neural network robustness certification with general activation
        functions", NeurIPS 2018. Rounding: Higham, "Accuracy and stability of numerical
        algorithms", sections 3.1 and 3.5.

    Args:
        rows: What is asked of the outputs of the last of `layers`, or of the pixels.
        offset: Added to it.
        layers: Hidden layers, the one next to the pixels first.
        ball: Norm of the ball.
        x: Clean image.
        eps: Radius.
    """
    carried = Carried(rows, offset, jnp.zeros_like(offset))
    for layer in reversed(layers):
        carried = through_layer(through_activation(carried, layer), layer)
    value, slack = over_ball(carried, ball, x, eps)
    return value - slack


def vanished(sizes: Float[Array, " neurons"]) -> Float[Array, ""]:
    """What products that underflow can change in a bound.

    XLA replaces each by 0, an error of at most the smallest normal number. An entry of a row is a
    sum of up to `MOST_TERMS` products. It is multiplied by an input z of its neuron, or by an
    output, which is at most |z| + 1 for every activation among `CURVES`.

    Args:
        sizes: Bounds on |z|, neuron by neuron.

    Raises:
        ValueError: The layer is wider than `MOST_TERMS`.
    """
    if sizes.size > MOST_TERMS:
        raise ValueError(f"bounds are for layers of up to {MOST_TERMS} neurons, got {sizes.size}")
    tiny = float(jnp.finfo(sizes.dtype).tiny)
    return MOST_TERMS * tiny * jnp.sum(sizes + 1)


class Carried(NamedTuple):
    """Lower bounds on what was asked: `rows @ v + offset - slack`, v what they have come to.

    Attributes:
        rows: What the inputs or the outputs of a layer weigh.
        offset: Added to it.
        slack: What rounding can do; at least 0.
    """

    rows: Float[Array, "rows neurons"]
    offset: Float[Array, " rows"]
    slack: Float[Array, " rows"]


def through_activation(carried: Carried, layer: Hidden) -> Carried:
    """From the outputs of a layer to its inputs, by the lines around its activation."""
    rows, offset, slack = carried
    above, below = jnp.maximum(rows, 0.0), jnp.minimum(rows, 0.0)
    line = layer.lines
    offset = offset + jnp.sum(above * line.low_at + below * line.high_at, axis=1)
    far = jnp.maximum(jnp.abs(line.low_at), jnp.abs(line.high_at))
    terms = jnp.sum(jnp.abs(rows) * far, axis=1)
    slack = slack + (layer.bias.size + 16) * jnp.finfo(rows.dtype).eps * terms
    slack = slack + vanished(layer.size)
    return Carried(above * line.low_slope + below * line.high_slope, offset, slack)


def through_layer(carried: Carried, layer: Hidden) -> Carried:
    """From the inputs of a layer to the outputs below, or the pixels."""
    rows, offset, slack = carried
    terms = jnp.sum(jnp.abs(rows) * (2 * layer.size)[None], axis=1)
    slack = slack + (layer.bias.size + 16) * jnp.finfo(rows.dtype).eps * terms
    slack = slack + vanished(layer.size)
    return Carried(rows @ layer.weight, offset + rows @ layer.bias, slack)


def over_ball(
    carried: Carried, ball: AbstractBall, x: Float[Array, " pixels"], eps: Float[Array, ""]
) -> tuple[Float[Array, " rows"], Float[Array, " rows"]]:
    """The least of rows over pixels in ball and box, and what rounding can do to it."""
    pixels = jax.vmap(lambda row: ball.least(x, row, eps))(carried.rows)
    size = jnp.abs(pixels) + jnp.abs(carried.offset)
    limits = jnp.finfo(carried.rows.dtype)
    # Pixels are at most 1, and what underflows here is as `vanished` has it for neurons.
    lost = MOST_TERMS * float(limits.tiny) * 2 * x.size
    slack = carried.slack + 16 * limits.eps * size + lost
    return pixels + carried.offset, slack


def hidden_layers(
    model: MLP,
    ball: AbstractBall,
    x: Float[Array, " pixels"],
    eps: Float[Array, ""],
    *,
    refine: bool,
) -> list[Hidden]:
    """The hidden layers of a network, bounded on a ball and enclosed by lines.

    Args:
        model: Network with an activation among `CURVES`.
        ball: Norm of the ball.
        x: Clean image.
        eps: Radius.
        refine: Whether layers beyond the first are bounded backwards and by intervals, whichever
            is tighter, rather than by intervals alone. The first is a single step in either case.
    """
    act = ACTIVATIONS[model.activation]
    layers: list[Hidden] = []
    # In every norm no pixel changes by more than the radius, and in L0 by no more than 1.
    least, most = jnp.maximum(x - eps, 0.0), jnp.minimum(x + eps, 1.0)
    for layer in model.layers[:-1]:
        low, high, size = affine(layer.weight, layer.bias, least, most)
        # In Linf, the intervals of the first layer are as good.
        if (refine and layers) or not (layers or isinstance(ball, Linf)):
            # Upper bounds are lower bounds of the negated rows.
            both = jnp.concatenate([layer.weight, -layer.weight])
            offset = jnp.concatenate([layer.bias, -layer.bias])
            bounds = lowest(both, offset, layers, ball, x, eps)
            low = jnp.maximum(low, bounds[: layer.bias.size])
            high = jnp.minimum(high, -bounds[layer.bias.size :])
        chosen = slopes(model.activation, low[None], high[None])
        enclosed = lines(model.activation, low[None], high[None], *chosen)
        layers.append(Hidden(layer.weight, layer.bias, low, high, size, enclosed))
        least, most = outwards(act(low), act(high))
    return layers


def intersected(
    margins: Float[Array, " classes"],
    rows: Float[Array, "classes neurons"],
    offset: Float[Array, " classes"],
    layers: Sequence[Hidden],
    activation: str,
) -> Float[Array, " classes"]:
    """Lower bounds on `rows @ a + offset`, or those by intervals where they are higher.

    Neither is always the tighter one, not even behind hidden layers that took the better of both.

    Args:
        margins: Bounds carried backwards.
        rows: What is asked of the outputs of the last of `layers`.
        offset: Added to it.
        layers: Hidden layers; without any, the margins stay.
        activation: Of the hidden layers, a monotone one.
    """
    if not layers:
        return margins
    act = ACTIVATIONS[activation]
    least, _, _ = affine(rows, offset, *outwards(act(layers[-1].low), act(layers[-1].high)))
    return jnp.where(least > margins, least, margins)


def margin_rows(model: MLP, y: Int[Array, ""]) -> tuple[Array, Array]:
    """True logit minus each: weights over the last hidden layer, and what is added."""
    last = model.layers[-1]
    return last.weight[y][None] - last.weight, last.bias[y] - last.bias


def worst(margins: Float[Array, " classes"], y: Int[Array, ""]) -> Float[Array, ""]:
    """The least of the margins to the other classes; NaN if any is."""
    return jnp.min(jnp.where(jnp.arange(margins.size, dtype=y.dtype) == y, jnp.inf, margins))
