"""Jacobian-based saliency map attack."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L0, AbstractBall, room


# All pairs of 784 pixels would be 306,936 at every step.
_PAIRED = 64


class JSMA(AbstractMinimalAttack):
    """Move, two at a time, the pixels that lift one class and lower the others most.

    Every wrong class is a target in turn, likeliest first, and the answer with the fewest changed
    pixels is kept.

    Reference:
        Papernot et al., "The limitations of deep learning in adversarial settings", EuroS&P 2016,
        algorithms 1 to 3, with pixels moved in either direction: dark digits on a light ground
        and the reverse are attacked alike. Pairs are made of the 64 most promising pixels alone, of
        images that have more.

    Attributes:
        theta: How far a pixel moves at a time; the box stops it.
        gamma: Largest share of the pixels that may change.
        targets: How many classes to try.
    """

    theta: float = 1.0
    gamma: float = eqx.field(static=True, default=0.1)
    targets: int = eqx.field(static=True, default=9)

    def __check_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"JSMA needs 0 < gamma <= 1, got {self.gamma}")
        if self.targets < 1:
            raise ValueError(f"JSMA needs at least one target class, got {self.targets}")

    @property
    def ball(self) -> AbstractBall:
        return L0()

    @property
    def about(self) -> str:
        return (
            f"saliency map attack (JSMA) towards each of {self.targets} wrong classes: pairs of "
            f"pixels, up to {self.gamma:.0%} of them, in L0"
        )

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key
        logits = model(x)
        count = min(self.targets, logits.size - 1)
        order = jnp.argsort(metrics.other_logits(logits, y), descending=True)[:count]
        found = jax.lax.map(lambda target: self._towards(model, x, y, target), order)
        wrong = jax.vmap(lambda z: metrics.margin(model(z), y) <= 0)(found)
        changed = jax.vmap(lambda z: self.ball.size(z - x))(found)
        return found[jnp.argmin(jnp.where(wrong, changed, jnp.inf))]

    def _towards(
        self, model: AbstractClassifier, x: Array, y: Array, target: Array
    ) -> Float[Array, " pixels"]:
        def flip(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            z, free = state
            logits, pull = jax.vjp(model, z)
            (lift,) = pull(jax.nn.one_hot(target, logits.size, dtype=logits.dtype))
            (total,) = pull(jnp.ones_like(logits))
            free &= room(z, lift) > 0
            first, second = _best_pair(lift, total - lift, free)
            at = jnp.stack([first, second])
            moved = jnp.clip(z.at[at].add(self.theta * jnp.sign(lift[at])), 0.0, 1.0)
            done = metrics.margin(logits, y) <= 0
            return (jnp.where(done, z, moved), free.at[at].set(False)), None

        pairs = max(int(self.gamma * x.size / 2), 1)
        free = jnp.ones(x.shape, bool)
        return jax.lax.scan(flip, (x, free), length=pairs)[0][0]


def _best_pair(lift: Array, others: Array, free: Array) -> tuple[Array, Array]:
    """The two pixels with the largest saliency: target up times others down.

    Only the most salient single pixels are paired; all pairs of 784 would be 300,000 a step.
    """
    sign = jnp.sign(lift)
    up, down = jnp.abs(lift), -sign * others
    value, at = jax.lax.top_k(jnp.where(free, up + down, -jnp.inf), min(_PAIRED, lift.size))
    up, down = (part[at][:, None] + part[at][None, :] for part in (up, down))
    salient = jnp.where((up > 0) & (down > 0), up * down, 0.0)
    # Where no pair moves both ways, the one that lifts the target most over the others.
    score = jnp.where(jnp.any(salient > 0), salient, up + down)
    usable = jnp.isfinite(value)[:, None] & jnp.isfinite(value)[None, :]
    score = jnp.where(usable & ~jnp.eye(value.size, dtype=bool), score, -jnp.inf)
    first, second = jnp.unravel_index(jnp.argmax(score), score.shape)
    return at[first], at[second]
