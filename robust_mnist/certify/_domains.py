"""Branch and bound, one domain at a time: a ball cut up by bounds on the inputs of its neurons.

A domain is the part of ball and box in which every neuron's input z lies in an interval of its own.
For any slopes, one for each neuron,

    margin(x) >= min over x of lambda_0 x + sum over neurons of min over z of (lambda s(z) - mu z)

with `mu = lambda slope`, and lambda the row asked for, carried backwards: `lambda_below = mu W`. It
is what linear bounds give with the same slope above and below, and what Lagrangian decomposition
gives with mu as multipliers; multipliers of the constraints that cut the ball up are contained in
it, because a slope may lie outside the range of the activation's. The minimisers that prove the
bound also give its slope, a candidate for an attack, and the neurons that make it loose.
"""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_mnist.certify._backward import Hidden, lowest, margin_rows
from robust_mnist.certify._lines import CURVES, Curve, lines, slopes
from robust_mnist.models import MLP
from robust_mnist.models.mlp import Dense
from robust_mnist.threat import AbstractBall, Linf


Neurons = Float[Array, " neurons"]  # of all hidden layers, one after the other


class Ends(NamedTuple):
    """The intervals of all hidden neurons' inputs in the whole ball.

    Attributes:
        low: Lower ends.
        high: Upper ends.
        size: As in `Hidden`.
        judged: What the margin of an image exceeds that is never judged wrong.
    """

    low: Neurons
    high: Neurons
    size: Neurons
    judged: Float[Array, ""]


class Explored(NamedTuple):
    """What is known of a domain after a search for good slopes.

    Attributes:
        bound: What is thought to be a lower bound on the margin, before it is proven.
        choices: What gives it: a slope for each neuron, and after them what else was chosen.
        kept: Share of all intervals' widths in which a wrong image may lie, before it is proven; 1
            where that was not asked.
        margin: The lowest margin that the network reached on the way, at `image`.
        image: In ball and box, but for rounding, though perhaps outside the domain.
        neuron: Which one to split.
        point: Where.
        below: Its slope in the domain with z of at most `point`.
        above: The same with z of at least `point`.
        bound_below: The same of the margin with z of at most `point`, from `choices` with `below`
            in its place.
        bound_above: The same with z of at least `point`.
        looseness: What that neuron adds to the gap between bound and margin; 0 if there is nothing
            to split.
    """

    bound: Float[Array, ""]
    choices: Float[Array, " choices"]
    kept: Float[Array, ""]
    margin: Float[Array, ""]
    image: Float[Array, " pixels"]
    neuron: Int[Array, ""]
    point: Float[Array, ""]
    below: Float[Array, ""]
    above: Float[Array, ""]
    bound_below: Float[Array, ""]
    bound_above: Float[Array, ""]
    looseness: Float[Array, ""]


class Proven(NamedTuple):
    """What is known of a domain, with room for rounding.

    Attributes:
        bound: Lower bound on the margin of all that is judged wrong in it; infinite if none can be.
        low: Lower ends of the neurons' inputs there: those of the domain, or narrower.
        high: Upper ends.
    """

    bound: Float[Array, ""]
    low: Neurons
    high: Neurons


class Climbed(NamedTuple):
    """The best slopes of a domain; the names are those of `Explored`."""

    bound: Float[Array, ""]
    slope: Neurons
    margin: Float[Array, ""]
    image: Float[Array, " pixels"]


class _Minimised(NamedTuple):
    """A bound and the minimisers behind it, the layer next to the pixels first."""

    bound: Float[Array, ""]
    image: Float[Array, " pixels"]
    weights: list[Array]  # lambda
    multipliers: list[Array]  # mu
    least: list[Array]  # of lambda s(z) - mu z
    inputs: list[Array]  # z


class AbstractSearch(eqx.Module):
    """How the domains of branch and bound are explored and proven."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What a certificate names it by, before the norm."""

    @property
    @abc.abstractmethod
    def ball(self) -> AbstractBall:
        """Norm of the ball."""

    @property
    @abc.abstractmethod
    def batch(self) -> int:
        """Domains per compiled call that suit a CPU."""

    @property
    @abc.abstractmethod
    def wide_batch(self) -> int:
        """The same for an accelerator."""

    @abc.abstractmethod
    def choices(self, model: MLP) -> int:
        """How many numbers are chosen for a domain, the slopes of all neurons first."""

    @abc.abstractmethod
    def first(
        self, model: MLP, x: Array, y: Array, other: Array, eps: Array, whole: Ends
    ) -> Float[Array, " choices"]:
        """Where the search of a whole ball starts; the arguments are those of `__call__`."""

    @abc.abstractmethod
    def proven(
        self, model: MLP, x: Array, y: Array, other: Array, eps: Array, whole: Ends,
        low: Neurons, high: Neurons, choices: Array,
    ) -> Proven:  # fmt: skip
        """What is known of a domain, with room for rounding."""

    @abc.abstractmethod
    def __call__(
        self,
        model: MLP,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        other: Int[Array, ""],
        eps: Float[Array, ""],
        whole: Ends,
        low: Neurons,
        high: Neurons,
        start: Float[Array, " choices"],
    ) -> Explored:
        """Search for choices that prove y's logit above another's, and for where to split.

        Args:
            model: Network with an activation among `CURVES`.
            x: Clean image.
            y: True class.
            other: The class that y is compared with.
            eps: Radius.
            whole: The neurons' intervals in the ball.
            low: Lower ends of those in the domain.
            high: Upper ends.
            start: Choices to start from.
        """


class Search(AbstractSearch):
    """A slope for each neuron.

    Attributes:
        ball: Norm of the ball.
        steps: Steps of Adam on the slopes, from those of the domain's parent.
        rate: Length of the first, as a share of the range of slopes that the activation has in the
            neuron's interval; it falls to a tenth.
        candidates: Neurons that are split on trial, those that make the bound loosest.
        floor: Added to that range: where an activation is straight, the constraints that cut the
            ball up still move the slope.
        batch: Domains per compiled call that suit a CPU.
        wide_batch: The same for an accelerator.
    """

    ball: AbstractBall = Linf()
    steps: int = eqx.field(static=True, default=32)
    rate: float = 0.1
    candidates: int = eqx.field(static=True, default=8)
    floor: float = 0.1
    batch: int = eqx.field(static=True, default=512)
    wide_batch: int = eqx.field(static=True, default=65536)

    @property
    def name(self) -> str:
        return "branch-and-bound"

    def __check_init__(self) -> None:
        if self.steps < 1 or self.candidates < 1:
            raise ValueError(
                "a search takes at least one step and tries at least one neuron, got "
                f"steps={self.steps} and candidates={self.candidates}"
            )

    def choices(self, model: MLP) -> int:
        return sum(layer.bias.size for layer in model.layers[:-1])

    def first(self, model: MLP, x: Array, y: Array, other: Array, eps: Array, whole: Ends) -> Array:
        del x, eps
        return first_slopes(model, y, other, whole.low, whole.high)

    def proven(
        self, model: MLP, x: Array, y: Array, other: Array, eps: Array, whole: Ends,
        low: Neurons, high: Neurons, choices: Array,
    ) -> Proven:  # fmt: skip
        bound = proven(model, self.ball, x, y, other, eps, low, high, whole.size, choices)
        return Proven(bound, low, high)

    def __call__(
        self,
        model: MLP,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        other: Int[Array, ""],
        eps: Float[Array, ""],
        whole: Ends,
        low: Neurons,
        high: Neurons,
        start: Neurons,
    ) -> Explored:
        """Adam on the slopes, then trial splits.

        Reference:
            Wang et al., "Beta-CROWN: efficient bound propagation with per-neuron split
            constraints", NeurIPS 2021; Bunel et al., "Lagrangian decomposition for neural network
            verification", UAI 2020; De Palma et al., "Improved branch and bound for neural network
            verification via Lagrangian decomposition", 2021, for trial splits of filtered neurons.
        """
        del whole
        problem = self.problem(model, x, y, other, eps)
        found = self.climb(problem, low, high, start)
        split = self.split(problem, low, high, found.slope)
        kept = jnp.ones_like(eps)
        return Explored(found.bound, found.slope, kept, found.margin, found.image, *split)

    def problem(self, model: MLP, x: Array, y: Array, other: Array, eps: Array) -> "Problem":
        """What is asked of one ball."""
        rows, offsets = margin_rows(model, y)
        return Problem(model, self.ball, rows[other], offsets[other], x, eps)

    def climb(self, problem: "Problem", low: Neurons, high: Neurons, start: Neurons) -> Climbed:
        """Better slopes, by Adam, and the lowest margin that was met."""
        x, eps = problem.x, problem.eps
        curve = CURVES[problem.model.activation]
        least, most = curve.slopes_between(low, high)
        scale = most - least + self.floor

        def step(state: Any, at: Array) -> tuple[Any, None]:
            slope, mean, square, best, held, margin, image, average = state
            solved = problem.minimise(low, high, slope)
            rise, reached = problem.ascent(slope, solved)
            better, closer = solved.bound > best, reached < margin
            # Adam, whose memory fits to the few steps.
            mean, square = 0.5 * mean + 0.5 * rise, 0.9 * square + 0.1 * rise**2
            length = jnp.sqrt(square / (1 - 0.9 ** (at + 1))) * (1 - 0.5 ** (at + 1))
            share = self.rate * (1 - 0.9 * at / self.steps)
            moved = slope + share * scale * mean / jnp.maximum(length, 1e-12)
            return (
                moved, mean, square,
                jnp.where(better, solved.bound, best), jnp.where(better, slope, held),
                jnp.where(closer, reached, margin), jnp.where(closer, solved.image, image),
                0.9 * average + 0.1 * solved.image,
            ), None  # fmt: skip

        none, worst = jnp.zeros_like(start), jnp.full_like(eps, -jnp.inf)
        state = (start, none, none, worst, start, -worst, x, x)
        count = jnp.arange(self.steps, dtype=x.dtype)
        (_, _, _, best, held, *reached, average), _ = jax.lax.scan(step, state, count)
        return Climbed(best, held, *problem.attack(average, *reached))

    def split(
        self, problem: "Problem", low: Neurons, high: Neurons, slope: Neurons
    ) -> tuple[Array, ...]:
        """The neuron whose split raises the lower of both bounds most, of those tried.

        The margin at the minimising image exceeds the bound by what the neurons' own minima lie
        below their values at that image: whoever adds most is tried first.
        """
        curve = CURVES[problem.model.activation]
        solved = problem.minimise(low, high, slope)
        loose, point = problem.looseness(curve, solved, low, high)
        most, tried = jax.lax.top_k(loose, min(self.candidates, low.size))
        weights = jnp.concatenate(solved.weights)[tried]
        sides = []
        for ends in ((low[tried], point[tried]), (point[tried], high[tried])):
            under, over = slopes(problem.model.activation, ends[0][None], ends[1][None])
            sides.append(jnp.where(weights > 0, under[0], over[0]))
        below, above = sides
        put = lambda array, at, value: jnp.where(jnp.arange(array.size) == at, value, array)

        def halves(at: Array, p: Array, left: Array, right: Array) -> tuple[Array, Array]:
            lower = problem.bound(low, put(high, at, p), put(slope, at, left))
            upper = problem.bound(put(low, at, p), high, put(slope, at, right))
            return lower, upper

        lower, upper = jax.vmap(halves)(tried, point[tried], below, above)
        # Of two neurons that settle nothing at once, the one that does more in all.
        gain = jnp.minimum(lower, upper) + 0.01 * (lower + upper)
        pick = jnp.argmax(jnp.where(most > 0, gain, -jnp.inf))
        chosen = tried[pick]
        found = (array[pick] for array in (below, above, lower, upper, most))
        return chosen, point[chosen], *found


class Problem(eqx.Module):
    """A row over the logits, to be bounded over the domains of one ball."""

    model: MLP
    ball: AbstractBall
    row: Float[Array, " last"]
    offset: Float[Array, ""]
    x: Float[Array, " pixels"]
    eps: Float[Array, ""]

    def bound(self, low: Neurons, high: Neurons, slope: Neurons) -> Array:
        """That of `minimise`, but for rounding, without the minimisers."""
        curve, hidden = CURVES[self.model.activation], self.model.layers[:-1]
        low_of, high_of, slope_of = (self.layers(array) for array in (low, high, slope))
        weight, bound = self.row, self.offset
        for at in reversed(range(len(hidden))):
            multiplier = weight * slope_of[at]
            least, _ = _least(curve, weight, multiplier, low_of[at], high_of[at])
            bound = bound + jnp.sum(least) + multiplier @ hidden[at].bias
            weight = multiplier @ hidden[at].weight
        return bound + self.ball.least(self.x, weight, self.eps)

    def minimise(self, low: Neurons, high: Neurons, slope: Neurons) -> _Minimised:
        curve, hidden = CURVES[self.model.activation], self.model.layers[:-1]
        low_of, high_of, slope_of = (self.layers(array) for array in (low, high, slope))
        weight, bound = self.row, self.offset
        parts = []
        for at in reversed(range(len(hidden))):
            multiplier = weight * slope_of[at]
            least, z = _least(curve, weight, multiplier, low_of[at], high_of[at])
            bound = bound + jnp.sum(least) + multiplier @ hidden[at].bias
            parts.append((weight, multiplier, least, z))
            weight = multiplier @ hidden[at].weight
        image = self.x + self.ball.ascend(self.x, -weight, self.eps)
        each = (list(part) for part in zip(*parts[::-1], strict=True))
        return _Minimised(bound + jnp.sum(weight * image), image, *each)

    def ascent(self, slope: Neurons, solved: _Minimised) -> tuple[Neurons, Array]:
        """The bound's slope in the slopes, and the network's own value at the image."""
        curve, below, outputs, rises = (
            CURVES[self.model.activation], solved.image, solved.image, [],
        )  # fmt: skip
        for at, layer in enumerate(self.model.layers[:-1]):
            exact = layer(outputs)
            # The first layer's product serves both.
            pushed = exact if at == 0 else layer(below)
            miss = pushed - solved.inputs[at]
            rises.append(solved.weights[at] * miss)
            below = curve.value(solved.inputs[at]) + self.layers(slope)[at] * miss
            outputs = curve.value(exact)
        return jnp.concatenate(rises), jnp.sum(self.row * outputs) + self.offset

    def attack(self, start: Array, margin: Array, image: Array) -> tuple[Array, Array]:
        """The lowest margin known and its image, after a few steps of Frank and Wolfe's method.

        The minimisers that prove a bound lie at the ends of the ball. A wrong image between them is
        near their average, which tends to the minimum over the domain as the bound does.
        """

        def value(z: Array) -> Array:
            return jnp.sum(self.row * self.outputs(z)) + self.offset

        def step(state: Any, share: Array) -> tuple[Any, None]:
            z, margin, image = state
            reached, rise = jax.value_and_grad(value)(z)
            closer = reached < margin
            kept = jnp.where(closer, reached, margin), jnp.where(closer, z, image)
            end = self.x + self.ball.ascend(self.x, -rise, self.eps)
            return (z + share * (end - z), *kept), None

        shares = jnp.asarray([0.5, 0.4, 0.3, 0.2, 0.0], start.dtype)
        (_, margin, image), _ = jax.lax.scan(step, (start, margin, image), shares)
        return margin, image

    def outputs(self, z: Array) -> Array:
        """Of the last hidden layer."""
        for layer in self.model.layers[:-1]:
            z = CURVES[self.model.activation].value(layer(z))
        return z

    def looseness(
        self, curve: Curve, solved: _Minimised, low: Neurons, high: Neurons
    ) -> tuple[Neurons, Neurons]:
        """What every neuron adds to the gap at the minimising image, and where to split it."""
        outputs, inputs = solved.image, []
        for layer in self.model.layers[:-1]:
            inputs.append(layer(outputs))
            outputs = curve.value(inputs[-1])
        z = jnp.clip(jnp.concatenate(inputs), low, high)
        weight, multiplier, least = (
            jnp.concatenate(part) for part in (solved.weights, solved.multipliers, solved.least)
        )
        loose = weight * curve.value(z) - multiplier * z - least
        middle = low + (high - low) / 2
        if not curve.kinked:
            return loose, middle
        # Straight on either side of 0, a neuron that does not bend gains nothing by a split. Each
        # that bends has its looseness above 0, so that there is something to split until none does.
        floor = jnp.maximum(loose, jnp.finfo(loose.dtype).tiny)
        return jnp.where((low < 0) & (high > 0), floor, 0.0), jnp.zeros_like(middle)

    def layers(self, array: Neurons) -> list[Array]:
        return per_layer(self.model.layers[:-1], array)


def per_layer(hidden: Sequence[Dense], array: Neurons) -> list[Array]:
    """An array over all hidden neurons, cut into those of each layer."""
    return jnp.split(array, np.cumsum([layer.bias.size for layer in hidden])[:-1])


def _least(
    curve: Curve, weight: Neurons, multiplier: Neurons, low: Neurons, high: Neurons
) -> tuple[Neurons, Neurons]:
    """The least of `weight s(z) - multiplier z` between low and high, and where it lies."""
    ratio = multiplier / jnp.where(weight == 0, 1.0, weight)
    value = lambda z: weight * curve.value(z) - multiplier * z
    least, at = value(low), low
    for point in (high, *(jnp.clip(t, low, high) for t in curve.at_slope(ratio))):
        # Not an argmin over a stack: gathering from it takes longer than all the rest.
        here = value(point)
        least, at = jnp.minimum(least, here), jnp.where(here < least, point, at)
    return least, at


def first_slopes(
    model: MLP, y: Int[Array, ""], other: Int[Array, ""], low: Neurons, high: Neurons
) -> Neurons:
    """The slopes that CROWN takes."""
    weight, found = margin_rows(model, y)[0][other], []
    ends = zip(per_layer(model.layers[:-1], low), per_layer(model.layers[:-1], high), strict=True)
    for layer, (least, most) in reversed(list(zip(model.layers[:-1], ends, strict=True))):
        under, over = slopes(model.activation, least[None], most[None])
        found.append(jnp.where(weight > 0, under[0], over[0]))
        weight = (weight * found[-1]) @ layer.weight
    return jnp.concatenate(found[::-1])


def proven(
    model: MLP,
    ball: AbstractBall,
    x: Float[Array, " pixels"],
    y: Int[Array, ""],
    other: Int[Array, ""],
    eps: Float[Array, ""],
    low: Neurons,
    high: Neurons,
    size: Neurons,
    slope: Neurons,
) -> Float[Array, ""]:
    """The same bound with room for rounding, as `lowest` derives it.

    Written apart from the search, so that a mistake there costs time and proves nothing.

    Args:
        model: Network, in the precision to compute in.
        ball: Norm of the ball.
        x: Clean image.
        y: True class.
        other: The class that y is compared with.
        eps: Radius.
        low: Lower ends of the neurons' intervals.
        high: Upper ends.
        size: As in `Hidden`.
        slope: Any slopes.
    """
    arrays = (per_layer(model.layers[:-1], array) for array in (low, high, size, slope))
    layers = [
        Hidden(
            layer.weight, layer.bias, least, most, far,
            lines(model.activation, least[None], most[None], along[None], along[None]),
        )
        for layer, least, most, far, along in zip(model.layers[:-1], *arrays, strict=True)
    ]  # fmt: skip
    rows, offsets = margin_rows(model, y)
    return lowest(rows[other][None], offsets[other][None], layers, ball, x, eps)[0]
