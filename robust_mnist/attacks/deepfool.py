"""DeepFool."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L2, AbstractBall


class DeepFool(AbstractMinimalAttack):
    """Step to the nearest boundary of the linearised classifier, again and again.

    The authors step as if there were no box; here each step is the exact one within the box.

    Reference:
        Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep
        neural networks", CVPR 2016, algorithm 2.

    Attributes:
        ball: Norm that is minimised.
        steps: Most steps that are taken, at least 1.
        overshoot: Share by which a step goes beyond the boundary.
    """

    ball: AbstractBall = L2()
    steps: int = eqx.field(static=True, default=50)
    overshoot: float = 0.02

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"DeepFool takes at least one step, got steps={self.steps}")

    @property
    def about(self) -> str:
        return f"DeepFool: up to {self.steps} steps to the nearest boundary in {self.ball.title}"

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key

        def leads(z: Array) -> tuple[Array, Array]:
            logits = model(z)
            lead = logits - logits[y]
            return lead, lead

        def step(z: Array, _: None) -> tuple[Array, None]:
            slopes, lead = jax.jacrev(leads, has_aux=True)(z)
            other = jnp.arange(lead.size, dtype=y.dtype) != y
            move = jax.vmap(lambda slope, gap: self.ball.nearest(z, slope, gap))(slopes, -lead)
            reached = jnp.sum(slopes * move, axis=1) >= -lead - 1e-3 * jnp.abs(lead)
            # A class whose boundary lies outside the box counts only where all do.
            size = jax.vmap(self.ball.size)(move) + jnp.where(reached, 0.0, 1e6)
            chosen = jnp.argmin(jnp.where(other & jnp.isfinite(size), size, jnp.inf))
            moved = jnp.clip(z + (1 + self.overshoot) * move[chosen], 0.0, 1.0)
            done = jnp.max(jnp.where(other, lead, -jnp.inf)) > 0
            return jnp.where(done, z, moved), None

        return jax.lax.scan(step, x, length=self.steps)[0]
