"""Square attack: random search with the logits alone."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


# The share of pixels in a window is halved after these queries of 10,000.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


class Square(AbstractBallAttack):
    """Change a random square window, and keep the change where the margin falls.

    It needs no gradient, so a model that hides its gradient does not hide from it. Every image has
    its own windows and signs. As in the authors' code, the corner of a window is rounded down, so
    the last row and column it could start at are never used.

    Reference:
        Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack via
        random search", ECCV 2020, algorithms 1 to 3.

    Attributes:
        ball: Norm that bounds the perturbation, Linf or L2.
        queries: Number of windows to try, at least 1; one query more scores the start.
        p_init: Share of the pixels in the first windows.
        rescale: Whether the schedule of window sizes is stretched from 10,000 to `queries`.
    """

    ball: AbstractBall = Linf()
    queries: int = eqx.field(static=True, default=5000)
    p_init: float = eqx.field(static=True, default=0.8)
    rescale: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if self.ball.name not in {"linf", "l2"}:
            raise ValueError(f"Square acts in linf or l2, got {self.ball.name}")
        if self.queries < 1:
            raise ValueError(f"Square takes at least one query, got queries={self.queries}")
        if not 0 < self.p_init <= 1:
            raise ValueError(f"Square needs 0 < p_init <= 1, got {self.p_init}")

    @property
    def about(self) -> str:
        return (
            f"Square, random search without gradients: {self.queries} windows in {self.ball.title}"
        )

    @property
    def one_step(self) -> bool:
        return False

    def sides(self, height: int) -> list[int]:
        """Side of the window of each query, for images of `height` rows and columns."""
        query = np.arange(self.queries)
        if self.rescale:
            query = (query / self.queries * 10_000).astype(int)
        halvings = np.sum(query[:, None] > np.array(_HALVED_AFTER)[None], axis=1)
        side = np.sqrt(self.p_init / 2.0**halvings * height**2).round().astype(int)
        if self.ball.name == "linf":
            return [max(int(s), 1) for s in side]
        odd = [max(int(s), 3) for s in side]
        return [s + 1 - s % 2 for s in odd]

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Array,
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        height = math.isqrt(x.size)
        if height**2 != x.size or height < 5:
            raise ValueError(f"Square needs square images of 5 x 5 or more, got {x.size} pixels")
        score = lambda z: metrics.margin(model(z), y)
        propose: Any = self._in_linf if self.ball.name == "linf" else self._in_l2
        start, change = propose(x.reshape(height, height), eps, jax.random.fold_in(key, 0))

        def query(
            state: tuple[Array, Array], plan: tuple[Array, Array, Array]
        ) -> tuple[tuple[Array, Array], None]:
            best, lowest = state
            number, side, kind = plan
            z = change(best, side, kind, jax.random.fold_in(key, number))
            margin = score(z.ravel())
            # A wrong image ends the search; a NaN compares as false and is not kept.
            take = (margin < lowest) & (lowest > 0)
            return (jnp.where(take, z, best), jnp.where(take, margin, lowest)), None

        sides = self.sides(height)
        kinds = {side: kind for kind, side in enumerate(dict.fromkeys(sides))}
        plan = (
            jnp.arange(1, self.queries + 1),
            jnp.asarray(sides),
            jnp.asarray([kinds[side] for side in sides]),
        )
        margin = score(start.ravel())
        first = (start, jnp.where(jnp.isnan(margin), jnp.inf, margin))
        (best, _), _ = jax.lax.scan(query, first, plan)
        return best.ravel()

    def _in_linf(self, x: Array, eps: Array, key: PRNGKeyArray) -> tuple[Array, Any]:
        height = x.shape[0]
        stripes = jax.random.rademacher(key, (1, height), dtype=x.dtype)

        def change(z: Array, side: Array, kind: Array, key: PRNGKeyArray) -> Array:
            del kind
            place, sign = jax.random.split(key)
            window = _window(*_corner(place, height, side), side, height)
            move = 2 * eps * jax.random.rademacher(sign, (), dtype=x.dtype)
            moved = jnp.clip(z + jnp.where(window, move, 0.0), x - eps, x + eps)
            return jnp.clip(moved, 0.0, 1.0)

        return jnp.clip(x + eps * stripes, 0.0, 1.0), change

    def _in_l2(self, x: Array, eps: Array, key: PRNGKeyArray) -> tuple[Array, Any]:
        height = x.shape[0]
        bumps = jnp.asarray(
            np.stack([_bump(side, height) for side in dict.fromkeys(self.sides(height))]), x.dtype
        )
        scaled = lambda delta: jnp.clip(x + eps * delta / _length(delta), 0.0, 1.0)

        def change(z: Array, side: Array, kind: Array, key: PRNGKeyArray) -> Array:
            to_key, from_key, sign_key, turn_key = jax.random.split(key, 4)
            delta = z - x
            row, column = _corner(to_key, height, side)
            to = _window(row, column, side, height)
            source = _window(*_corner(from_key, height, side), side, height)
            both = _length(jnp.where(to | source, delta, 0.0))
            bump = bumps[kind]
            bump = jnp.where(jax.random.bernoulli(turn_key), bump.T, bump)
            bump = jnp.roll(jnp.roll(bump, row, axis=0), column, axis=1)
            own = jnp.where(to, delta, 0.0)
            new = bump * jax.random.rademacher(sign_key, (), dtype=x.dtype) + own / _length(own)
            # The window gets what the two windows held, and what the box took of the budget.
            left = jnp.maximum(eps**2 - jnp.sum(delta**2), 0.0)
            new = jnp.where(to, new, 0.0)
            new = new / _length(new) * jnp.sqrt(left + both**2)
            return scaled(jnp.where(to, new, jnp.where(source, 0.0, delta)))

        tile = height // 5
        count = height // tile
        margin = (height - 5 * tile) // 2
        signs = jax.random.rademacher(key, (count, count), dtype=x.dtype)
        turns = jax.random.bernoulli(jax.random.fold_in(key, 1), shape=(count, count))
        pattern = jnp.asarray(_bump(tile, tile), x.dtype)
        turned = jnp.where(turns[:, :, None, None], pattern.T[None, None], pattern[None, None])
        tiles = signs[:, :, None, None] * turned
        whole = (height - margin) // tile  # as many as lie inside, behind the margin
        square = tiles[:whole, :whole].swapaxes(1, 2).reshape(whole * tile, whole * tile)
        delta = jnp.pad(square, (margin, height - margin - whole * tile))
        return scaled(delta), change


def _length(delta: Array) -> Array:
    return jnp.maximum(jnp.linalg.norm(delta), 1e-12)


def _corner(key: PRNGKeyArray, height: int, side: Array) -> tuple[Array, Array]:
    span = (height - side).astype(jnp.float32)
    at = jnp.floor(jax.random.uniform(key, (2,), span.dtype) * span).astype(side.dtype)
    return at[0], at[1]


def _window(row: Array, column: Array, side: Array, height: int) -> Array:
    at = jnp.arange(height, dtype=side.dtype)
    inside = lambda start: (at >= start) & (at < start + side)
    return inside(row)[:, None] & inside(column)[None, :]


def _bump(side: int, height: int) -> np.ndarray:
    """Two opposite pyramids, one above the other, of length 1, in the corner of an empty image."""
    upper = side // 2
    image = np.zeros((height, height))
    image[:upper, :side] = _pyramid(upper, side)
    image[upper:side, :side] = -_pyramid(side - upper, side)
    return image / np.linalg.norm(image)


def _pyramid(rows: int, columns: int) -> np.ndarray:
    """Nested rectangles around the middle; the k-th adds 1 / k^2."""
    image = np.zeros((rows, columns))
    if not rows:
        return image
    top, left = rows // 2, columns // 2
    for k in range(max(rows // 2 + 1, columns // 2 + 1)):
        above, before = max(top - k, 0), max(left - k, 0)
        image[above : top + k + 1, before : left + k + 1] += 1.0 / (k + 1) ** 2
    return image / np.linalg.norm(image)
