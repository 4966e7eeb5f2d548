"""Walk through the linear regions of a ReLU network."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.attacks._closest import Closest
from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.threat import L2, AbstractBall


_LEAST = 0.1  # of the way to the boundary that a step goes


class LinearRegion(AbstractMinimalAttack):
    """Step exactly to the nearest decision boundary of the affine piece the image lies in.

    A ReLU network is affine wherever the same units are active. Its weights give that piece
    without a gradient: neither a hidden gradient nor underflow in a loss can mislead the search.
    Where the boundary lies beyond the piece, the walk stops just behind the wall in between and
    takes the next piece from there; each step is the exact one within the box.

    Reference:
        Croce and Hein, "A randomized gradient-free attack on ReLU networks", GCPR 2018, whose
        regions are visited here along the way to the boundary instead of at random.

    Attributes:
        ball: Norm that is minimised.
        steps: Most regions that are visited, at least 1.
        overshoot: Share by which a step goes beyond a wall or a boundary.
        beta: What is kept of the perturbation after an image was found wrong.
    """

    ball: AbstractBall = L2()
    steps: int = eqx.field(static=True, default=100)
    overshoot: float = 0.01
    beta: float = 0.9

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"LinearRegion takes at least one step, got steps={self.steps}")

    @property
    def about(self) -> str:
        return (
            f"linear regions of a ReLU network: up to {self.steps} exact steps to the boundary in "
            f"{self.ball.title}, without gradients"
        )

    @property
    def activations(self) -> frozenset[str]:
        """Activations of networks that are affine in pieces."""
        return frozenset({"relu"})

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key
        if not isinstance(model, MLP) or model.activation not in self.activations:
            raise ValueError("LinearRegion walks through an MLP with relu")

        is_wrong = lambda logits: metrics.margin(logits, y) <= 0

        def step(state: tuple[Array, Closest], _: None) -> tuple[tuple[Array, Closest], None]:
            z, closest = state
            logits, slopes, walls, rates = _piece(model, z)
            lead, slope = logits - logits[y], slopes - slopes[y][None]
            other = jnp.arange(lead.size, dtype=y.dtype) != y
            closest = closest.see(z, is_wrong(logits), self.ball.size(z - x))
            move = jax.vmap(lambda w, rise: self.ball.nearest(z, w, rise))(slope, -lead)
            reached = jnp.sum(slope * move, axis=1) >= -lead - 1e-3 * jnp.abs(lead)
            # A class whose boundary lies outside the box counts only where all do.
            size = jax.vmap(self.ball.size)(move) + jnp.where(reached, 0.0, 1e6)
            way = move[jnp.argmin(jnp.where(other, size, jnp.inf))] * (1 + self.overshoot)
            # The share of the way at which the first unit changes over.
            change = rates @ way
            crossing = jnp.where(change * walls < 0, -walls / change, jnp.inf)
            first = jnp.min(crossing, initial=jnp.inf)
            # Behind the wall, and past whole crowds of walls that stand close together.
            share = jnp.clip(first * (1 + self.overshoot), _LEAST, 1.0)
            # The boundary of this piece may go on in the next: the end of the way is tried as well.
            end = jnp.clip(z + way, 0.0, 1.0)
            closest = closest.see(end, is_wrong(model(end)), self.ball.size(end - x))
            ahead = jnp.clip(z + share * way, 0.0, 1.0)
            # From behind the boundary back towards the image, and on from there.
            return (jnp.where(is_wrong(logits), x + self.beta * (z - x), ahead), closest), None

        (z, closest), _ = jax.lax.scan(step, (x, Closest.none(x)), length=self.steps)
        closest = closest.see(z, is_wrong(model(z)), self.ball.size(z - x))
        return jnp.where(closest.found, closest.image, z)


def _piece(model: MLP, z: Float[Array, " pixels"]) -> tuple[Array, Array, Array, Array]:
    """The affine piece at `z`: logits, their slopes, and every hidden unit with its slope."""
    value, slope = model.layers[0](z), model.layers[0].weight
    walls, rates = [jnp.zeros(0, z.dtype)], [jnp.zeros((0, z.size), z.dtype)]
    for layer in model.layers[1:]:
        walls.append(value)
        rates.append(slope)
        active = value > 0
        value = layer(jnp.where(active, value, 0.0))
        slope = layer.weight @ jnp.where(active[:, None], slope, 0.0)
    return value, slope, jnp.concatenate(walls), jnp.concatenate(rates)
