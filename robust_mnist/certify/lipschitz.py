"""Lipschitz bounds: how much a margin can fall for each unit that the image moves."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from robust_mnist.certify._backward import Hidden, hidden_layers, margin_rows, worst
from robust_mnist.certify._base import AbstractCertifier
from robust_mnist.certify._intervals import affine, floor
from robust_mnist.certify._lines import CURVES
from robust_mnist.certify._norms import length, spectral_norm
from robust_mnist.models import ACTIVATIONS, MLP
from robust_mnist.threat import L2, AbstractBall, Linf


# No slope of the activation is steeper; GELU and SiLU, which are not monotone, are above 1.
STEEPEST: dict[str, float] = {
    "tanh": 1.0,
    "relu": 1.0,
    "sigmoid": 0.25,
    "gelu": 1.129,
    "silu": 1.1,
    "elu": 1.0,
    "softplus": 1.0,
    "leaky-relu": 1.0,
    "abs": 1.0,
}
Layer = Float[Array, " _"]  # a number for each neuron of a layer
Slopes = tuple[Layer, Layer]  # least and most


class GlobalLipschitz(AbstractCertifier):
    """The clean margin minus the most that any image so close can differ in it.

    The margin to class j is `(W_y - W_j) s(W s(... x))`, and moves by at most the length of
    `W_y - W_j`, times the spectral norms of the other layers, times the steepest slopes, times the
    Euclidean length of the change. These products are the same for all images: fast, and loose but
    for a network that is made for it. In Linf the first layer's norm is the smaller of two bounds:
    that of the ball's longest change, and that of the largest change of each neuron.

    Reference:
        Tsuzuku, Sato and Sugiyama, "Lipschitz-margin training: scalable certification of
        perturbation invariance for deep neural networks", NeurIPS 2018, with the difference of the
        last rows of Leino, Wang and Fredrikson, "Globally-robust neural networks", ICML 2021.

    Attributes:
        ball: Norm of the ball, L2 or Linf.
    """

    ball: AbstractBall = L2()

    def __check_init__(self) -> None:
        _check(self.ball)

    @property
    def about(self) -> str:
        return (
            f"spectral norms of all layers (global Lipschitz bound) in {self.ball.title}: a proof"
        )

    @property
    def batch(self) -> int:
        return 1000  # the norms are found once for all of them

    @property
    def activations(self) -> frozenset[str]:
        return frozenset(STEEPEST)

    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        rows, offset = margin_rows(model, y)
        most = [jnp.full_like(layer.bias, STEEPEST[model.activation]) for layer in model.layers]
        falls = _product(model, rows, most[:-1], self.ball, x, eps)
        return worst(clean_margins(model, x, rows, offset) - falls, y)


class LocalLipschitz(AbstractCertifier):
    """The same with the slopes that activations have in this ball, in two ways.

    CROWN bounds the inputs of each neuron, and those its slope. The smaller of two bounds counts,
    class by class: the product of norms, each layer between the roots of the steepest slopes on
    either side, which suits many slopes of middling size; and intervals of the derivative by each
    pixel, from the margin backwards, which know signs, the norm of the ball, and that a pixel at an
    end of its range can move one way only.

    Reference:
        Weng et al., "Towards fast computation of certified robustness for ReLU networks", ICML
        2018, whose Fast-Lip has such intervals.

    Attributes:
        ball: Norm of the ball, L2 or Linf.
    """

    ball: AbstractBall = L2()

    def __check_init__(self) -> None:
        _check(self.ball)

    @property
    def about(self) -> str:
        return f"slopes bounded in each ball (local Lipschitz bound) in {self.ball.title}: a proof"

    @property
    def activations(self) -> frozenset[str]:
        return frozenset(CURVES)

    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        layers = hidden_layers(model, self.ball, x, eps, refine=True)
        slopes = [_slopes(model.activation, layer) for layer in layers]
        rows, offset = margin_rows(model, y)
        by_norms = _product(model, rows, [most for _, most in slopes], self.ball, x, eps)
        by_pixels = _derivatives(model, rows, slopes, self.ball, x, eps)
        falls = jnp.minimum(by_norms, by_pixels)
        return worst(clean_margins(model, x, rows, offset) - falls, y)


def _check(ball: AbstractBall) -> None:
    if not isinstance(ball, L2 | Linf):
        raise TypeError(f"Lipschitz bounds are for L2 and Linf, got {ball.title}; use CROWN")


def clean_margins(
    model: MLP,
    x: Float[Array, " pixels"],
    rows: Float[Array, "rows neurons"],
    offset: Float[Array, " rows"],
) -> Float[Array, " rows"]:
    """Lower bounds on `rows @ a + offset` at the clean image, a the last hidden outputs.

    Rounding is carried forward as a distance: `off` is at least the Euclidean distance of the
    computed outputs of a layer from the exact ones. A layer stretches it by its spectral norm, and
    adds what its own sums lose: of n terms that are not 0, and a bias, at most (n + 1) u times the
    sum of their magnitudes, u half a unit in the last place, for which 2 (n + 4) u are taken. An
    activation stretches it by its steepest slope, and is right to 16 units in the last place of
    its input or output. Norms of m terms are right to a share of m u, twice covered by the last
    factor of each step.
    """
    act, steepest = ACTIVATIONS[model.activation], STEEPEST[model.activation]
    limits = jnp.finfo(x.dtype)
    outputs, off = x, jnp.zeros((), x.dtype)
    for layer in model.layers[:-1]:
        inputs = layer(outputs)
        lost = _lost(layer.weight, layer.bias, outputs)
        norm = spectral_norm(layer.weight, jnp.ones_like(layer.bias))
        off = norm * off + length(lost)
        outputs = act(inputs)
        lost = 16 * (limits.eps * (jnp.abs(inputs) + jnp.abs(outputs)) + limits.tiny)
        off = (steepest * off + length(lost)) * (1 + (lost.size + 16) * limits.eps)
    lengths = length(rows) * (1 + (rows.shape[1] + 16) * limits.eps)
    return rows @ outputs + offset - _lost(rows, offset, outputs) - lengths * off


def rounding(model: MLP) -> float:
    """How far a margin that is computed in float64 may lie from the exact one, for any image.

    With u half a unit in the last place, a sum of n products and a bias is off by at most
    (n + 1) u times the sum of their magnitudes, in any order; what it starts from is off already,
    which `|W|` carries on, and an activation stretches it by its steepest slope and is right to 16
    units in the last place of its input or output. The floor covers products that underflow. Twice
    the outcome covers terms in u^2 and the rounding of this very computation. Infinite where
    magnitudes overflow.
    """
    eps = float(np.finfo(np.float64).eps)
    steepest = STEEPEST[model.activation]
    at_zero = abs(float(ACTIVATIONS[model.activation](jnp.zeros(()))))
    size = np.ones(model.layers[0].weight.shape[1])
    off = np.zeros_like(size)
    with np.errstate(over="ignore", invalid="ignore"):
        for number, layer in enumerate(model.layers, start=1):
            weight, bias = (np.abs(np.asarray(a, np.float64)) for a in (layer.weight, layer.bias))
            size, off = weight @ size + bias, weight @ off
            off = off + (weight.shape[1] + 1) * eps * (size + floor(np.float64))
            if number < len(model.layers):
                reached = steepest * size + at_zero
                off = steepest * off + 16 * (eps * (size + reached) + np.finfo(np.float64).tiny)
                size = reached
    most = float(2 * (2 * np.max(off) + 2 * eps * np.max(size)))
    return most if math.isfinite(most) else math.inf


def _lost(
    weight: Float[Array, "rows below"], bias: Float[Array, " rows"], values: Float[Array, " below"]
) -> Float[Array, " rows"]:
    """What rounding can do to `weight @ values + bias`; terms that are 0 are exact.

    The floor covers products that underflow, here and where what is lost is carried on.
    """
    terms = jnp.sum(values != 0, dtype=values.dtype) + 4
    size = jnp.abs(weight) @ jnp.abs(values) + jnp.abs(bias) + floor(values.dtype)
    return terms * jnp.finfo(values.dtype).eps * size


def _product(
    model: MLP,
    rows: Float[Array, "rows neurons"],
    most: Sequence[Layer],
    ball: AbstractBall,
    x: Float[Array, " pixels"],
    eps: Float[Array, ""],
) -> Float[Array, " rows"]:
    """The most that each row can fall, as a product of norms.

    The outputs of two images differ by `diag(d) W` times the difference of the inputs, with d
    between 0 and `most`. Written as `diag(r) diag(d / most) diag(r)` with r the root of `most`, it
    lies between two layers that it shortens.

    Rounding: each factor is a sum of n positive terms or the root of one, right to a share of n u;
    2 n u and 32 u more are taken for each layer. A product that underflows counts as the smallest
    normal number, not as 0.
    """
    share, tiny = _share(model, x), jnp.finfo(x.dtype).tiny
    if not most:
        return _fall(ball, jnp.abs(rows), x, eps) * share
    roots = [jnp.sqrt(slope) for slope in most]
    first = model.layers[0].weight
    longest = spectral_norm(first, roots[0]) * _length(ball, x, eps)
    each = length(roots[0] * _fall(ball, jnp.abs(first), x, eps) + tiny)
    reach = jnp.minimum(longest, each) + tiny
    for layer, below, above in zip(model.layers[1:-1], roots[:-1], roots[1:], strict=True):
        reach = reach * spectral_norm(layer.weight * below[None], above) + tiny
    return (length(jnp.abs(rows) * roots[-1][None] + tiny) * reach + tiny) * share


def _derivatives(
    model: MLP,
    rows: Float[Array, "rows neurons"],
    slopes: Sequence[Slopes],
    ball: AbstractBall,
    x: Float[Array, " pixels"],
    eps: Float[Array, ""],
) -> Float[Array, " rows"]:
    """The most that each row can fall, from intervals of its derivative by each pixel.

    Rounding: products of a layer are widened as intervals are, which has room for the slopes; the
    last sum is that of `_product`.
    """
    low = high = rows
    for layer, (least, most) in zip(model.layers[-2::-1], reversed(slopes), strict=True):
        low = jnp.minimum(low * least[None], low * most[None])
        high = jnp.maximum(high * least[None], high * most[None])
        none = jnp.zeros_like(layer.weight[0])
        back = lambda low, high, w=layer.weight.T, none=none: affine(w, none, low, high)[:2]
        low, high = jax.vmap(back)(low, high)
    # A pixel at 0 can only rise, one at 1 only fall.
    falls, rises = jnp.where(x > 0, high, 0.0), jnp.where(x < 1, -low, 0.0)
    steepest = jnp.maximum(jnp.maximum(falls, rises), 0.0)
    return _fall(ball, steepest, x, eps) * _share(model, x)


def _share(model: MLP, x: Float[Array, " pixels"]) -> Float[Array, ""]:
    terms = sum(layer.weight.shape[1] + 16 for layer in model.layers)
    return jnp.asarray(1 + terms * float(jnp.finfo(x.dtype).eps), x.dtype)


def _slopes(activation: str, layer: Hidden) -> Slopes:
    """The least and the greatest slope of each neuron between its bounds.

    At an end of the interval, or for an S-shaped activation where it is steepest, at 0.
    """
    curve, limits = CURVES[activation], jnp.finfo(layer.low.dtype)
    middle = jnp.clip(jnp.zeros_like(layer.low), layer.low, layer.high)
    found = jnp.stack([curve.slope(point) for point in (layer.low, layer.high, middle)])
    least = jnp.maximum(jnp.min(found, axis=0) - 16 * limits.eps, 0.0)
    return least, jnp.minimum(jnp.max(found, axis=0) + 16 * limits.eps, STEEPEST[activation])


def _length(
    ball: AbstractBall, x: Float[Array, " pixels"], eps: Float[Array, ""]
) -> Float[Array, ""]:
    """The largest Euclidean length of a change in ball and box."""
    far = jnp.maximum(x, 1 - x)
    if isinstance(ball, Linf):
        return length(jnp.minimum(far, eps))
    return jnp.minimum(eps, length(far))


def _fall(
    ball: AbstractBall,
    steepest: Float[Array, "rows pixels"],
    x: Float[Array, " pixels"],
    eps: Float[Array, ""],
) -> Float[Array, " rows"]:
    """The most that `steepest @ |change|` can be in ball and box, for slopes of at least 0.

    Each product counts as the smallest normal number at least, since one that underflows is 0.
    """
    tiny = jnp.finfo(x.dtype).tiny
    if isinstance(ball, Linf):
        return steepest @ jnp.minimum(jnp.maximum(x, 1 - x), eps) + x.size * tiny
    return length(steepest) * _length(ball, x, eps) + tiny
