"""alpha-CROWN: the slopes of the lines are optimised for each image and margin."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from robust_mnist.certify._backward import (
    Hidden,
    hidden_layers,
    intersected,
    lowest,
    margin_rows,
    worst,
)
from robust_mnist.certify._base import AbstractCertifier
from robust_mnist.certify._lines import CURVES, lines
from robust_mnist.models import MLP
from robust_mnist.threat import AbstractBall, Linf


class AlphaCROWN(AbstractCertifier):
    """CROWN, then RMSProp with momentum on the slopes of all lines, of their own for every margin.

    Any slopes give a sound bound, so that the best of all iterates counts, CROWN's own among them.
    Bounds on the hidden layers stay those of CROWN.

    Reference:
        Xu et al., "Fast and complete: enabling complete neural network verification with rapid and
        massively parallel incomplete verifiers", ICLR 2021.

    Attributes:
        ball: Norm of the ball.
        steps: Steps of the optimiser, at least 1.
        rate: Length of the first, as a share of the range of slopes that the activation has between
            its bounds; it falls to a tenth.
    """

    ball: AbstractBall = Linf()
    steps: int = eqx.field(static=True, default=20)
    rate: float = 0.1

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(
                f"alpha-CROWN needs at least one step, got steps={self.steps}; CROWN takes none"
            )

    @property
    def about(self) -> str:
        return (
            f"CROWN with slopes optimised in {self.steps} steps (alpha-CROWN) in "
            f"{self.ball.title}: a proof"
        )

    @property
    def activations(self) -> frozenset[str]:
        return frozenset(CURVES)

    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        layers = hidden_layers(model, self.ball, x, eps, refine=True)
        rows, offset = margin_rows(model, y)

        def bounds(moves: list[Array]) -> tuple[Array, Array]:
            moved = [
                _moved(model.activation, layer, move)
                for layer, move in zip(layers, moves, strict=True)
            ]
            margins = lowest(rows, offset, moved, self.ball, x, eps)
            # No margin depends on the slopes of another, so that their sum optimises each.
            return jnp.sum(margins), margins

        ascent = optax.chain(optax.scale_by_rms(initial_scale=1e-12), optax.trace(decay=0.5))
        schedule = self.rate * jnp.linspace(1.0, 0.1, self.steps, dtype=x.dtype)

        def step(
            state: tuple[list[Array], optax.OptState, Array], rate: Array
        ) -> tuple[tuple[list[Array], optax.OptState, Array], None]:
            moves, memory, best = state
            (_, margins), slope = jax.value_and_grad(bounds, has_aux=True)(moves)
            change, memory = ascent.update(slope, memory)
            moves = jax.tree.map(lambda move, by: move + rate * by, moves, change)
            return (moves, memory, _better(margins, best)), None

        none = [jnp.zeros((2, offset.size, layer.bias.size), x.dtype) for layer in layers]
        start = (none, ascent.init(none), jnp.full_like(offset, -jnp.inf))
        (moves, _, best), _ = jax.lax.scan(step, start, schedule)
        # The last iterate has not been bounded yet.
        best = _better(bounds(moves)[1], best)
        return worst(intersected(best, rows, offset, layers, model.activation), y)


def _better(margins: Array, best: Array) -> Array:
    # Where an optimiser ran into NaN, the best iterate before stands.
    return jnp.where(margins > best, margins, best)


def _moved(activation: str, layer: Hidden, move: Array) -> Hidden:
    """The layer with slopes moved by shares of the range of slopes between its bounds."""
    curve = CURVES[activation]
    low, high = layer.low[None], layer.high[None]
    least, most = curve.slopes_between(low, high)
    scale = most - least
    low_slope, high_slope = layer.lines.low_slope, layer.lines.high_slope
    slopes = low_slope + move[0] * scale, high_slope + move[1] * scale
    return layer._replace(lines=lines(activation, low, high, *slopes))
