"""Training on images under attack."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks import AbstractBallAttack
from robust_mnist.models import AbstractClassifier
from robust_mnist.objectives._base import AbstractObjective
from robust_mnist.objectives.cross_entropy import CrossEntropy


class Adversarial(AbstractObjective):
    """Another objective, on the image that an attack finds in a ball instead of the clean one.

    The attack starts anew at each step, and its image counts as given: nothing is differentiated
    through the search. At a large radius an untrained network may learn nothing but one class for
    all, so the radius can grow with the step, as Gowal et al. ("On the effectiveness of interval
    bound propagation for training verifiably robust models", 2018) do for intervals.

    Reference:
        Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.

    Attributes:
        attack: What searches the ball; it should ascend the loss that `objective` descends.
        eps: Radius at the end, in units of pixel intensity, at least 0.
        objective: What is asked of the image found.
        ramp: Steps in which the radius grows from 0 to `eps`, linearly; with 0 it is `eps` at once.
    """

    attack: AbstractBallAttack
    eps: float
    objective: AbstractObjective = CrossEntropy()
    ramp: int = 0

    def __check_init__(self) -> None:
        if not self.eps >= 0:
            raise ValueError(f"adversarial training needs eps of at least 0, got {self.eps}")
        if self.ramp < 0:
            raise ValueError(f"adversarial training needs ramp of at least 0, got {self.ramp}")

    def radius(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Radius at a training step."""
        done = jnp.clip(step.astype(jnp.float32) / self.ramp, 0.0, 1.0) if self.ramp else 1.0
        return jnp.asarray(self.eps * done, jnp.float32)

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        search, rest = jax.random.split(key)
        # The network is held, not the image alone: no tangents are carried through the search.
        hold = lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf
        held = jax.tree.map(hold, model)
        worst = self.attack(held, x, y, eps=self.radius(step).astype(x.dtype), key=search)
        return self.objective(model, worst, y, step=step, key=rest)

    def penalty(self, model: AbstractClassifier, *, step: Int[Array, ""]) -> Float[Array, ""]:
        return self.objective.penalty(model, step=step)
