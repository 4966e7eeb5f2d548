"""Fast adaptive boundary attack, targeted."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.attacks._closest import Closest
from robust_mnist.attacks.losses import Toward
from robust_mnist.attacks.targeted import likeliest
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


class FABT(AbstractMinimalAttack):
    """Project on the linearised boundary towards one class after another, pulled back to the image.

    Reference:
        Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary
        attack", ICML 2020, algorithm 1, with the targets of the authors' FAB-T.

    Attributes:
        ball: Norm that is minimised: Linf, L2 or L1.
        steps: Steps per target, at least 1.
        targets: How many classes to try, likeliest first.
        alpha_max: Largest share of the pull towards the clean image.
        eta: Share of a projection that is taken; above 1 it overshoots.
        beta: What is kept of the perturbation after an image was found wrong.
    """

    ball: AbstractBall = Linf()
    steps: int = eqx.field(static=True, default=100)
    targets: int = eqx.field(static=True, default=9)
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    def __check_init__(self) -> None:
        if self.ball.name == "l0":
            raise ValueError("FABT acts in linf, l2 or l1, got l0")
        if self.steps < 1 or self.targets < 1:
            raise ValueError(
                f"FABT takes at least one step towards one target, got steps={self.steps} and "
                f"targets={self.targets}"
            )

    @property
    def about(self) -> str:
        return (
            f"fast adaptive boundary (FAB-T) towards each of {self.targets} wrong classes: "
            f"{self.steps} steps in {self.ball.title}"
        )

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key  # a single run starts at the image itself
        order = likeliest(model, x, y, self.ball)
        order = order[: min(self.targets, order.size - 1)]
        found = jax.lax.map(lambda target: self._towards(model, x, y, target), order)
        return found.image[jnp.argmin(found.size)]

    def _towards(self, model: AbstractClassifier, x: Array, y: Array, target: Array) -> Closest:
        lead = jax.value_and_grad(lambda z: Toward(target)(model(z), y))

        def step(state: tuple[Array, Closest], _: None) -> tuple[tuple[Array, Closest], None]:
            z, closest = state
            value, slope = lead(z)
            # Both projections are on the plane where the linearised lead at z is 0.
            onto = lambda start: self._onto(start, slope, -value - jnp.sum(slope * (start - z)))
            from_z, from_x = onto(z), onto(x)
            sizes = [jnp.maximum(self.ball.size(move), 1e-8) for move in (from_z, from_x)]
            alpha = jnp.minimum(sizes[0] / (sizes[0] + sizes[1]), self.alpha_max)
            moved = (1 - alpha) * (z + self.eta * from_z) + alpha * (x + self.eta * from_x)
            moved = jnp.clip(moved, 0.0, 1.0)
            wrong = metrics.margin(model(moved), y) <= 0
            closest = closest.see(moved, wrong, self.ball.size(moved - x))
            return (jnp.where(wrong, x + self.beta * (moved - x), moved), closest), None

        (_, closest), _ = jax.lax.scan(step, (x, Closest.none(x)), length=self.steps)
        return closest

    def _onto(self, start: Array, slope: Array, rise: Array) -> Array:
        # `nearest` climbs; where the plane lies below, it is reached by descending.
        sign = jnp.where(rise >= 0, 1.0, -1.0)
        return self.ball.nearest(start, sign * slope, sign * rise)
