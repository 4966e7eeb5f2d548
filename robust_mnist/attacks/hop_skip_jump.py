"""HopSkipJump: along the decision boundary, by the class alone."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from robust_mnist.attacks import _decision
from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.attacks._closest import Closest
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L2, AbstractBall


class _Plan(eqx.Module):
    """What a query is for: its phase, its place in the phase, the iteration, and its number."""

    phase: Int[Array, "*queries"]
    turn: Int[Array, "*queries"]
    iteration: Int[Array, "*queries"]
    number: Int[Array, "*queries"]


class _State(eqx.Module):
    z: Float[Array, " pixels"]
    closest: Closest
    # Of the probes around z: the sum of their moves, the same signed by their class, and the signs.
    moves: Float[Array, " pixels"]
    signed: Float[Array, " pixels"]
    signs: Float[Array, ""]
    stepped: Bool[Array, ""]
    # The image that is pulled in, and the shares of its size between which the boundary lies.
    far: Float[Array, " pixels"]
    low: Float[Array, ""]
    high: Float[Array, ""]


class HopSkipJump(AbstractMinimalAttack):
    """Estimate the normal of the boundary from classes around it, step along it, and pull back.

    Every query is a step of one loop, so that the number of queries is known beforehand. Steps are
    halved a fixed number of times, where the authors go on until the image is wrong.

    Reference:
        Chen, Jordan and Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack",
        IEEE Symposium on Security and Privacy 2020, algorithm 2, from another start.

    Attributes:
        ball: Norm that is minimised, Linf or L2.
        steps: Number of iterations, at least 1.
        first_queries: Probes of the normal in the first iteration; in iteration t sqrt(t) times as
            many.
        most_queries: Largest number of probes in an iteration.
        first_width: Length of the first probes; later ones are as long as the perturbation over
            the number of pixels.
        lengths: How many lengths of a step are tried, each half of the one before.
    """

    ball: AbstractBall = L2()
    steps: int = eqx.field(static=True, default=64)
    first_queries: int = eqx.field(static=True, default=100)
    most_queries: int = eqx.field(static=True, default=10_000)
    first_width: float = eqx.field(static=True, default=0.1)
    lengths: int = eqx.field(static=True, default=15)

    def __check_init__(self) -> None:
        if self.ball.name not in {"linf", "l2"}:
            raise ValueError(f"HopSkipJump acts in linf or l2, got {self.ball.name}")
        if min(self.steps, self.first_queries, self.most_queries, self.lengths) < 1:
            raise ValueError(
                "HopSkipJump takes at least one step, query and length, got "
                f"steps={self.steps}, first_queries={self.first_queries}, "
                f"most_queries={self.most_queries} and lengths={self.lengths}"
            )

    @property
    def about(self) -> str:
        return (
            f"HopSkipJump, which asks for classes alone: {self.steps} iterations from "
            f"{self.first_queries} queries up in {self.ball.title}"
        )

    def probes(self) -> list[int]:
        """Number of probes of each iteration."""
        growing = (int(self.first_queries * math.sqrt(t)) for t in range(1, self.steps + 1))
        return [min(count, self.most_queries) for count in growing]

    def halvings(self, pixels: int) -> int:
        """How often the distance to the boundary is halved: down to d^-1.5 in L2, d^-2 in Linf."""
        power = 1.5 if self.ball.name == "l2" else 2.0
        return math.ceil(power * math.log2(pixels))

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        is_wrong = _decision.decision(model, y)
        seen = _decision.start(is_wrong, self.ball, x, jax.random.fold_in(key, 0))
        none, zero = jnp.zeros_like(x), jnp.zeros((), x.dtype)
        state = _State(
            z=seen.image, closest=seen, moves=none, signed=none, signs=zero,
            stepped=jnp.array(False), far=seen.image, low=zero, high=zero,
        )  # fmt: skip

        def probe(state: _State, plan: _Plan) -> _State:
            first = plan.turn == 0
            fresh = lambda total: jnp.where(first, jnp.zeros_like(total), total)
            later = self.ball.size(state.z - x) / x.size
            width = jnp.where(plan.iteration == 1, self.first_width, later)
            direction = self._draw(jax.random.fold_in(key, plan.number), x)
            z = jnp.clip(state.z + width * direction, 0.0, 1.0)
            move, sign = z - state.z, jnp.where(is_wrong(z), 1.0, -1.0)
            return eqx.tree_at(
                lambda s: (s.moves, s.signed, s.signs),
                state,
                (
                    fresh(state.moves) + move,
                    fresh(state.signed) + sign * move,
                    fresh(state.signs) + sign,
                ),
            )

        def step(state: _State, plan: _Plan) -> _State:
            count = jnp.asarray(self.probes(), x.dtype)[plan.iteration - 1]
            normal = self.ball.steepest(self._normal(state, count))
            share = 0.5 ** plan.turn.astype(x.dtype) / jnp.sqrt(plan.iteration.astype(x.dtype))
            z = jnp.clip(state.z + share * self.ball.size(state.z - x) * normal, 0.0, 1.0)
            stepped = jnp.where(plan.turn == 0, False, state.stepped)
            take = is_wrong(z) & ~stepped
            return eqx.tree_at(
                lambda s: (s.z, s.stepped), state, (jnp.where(take, z, state.z), stepped | take)
            )

        def pull(state: _State, plan: _Plan) -> _State:
            first = plan.turn == 0
            far = jnp.where(first, state.z, state.far)
            low, high = jnp.where(first, 0.0, state.low), jnp.where(first, 1.0, state.high)
            middle = (low + high) / 2
            z = _decision.nearer(self.ball, x, far, middle)
            wrong = is_wrong(z)
            return eqx.tree_at(
                lambda s: (s.z, s.closest, s.far, s.low, s.high),
                state,
                (
                    jnp.where(wrong, z, state.z),
                    state.closest.see(z, wrong, self.ball.size(z - x)),
                    far,
                    jnp.where(wrong, low, middle),
                    jnp.where(wrong, middle, high),
                ),
            )

        def query(state: _State, plan: _Plan) -> tuple[_State, None]:
            return jax.lax.switch(plan.phase, (probe, step, pull), state, plan), None

        state, _ = jax.lax.scan(query, state, self._plan(x.size))
        return state.closest.image

    def _plan(self, pixels: int) -> _Plan:
        probe, step, pull = range(3)
        phases = [(pull, self.halvings(pixels), 0)]
        for iteration, probes in enumerate(self.probes(), 1):
            phases += [(probe, probes, iteration), (step, self.lengths, iteration)]
            phases += [(pull, self.halvings(pixels), iteration)]
        kind, counts, iteration = np.array(phases).T
        spread = lambda values: jnp.asarray(np.repeat(values, counts), jnp.int32)
        turns = np.concatenate([np.arange(count) for count in counts])
        numbers = jnp.arange(1, len(turns) + 1, dtype=jnp.int32)
        return _Plan(spread(kind), jnp.asarray(turns, jnp.int32), spread(iteration), numbers)

    def _normal(self, state: _State, count: Array) -> Array:
        """The mean move of the probes that were wrong, less that of those that were right."""
        mean = state.signs / count
        baseline = jnp.where(jnp.abs(mean) == 1, 0.0, mean)
        return state.signed - baseline * state.moves

    def _draw(self, key: PRNGKeyArray, x: Array) -> Array:
        """A random direction of Euclidean length 1."""
        if self.ball.name == "linf":
            draw = jax.random.uniform(key, x.shape, x.dtype, minval=-1.0, maxval=1.0)
        else:
            draw = jax.random.normal(key, x.shape, x.dtype)
        return draw / jnp.linalg.norm(draw)
