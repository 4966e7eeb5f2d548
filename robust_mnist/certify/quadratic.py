"""Bounds with quadratic terms, which know that not all neurons can be at their worst at once.

Lines enclose each neuron on its own, and so allow for all of them at the worst point of their
intervals together. But the changes that drive one neuron furthest hardly move most others: the sum
of the squares of their deviations from the centre stays far below that of their intervals. Here
each neuron is bounded below by a curve that is bent down,

    lambda s(z) >= mu z + least - q/2 (z - c)^2,

which is closer than a line where lambda s is concave. The squares are then summed over all neurons
and bounded together, layer by layer down to the pixels: for any v > 0,

    sum of q_i (w_i d)^2 <= r sum of v_j d_j^2,  r the largest eigenvalue of Q^.5 W V^-1 W' Q^.5.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_mnist.certify._backward import (
    Hidden,
    hidden_layers,
    intersected,
    lowest,
    margin_rows,
    vanished,
    worst,
)
from robust_mnist.certify._base import AbstractCertifier
from robust_mnist.certify._lines import CURVES, Curve, lines
from robust_mnist.certify._norms import length, spectral_norm
from robust_mnist.models import MLP
from robust_mnist.threat import AbstractBall, Linf


Neurons = Float[Array, " neurons"]

# Pieces of a neuron's interval: in the search its ends are tried, in the proof a line bounds each.
TRIED, PROVEN = 16, 48
# Steps of the power method for each of Adam. With one alone the vector lags behind so far that the
# bounds come out a quarter lower.
POWERS = 4


class _Bend(NamedTuple):
    """What is chosen for a hidden layer.

    Attributes:
        slope: `mu / lambda`.
        bend: Logarithm of q.
        below: Logarithm of v, for what lies below the layer.
    """

    slope: Neurons
    bend: Neurons
    below: Float[Array, " below"]


class _Centre(NamedTuple):
    """A hidden layer at the centre of the ball.

    Attributes:
        inputs: c, as computed.
        error: How far it may be from the truth.
        steepest: The largest slope of the activation between the layer's bounds.
    """

    inputs: Neurons
    error: Neurons
    steepest: Neurons


class Quadratic(AbstractCertifier):
    """CROWN with quadratic terms, whose slopes and bends are optimised for every margin.

    Any slopes, bends and weights give a sound bound: Adam looks for good ones with a lower estimate
    of the eigenvalues, and what it ends with is proven with upper bounds of them. What is proven is
    a feasible point of a dual of the semidefinite relaxation.

    In L1 it is sound, and of no use: squares are bounded on the Euclidean ball of the same radius,
    of which an L1 ball is a small part. Of 100 images it proves those of CROWN and no other (73 on
    a ReLU network at eps 2.5, 80 on one with tanh at 1.5) and alpha-CROWN 74 and 82, so that no
    certifier of that norm is registered.

    Reference:
        Raghunathan, Steinhardt and Liang, "Semidefinite relaxations for certifying robustness to
        adversarial examples", NeurIPS 2018; Dathathri et al., "Enabling certification of
        verification-agnostic networks via memory-efficient semidefinite programming", NeurIPS 2020;
        Chiu and Zhang, "SDP-CROWN", ICML 2025, for a quadratic term in bounds carried backwards.

    Attributes:
        ball: Norm of the ball.
        steps: Steps of Adam, at least 1.
        rate: Length of the first; it falls to a twentieth.
    """

    ball: AbstractBall = Linf()
    steps: int = eqx.field(static=True, default=100)
    rate: float = 0.1

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Quadratic needs at least one step, got steps={self.steps}")
        _check_ball(self.ball)

    @property
    def about(self) -> str:
        return (
            f"CROWN with quadratic terms, optimised in {self.steps} steps, in "
            f"{self.ball.title}: a proof"
        )

    @property
    def activations(self) -> frozenset[str]:
        return frozenset(CURVES)

    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        layers = hidden_layers(model, self.ball, x, eps, refine=True)
        rows, offsets = margin_rows(model, y)
        linear = lowest(rows, offsets, layers, self.ball, x, eps)
        linear = intersected(linear, rows, offsets, layers, model.activation)
        if not layers:
            return worst(linear, y)
        problem = _Region(self.ball, layers, x, eps, model.activation)

        def one(row: Array, offset: Array) -> Array:
            bends = problem.search(row, offset, problem.start(row), self.steps, self.rate)
            return problem.proven(row, offset, bends)

        # The true class has no margin to itself.
        others = (y + 1 + jnp.arange(offsets.size - 1, dtype=y.dtype)) % offsets.size
        curved, linear = jax.vmap(one)(rows[others], offsets[others]), linear[others]
        return jnp.min(jnp.where(curved > linear, curved, linear))


class _Region(eqx.Module):
    """A ball around an image, for rows over the last hidden layer to be bounded on."""

    ball: AbstractBall
    layers: list[Hidden]
    x: Float[Array, " pixels"]
    eps: Float[Array, ""]
    activation: str = eqx.field(static=True)

    @property
    def curve(self) -> Curve:
        return CURVES[self.activation]

    def search(
        self, row: Array, offset: Array, start: list[_Bend], steps: int, rate: float
    ) -> list[_Bend]:
        """Better choices, by Adam."""
        scales = self.scales(start)
        gradient = jax.grad(self.estimate, argnums=2, has_aux=True)

        def step(state: Any, turn: tuple[Array, Array]) -> tuple[Any, None]:
            (bends, vectors, mean, square), (count, rate) = state, turn
            slope, vectors = gradient(row, offset, bends, vectors)
            # In L2 it is NaN where no pixel weighs anything.
            slope = jax.tree.map(lambda new: jnp.where(jnp.isfinite(new), new, 0.0), slope)
            # Adam; optax raises to a whole number, which strict promotion of types refuses.
            mean = jax.tree.map(lambda old, new: 0.8 * old + 0.2 * new, mean, slope)
            square = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new**2, square, slope)
            pace = rate * jnp.sqrt(1 - 0.99**count) / (1 - 0.8**count)
            bends = jax.tree.map(
                lambda at, scale, m, v: at + pace * scale * m / (jnp.sqrt(v) + 1e-8),
                bends, scales, mean, square,
            )  # fmt: skip
            return (bends, vectors, mean, square), None

        # Where the power method starts: not at ones, which the weights of opposite neurons cancel.
        vectors = [
            jax.random.normal(jax.random.key(0), layer.bias.shape, layer.bias.dtype)
            for layer in self.layers
        ]
        none = jax.tree.map(jnp.zeros_like, start)
        counts = jnp.arange(1, steps + 1, dtype=offset.dtype)
        rates = rate * jnp.linspace(1.0, 0.05, steps, dtype=offset.dtype)
        (bends, *_), _ = jax.lax.scan(step, (start, vectors, none, none), (counts, rates))
        return bends

    def pixels(self) -> tuple[Array, Array]:
        """A centre, and how far each pixel may be from it: `|d_j| <= far_j`, rounded up.

        In other norms than Linf it is the image, and the deviation as a whole has the radius, in
        Euclidean length too: in L1 that is at most its size.
        """
        if not isinstance(self.ball, Linf):
            return self.x, jnp.full_like(self.x, self.eps)
        low, high = jnp.maximum(self.x - self.eps, 0.0), jnp.minimum(self.x + self.eps, 1.0)
        centre = (low + high) / 2
        unit = jnp.finfo(self.x.dtype).eps
        return centre, jnp.maximum(high - centre, centre - low) * (1 + 4 * unit) + unit

    def energy(self, shares: Array) -> Array:
        """The most that `sum of (shares_j d_j / far_j)^2` can be."""
        squares = shares**2
        return jnp.sum(squares) if isinstance(self.ball, Linf) else jnp.max(squares)

    def centres(self) -> list[_Centre]:
        limits = jnp.finfo(self.x.dtype)
        outputs, _ = self.pixels()
        error, found = jnp.zeros_like(outputs), []
        for layer in self.layers:
            # Where the true ones lie, and the largest slope holds.
            inputs = jnp.clip(layer.weight @ outputs + layer.bias, layer.low, layer.high)
            # As in `affine`.
            slack = 2 * (outputs.size + 4) * limits.eps * layer.size
            wrong = jnp.abs(layer.weight) @ error * (1 + 2 * (outputs.size + 4) * limits.eps)
            # Slopes are right in the last places of 1, however flat the curve.
            steepest = self.curve.slopes_between(layer.low, layer.high)[1] + 64 * limits.eps
            found.append(_Centre(inputs, slack + wrong, steepest))
            outputs = self.curve.value(inputs)
            error = steepest * found[-1].error + 16 * (limits.eps * jnp.abs(outputs) + limits.tiny)
        return found

    def start(self, row: Array) -> list[_Bend]:
        """CROWN's slopes, and bends of the size of what bends the activation."""
        weight, found = row, []
        for layer in reversed(self.layers):
            line = layer.lines
            slope = jnp.where(weight > 0, line.low_slope[0], line.high_slope[0])
            width = layer.high - layer.low
            # The curve's distance from its chord; that of a parabola is q width^2 / 8. A bend that
            # is too small is found faster than one too large is given up.
            middle = layer.low + width / 2
            sag = (
                self.curve.value(middle)
                - (self.curve.value(layer.low) + self.curve.value(layer.high)) / 2
            )
            need = jnp.maximum(3 * weight * sag / jnp.maximum(width, 1e-6) ** 2, 0.0)
            floor = 1e-3 * jnp.max(jnp.abs(weight))
            bend = jnp.log(jnp.maximum(need, floor + jnp.finfo(floor.dtype).tiny))
            found.append(_Bend(slope, bend, jnp.zeros(layer.weight.shape[1], weight.dtype)))
            weight = (weight * slope) @ layer.weight
        found.reverse()
        if not isinstance(self.ball, Linf):
            return found  # the deviation has a radius as a whole, and no pixel one of its own
        _, far = self.pixels()
        first = self.layers[0]
        spread = jnp.sqrt(
            jnp.sum((jnp.exp(found[0].bend / 2)[:, None] * first.weight) ** 2, axis=0)
        )
        spread = spread * far
        least = 1e-2 * jnp.max(spread) + jnp.finfo(far.dtype).tiny
        found[0] = found[0]._replace(below=jnp.log(jnp.maximum(spread, least)))
        return found

    def scales(self, bends: list[_Bend]) -> list[_Bend]:
        """How far a step of length 1 goes."""
        found = []
        for layer, bend in zip(self.layers, bends, strict=True):
            least, most = self.curve.slopes_between(layer.low, layer.high)
            spread = 0.5 * (most - least + 0.05)
            found.append(_Bend(spread, jnp.ones_like(bend.bend), 0.5 * jnp.ones_like(bend.below)))
        if not isinstance(self.ball, Linf):
            found[0] = found[0]._replace(below=jnp.zeros_like(found[0].below))
        return found

    def shares(self, bend: _Bend) -> Array:
        """The factors `1 / sqrt(v)` of what is below, those of pixels in units of their range.

        Only their ratios matter; the least is 1, so that nothing overflows or vanishes for all, and
        none is above e^40: the square of its inverse, which XLA would flush to 0 near the smallest
        numbers, is a factor of what the squares of the layer below come to.
        """
        return jnp.exp(jnp.minimum(jnp.max(bend.below) - bend.below, 80.0) / 2)

    def estimate(
        self, row: Array, offset: Array, bends: list[_Bend], vectors: list[Array]
    ) -> tuple[Array, list[Array]]:
        """The bound with eigenvalues from below, and the eigenvectors that they come from."""
        spent, vectors = self.squares(bends, vectors)
        return self._carried(row, offset, bends) - spent, vectors

    def squares(self, bends: list[_Bend], vectors: list[Array]) -> tuple[Array, list[Array]]:
        """What the squares of all layers come to at most, with eigenvalues from below."""
        centres, after = self.centres(), []
        pushed = jnp.zeros_like(bends[-1].bend)
        _, far = self.pixels()
        for at in reversed(range(len(self.layers))):
            layer, bend = self.layers[at], bends[at]
            root = jnp.sqrt(jnp.exp(bend.bend) + pushed)
            shares = self.shares(bend)
            factor = shares * far if at == 0 else shares
            vector = _powers(layer.weight, *jax.lax.stop_gradient((root, factor)), vectors[at])
            after.append(vector)
            largest = jnp.sum((((root * vector) @ layer.weight) * factor) ** 2)
            if at:
                pushed = largest / shares**2 * centres[at - 1].steepest ** 2
        return largest / 2 * self.energy(1 / self.shares(bends[0])), after[::-1]

    def _carried(self, row: Array, offset: Array, bends: list[_Bend]) -> Array:
        """The bound but for the squares."""
        weight, bound, centres = row, offset, self.centres()
        for at in reversed(range(len(self.layers))):
            layer, bend, centre = self.layers[at], bends[at], centres[at].inputs
            multiplier, q = weight * bend.slope, jnp.exp(bend.bend)
            z = self._lowest_point(weight, multiplier, q, centre, layer.low, layer.high)
            least = self._bent(weight, multiplier, q, centre)(z)
            bound = bound + jnp.sum(least) + multiplier @ layer.bias
            weight = multiplier @ layer.weight
        return bound + self.ball.least(self.x, weight, self.eps)

    def _lowest_point(
        self, weight: Neurons, multiplier: Neurons, q: Neurons, centre: Neurons,
        low: Neurons, high: Neurons,
    ) -> Neurons:  # fmt: skip
        """About where `weight s(z) - multiplier z + q/2 (z - centre)^2` is least."""
        stop = jax.lax.stop_gradient
        weight, multiplier, q, centre = map(stop, (weight, multiplier, q, centre))
        if self.curve.kinked:
            kink = jnp.clip(jnp.zeros_like(low), low, high)
            slopes = [self.curve.slope(end) for end in (low, high)]
            points = [low, high, kink]
            for slope, ends in zip(slopes, [(low, kink), (kink, high)], strict=True):
                points.append(jnp.clip(centre + (multiplier - weight * slope) / q, *ends))
        else:
            shares = [at / TRIED for at in range(TRIED + 1)]
            points = [low + share * (high - low) for share in shares]
        value = self._bent(weight, multiplier, q, centre)
        at, least = points[0], value(points[0])
        for point in points[1:]:
            here = value(point)
            at, least = jnp.where(here < least, point, at), jnp.minimum(here, least)
        return stop(at)

    def _bent(
        self, weight: Neurons, multiplier: Neurons, q: Neurons, centre: Neurons
    ) -> Callable[[Neurons], Neurons]:
        """What a neuron adds, as a function of its input."""
        return lambda z: weight * self.curve.value(z) - multiplier * z + q / 2 * (z - centre) ** 2

    def proven(self, row: Array, offset: Array, bends: list[_Bend]) -> Array:
        """The bound with room for rounding.

        The sums are those of `lowest`, with its slack and what underflows. Beyond that: c is off by
        `error`, so that (z - c)^2 is below its square plus twice the interval, as both lie in it;
        the roots of q and the weights of pixels are taken as they were computed, rounded up;
        `spectral_norm` is an upper bound of a matrix whose entries are off by a unit in the last
        place each.
        """
        unit, tiny = jnp.finfo(row.dtype).eps, jnp.finfo(row.dtype).tiny
        weight, bound, slack = row, offset, vanished(self.x)
        centres = self.centres()
        pushed = jnp.zeros_like(row)
        _, far = self.pixels()
        spent = jnp.zeros_like(offset)
        for at in reversed(range(len(self.layers))):
            layer, bend, centre = self.layers[at], bends[at], centres[at]
            multiplier, q = weight * bend.slope, jnp.exp(bend.bend)
            least = self._least(weight, multiplier, q, centre.inputs, layer.low, layer.high)
            bound = bound + jnp.sum(least) + multiplier @ layer.bias
            terms = jnp.sum(jnp.abs(least)) + jnp.sum(jnp.abs(multiplier) * 2 * layer.size)
            slack = slack + (layer.bias.size + 16) * unit * terms + 2 * vanished(layer.size)
            width = layer.high - layer.low
            spent = spent + jnp.sum(q * centre.error * (width + centre.error)) * (1 + 0.01)
            weight = multiplier @ layer.weight
            root = jnp.sqrt(q + pushed) * (1 + 8 * unit)
            shares = self.shares(bend)
            scaled = layer.weight * (shares * far if at == 0 else shares)[None]
            rough = length((root[:, None] * scaled).reshape(-1)) * (1 + 0.01)
            largest = (spectral_norm(scaled, root) + 4 * unit * rough) ** 2 * (1 + 16 * unit)
            if at == 0:
                energy = self.energy(1 / shares) * (1 + (shares.size + 16) * unit)
                spent = spent + largest / 2 * energy * (1 + 16 * unit)
            else:
                steepest = centres[at - 1].steepest
                pushed = largest * (1 / shares) ** 2 * steepest**2 * (1 + 16 * unit) + tiny
        pixels = self.ball.least(self.x, weight, self.eps)
        size = jnp.abs(pixels) + jnp.abs(bound) + spent
        return pixels + bound - spent - slack - 16 * unit * size

    def _least(
        self, weight: Neurons, multiplier: Neurons, q: Neurons, centre: Neurons,
        low: Neurons, high: Neurons,
    ) -> Neurons:  # fmt: skip
        """At most the least of `weight s(z) - multiplier z + q/2 (z - centre)^2`.

        On each piece of the interval a line takes the place of the activation; what is left is a
        parabola. Rounding: `lines` has room for its own; each of the few terms here is off by a few
        units in the last place of its magnitude. A lowest point that is off by d costs q d^2 / 2.
        """
        unit = jnp.finfo(weight.dtype).eps
        if self.curve.kinked:
            inner = jnp.clip(jnp.zeros_like(low), low, high)[None]
        else:
            shares = jnp.arange(1, PROVEN, dtype=q.dtype) / PROVEN
            inner = jax.vmap(lambda share: jnp.minimum(low + share * (high - low), high))(shares)

        def piece(left: Neurons, right: Neurons) -> Neurons:
            slope = self.curve.slope(left + (right - left) / 2)
            line = lines(self.activation, left[None], right[None], slope[None], slope[None])
            height = jnp.where(weight > 0, weight * line.low_at[0], weight * line.high_at[0])
            tilt = weight * slope - multiplier
            z = jnp.clip(centre - tilt / jnp.maximum(q, jnp.finfo(q.dtype).tiny), left, right)
            least = tilt * z + height + q / 2 * (z - centre) ** 2
            farthest = jnp.maximum(jnp.maximum(jnp.abs(left), jnp.abs(right)), jnp.abs(centre))
            size = (jnp.abs(weight * slope) + jnp.abs(multiplier)) * farthest + jnp.abs(height)
            return least - 32 * unit * (size + q * (2 * farthest) ** 2)

        points = jnp.concatenate([low[None], inner, high[None]])
        return jnp.min(jax.vmap(piece)(points[:-1], points[1:]), axis=0)


def _powers(weight: Array, root: Neurons, shares: Array, vector: Neurons) -> Neurons:
    """Nearer to the first eigenvector of A A', A the weights between both factors; of length 1."""

    def again(_: Array, vector: Neurons) -> Neurons:
        vector = root * (weight @ (shares**2 * ((root * vector) @ weight)))
        # Of a row of zeros nothing is left.
        largest = jnp.max(jnp.abs(vector))
        return vector / jnp.where(largest > 0, largest, 1.0)

    vector = jax.lax.fori_loop(0, POWERS, again, vector)
    size = jnp.linalg.norm(vector)
    return vector / jnp.where(size > 0, size, 1.0)


def _check_ball(ball: AbstractBall) -> None:
    if ball.name not in ("linf", "l2", "l1"):
        raise ValueError(f"quadratic terms bound changes in linf, l2 or l1, got {ball.name}")
