"""Bounds on what a wrong image would have to be, which contract until there can be none.

Of an image that is taken for another class more is known than that it lies in the ball: its margin
to that class is at most 0, and so is every lower bound on it. One that is linear in the inputs z of
a hidden layer cuts off a half-space, and for every neuron j and any beta >= 0

    z_j >= min over the ball of z_j + beta (weights @ z + offset),  as weights @ z + offset <= 0,

and above likewise. Narrower intervals give a higher bound on the margin, which gives intervals that
are narrower still. Where the least margin is above 0 this often ends with nothing left: a
half-space that cuts off all of the ball but a corner leaves hardly any neuron room to move.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_mnist.certify._backward import (
    Carried,
    Hidden,
    lowest,
    margin_rows,
    over_ball,
    through_activation,
    through_layer,
)
from robust_mnist.certify._domains import (
    AbstractSearch,
    Ends,
    Explored,
    Proven,
    Search,
    per_layer,
)
from robust_mnist.certify._lines import lines, slopes
from robust_mnist.models import MLP
from robust_mnist.threat import AbstractBall, Linf


Neurons = Float[Array, " neurons"]
# Of all lower ends, and then of all upper ones.
Sides = Float[Array, " sides"]
# How a side is bounded: its layer's number, what is known of wrong images at the layer's inputs,
# the layer, and those below it. The bounds are lower ones, of the inputs and of their opposites.
Side = Callable[[int, Carried, Hidden, list[Hidden]], tuple[Sides, Sides]]

# How far from 1 beta may be, as a logarithm, so that nothing overflows in float32.
FARTHEST = 30.0


class ContractionSearch(AbstractSearch):
    """Domains whose intervals are contracted.

    Slopes are found as by lines alone. With each domain go the weights beta that served its parent,
    of which a few multiples are tried: as the intervals shrink, so do the best weights change.

    Reference:
        Kotha et al., "Provably bounding neural network preimages", NeurIPS 2023, for constraints on
        outputs in the bounds of hidden layers; Belotti et al., "Branching and bounds tightening
        techniques for non-convex MINLP", 2009, for tightening by what is known of the optimum.

    Attributes:
        lines: Finds slopes and splits; its norm is that of the ball.
        tried: Weights that are tried for each side of an interval.
        spread: Logarithm of the largest of them, as a multiple of that of the parent; the smallest
            is its inverse.
        batch: Domains per compiled call that suit a CPU.
        wide_batch: The same for an accelerator.
    """

    lines: Search = Search(Linf(), steps=20)
    tried: int = eqx.field(static=True, default=3)
    spread: float = 1.0
    batch: int = eqx.field(static=True, default=16)
    wide_batch: int = eqx.field(static=True, default=4096)

    def __check_init__(self) -> None:
        if self.tried < 3 or self.tried % 2 == 0:
            raise ValueError(
                "a search tries the weights that it has and as many larger as smaller ones, in all "
                f"3, 5 or more, got tried={self.tried}"
            )

    @property
    def name(self) -> str:
        return "contracting-branch-and-bound"

    @property
    def ball(self) -> AbstractBall:
        return self.lines.ball

    def choices(self, model: MLP) -> int:
        return 3 * self.lines.choices(model)

    def first(self, model: MLP, x: Array, y: Array, other: Array, eps: Array, whole: Ends) -> Array:
        slope = self.lines.first(model, x, y, other, eps, whole)
        domain = _Domain.of(model, self.ball, x, y, other, eps, whole, whole.low, whole.high)
        # So that neuron and margin, times their weights, change as much over the ball.
        weights = jnp.log((whole.high - whole.low) / domain.change(slope))
        weights = jnp.where(jnp.isfinite(weights), weights, 0.0)
        return jnp.concatenate([slope, weights, weights])

    def proven(
        self, model: MLP, x: Array, y: Array, other: Array, eps: Array, whole: Ends,
        low: Neurons, high: Neurons, choices: Array,
    ) -> Proven:  # fmt: skip
        slope, weights = choices[: low.size], choices[low.size :]
        domain = _Domain.of(model, self.ball, x, y, other, eps, whole, low, high)

        def side(at: int, cut: Carried, layer: Hidden, under: list[Hidden]) -> tuple[Sides, Sides]:
            given = domain.sides(weights)[at]
            value, slack = domain.ends(given, cut, layer, under)
            return value - slack, given

        return domain.contract(slope, side)[0]

    def __call__(
        self, model: MLP, x: Array, y: Array, other: Array, eps: Array, whole: Ends,
        low: Neurons, high: Neurons, start: Array,
    ) -> Explored:  # fmt: skip
        """Adam on slopes, a few weights for each side of an interval, then trial splits."""
        slope, weights = start[: low.size], start[low.size :]
        problem = self.lines.problem(model, x, y, other, eps)
        found = self.lines.climb(problem, low, high, slope)
        domain = _Domain.of(model, self.ball, x, y, other, eps, whole, low, high)
        # From none on: of weights that do as much the nearest is held.
        steps = self.spread * jnp.asarray(sorted(np.linspace(-1, 1, self.tried), key=abs), x.dtype)

        def side(at: int, cut: Carried, layer: Hidden, under: list[Hidden]) -> tuple[Sides, Sides]:
            given = domain.sides(weights)[at]

            def attempt(state: Any, step: Array) -> tuple[Any, None]:
                best, held = state
                weights = jnp.clip(given + step, -FARTHEST, FARTHEST)
                value, _ = domain.ends(weights, cut, layer, under)
                better = value > best
                return (jnp.where(better, value, best), jnp.where(better, weights, held)), None

            none = jnp.full_like(given, -jnp.inf)
            return jax.lax.scan(attempt, (none, given), steps)[0]

        inner, weights = domain.contract(found.slope, side)
        # An interval that is empty proves the domain; what is split otherwise has ordered ends.
        most = jnp.maximum(inner.low, inner.high)
        bound = jnp.where(
            jnp.isinf(inner.bound), inner.bound, problem.bound(inner.low, most, found.slope)
        )
        split = self.lines.split(problem, inner.low, most, found.slope)
        kept = jnp.sum(most - inner.low) / jnp.sum(high - low)
        choices = jnp.concatenate([found.slope, weights])
        return Explored(bound, choices, kept, found.margin, found.image, *split)


class _Domain(eqx.Module):
    """A domain, and the class that the images looked for are taken for."""

    model: MLP
    ball: AbstractBall
    x: Float[Array, " pixels"]
    eps: Float[Array, ""]
    row: Float[Array, "1 last"]
    offset: Float[Array, "1"]
    judged: Float[Array, ""]
    low: list[Array]
    high: list[Array]
    size: list[Array]

    @classmethod
    def of(
        cls, model: MLP, ball: AbstractBall, x: Array, y: Array, other: Array, eps: Array,
        whole: Ends, low: Neurons, high: Neurons,
    ) -> "_Domain":  # fmt: skip
        rows, offsets = margin_rows(model, y)
        ends = (per_layer(model.layers[:-1], array) for array in (low, high, whole.size))
        return cls(
            model, ball, x, eps, rows[other][None], offsets[other][None], whole.judged, *ends
        )

    def layer(self, at: int, low: Array, high: Array, slope: Array | None = None) -> Hidden:
        """A hidden layer between other ends, with the lines of one slope, or good ones."""
        hidden, activation = self.model.layers[at], self.model.activation
        ends = low[None], high[None]
        along = slopes(activation, *ends) if slope is None else (slope[None], slope[None])
        held = lines(activation, *ends, *along)
        return Hidden(hidden.weight, hidden.bias, low, high, self.size[at], held)

    def change(self, slope: Neurons) -> Float[Array, ""]:
        """How much the bound on the margin changes over the ball."""
        carried = self.cuts(slope)[0]
        first = self.layer(0, self.low[0], self.high[0])
        [row] = through_layer(carried, first).rows
        fall, rise = (self.ball.least(self.x, sign * row, self.eps) for sign in (1.0, -1.0))
        return -(fall + rise)

    def cuts(self, slope: Neurons) -> list[Carried]:
        """What is at most 0 of a wrong image, for each layer in terms of its inputs.

        Wrong is who is judged so, whose margin may be a little above 0.
        """
        room = 4 * jnp.finfo(self.x.dtype).eps * (jnp.abs(self.offset) + self.judged)
        carried = Carried(self.row, self.offset - self.judged, room)
        along, found = per_layer(self.model.layers[:-1], slope), []
        for at in reversed(range(len(along))):
            layer = self.layer(at, self.low[at], self.high[at], along[at])
            found.append(through_activation(carried, layer))
            carried = through_layer(found[-1], layer)
        return found[::-1]

    def ends(
        self, weights: Sides, cut: Carried, layer: Hidden, under: list[Hidden]
    ) -> tuple[Sides, Sides]:
        """Lower bounds on a layer's inputs and their opposites, and what rounding can do to them.

        Rounding: an entry of a row is off by a unit in the last place of its product, of which none
        but that of the neuron itself is larger than the entry. Where it cancels, it is at most 1
        larger, which weighs `size`. The entries as they are, `through_layer` has room for. Beta may
        be computed more than once, and come out differently by what an exponential is right to.

        Args:
            weights: Logarithms of beta.
            cut: As in `cuts`.
            layer: The layer.
            under: Those below, the one next to the pixels first.
        """
        unit = jnp.finfo(self.x.dtype).eps
        beta = jnp.exp(jnp.clip(weights, -FARTHEST, FARTHEST))
        one, offset = jnp.eye(layer.bias.size, dtype=self.x.dtype), beta * cut.offset
        slack = beta * cut.slack * (1 + 8 * unit) + 32 * unit * jnp.abs(offset)
        slack = slack + 32 * unit * jnp.concatenate([layer.size, layer.size])
        rows = jnp.concatenate([one, -one]) + beta[:, None] * cut.rows
        carried = through_layer(Carried(rows, offset, slack), layer)
        for lower in reversed(under):
            carried = through_layer(through_activation(carried, lower), lower)
        return over_ball(carried, self.ball, self.x, self.eps)

    def contract(self, slope: Neurons, side: Side) -> tuple[Proven, Sides]:
        """Narrower intervals, layer by layer upwards, the bound with them, and the weights."""
        cuts, along = self.cuts(slope), per_layer(self.model.layers[:-1], slope)
        under: list[Hidden] = []
        held: list[Array] = []
        empty = jnp.zeros((), bool)
        for at, ends in enumerate(zip(self.low, self.high, strict=True)):
            bounds, weights = side(at, cuts[at], self.layer(at, *ends), under)
            below_it, above_it = jnp.split(bounds, 2)
            # Whatever is no number narrows nothing.
            low = jnp.where(below_it > ends[0], below_it, ends[0])
            high = jnp.where(-above_it < ends[1], -above_it, ends[1])
            empty |= jnp.any(low > high)
            under.append(self.layer(at, low, high))
            held.append(weights)
        inner = [self.layer(at, one.low, one.high, along[at]) for at, one in enumerate(under)]
        bound = lowest(self.row, self.offset, inner, self.ball, self.x, self.eps)[0]
        low, high = (
            jnp.concatenate([getattr(one, end) for one in under]) for end in ("low", "high")
        )
        pairs = zip(*(jnp.split(weights, 2) for weights in held), strict=True)
        weights = jnp.concatenate([part for side_of in pairs for part in side_of])
        return Proven(jnp.where(empty, jnp.inf, bound), low, high), weights

    def sides(self, weights: Sides) -> list[Array]:
        """Those of each layer: of its lower ends, then of its upper ones."""
        lower, upper = (per_layer(self.model.layers[:-1], part) for part in jnp.split(weights, 2))
        return [jnp.concatenate(pair) for pair in zip(lower, upper, strict=True)]
