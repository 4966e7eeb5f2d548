"""Elastic-net attack."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.attacks._closest import Closest
from robust_mnist.attacks._weight import Weight
from robust_mnist.attacks.losses import Margin
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L1, AbstractBall


class EAD(AbstractMinimalAttack):
    """Minimise margin, squared L2 and L1 distance together by accelerated shrinking steps.

    Reference:
        Chen et al., "EAD: elastic-net attacks to deep neural networks via adversarial examples",
        AAAI 2018, algorithm 1; defaults as in the authors' code.

    Attributes:
        searches: Bisections of the weight, at least 1.
        steps: Steps per weight, at least 1.
        learning_rate: First length of a step; it falls with the square root of the steps left.
        init_weight: First weight of the margin.
        regularization: Weight of the L1 distance, and the change below which a pixel stays.
        rule: What is smallest in the image that is kept: the `l1` distance or the elastic net `en`.
    """

    searches: int = eqx.field(static=True, default=9)
    steps: int = eqx.field(static=True, default=10_000)
    learning_rate: float = 0.01
    init_weight: float = 1e-3
    regularization: float = 0.01
    rule: Literal["en", "l1"] = eqx.field(static=True, default="en")

    def __check_init__(self) -> None:
        if self.steps < 1 or self.searches < 1:
            raise ValueError(
                "EAD takes at least one search of one step, got "
                f"searches={self.searches} and steps={self.steps}"
            )
        if self.rule not in {"en", "l1"}:
            raise ValueError(f"EAD keeps the smallest en or l1, got rule={self.rule}")

    @property
    def ball(self) -> AbstractBall:
        return L1()

    @property
    def about(self) -> str:
        return (
            f"elastic-net attack (EAD): {self.searches} searches of {self.steps} shrinking steps "
            f"in L1, the smallest {self.rule.upper()} kept"
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

        def cost(z: Array, weight: Array) -> Array:
            return jnp.sum((z - x) ** 2) + weight * jnp.maximum(-Margin()(model(z), y), 0.0)

        def rank(z: Array) -> Array:
            size = self.ball.size(z - x)
            return size if self.rule == "l1" else self.regularization * size + jnp.sum((z - x) ** 2)

        def shrink(z: Array) -> Array:
            # A pixel that moved by less than the threshold goes back where it was.
            delta, by = z - x, self.regularization
            moved = jnp.sign(delta) * jnp.maximum(jnp.abs(delta) - by, 0.0)
            return jnp.clip(x + moved, 0.0, 1.0)

        def search(state: tuple[Weight, Closest], _: None) -> tuple[tuple[Weight, Closest], None]:
            weight, closest = state

            def step(
                carry: tuple[Array, Array, Closest], number: Array
            ) -> tuple[tuple[Array, Array, Closest], None]:
                ahead, before, own = carry
                left = 1.0 - number.astype(x.dtype) / self.steps
                gradient = jax.grad(cost)(ahead, weight.value)
                z = shrink(ahead - self.learning_rate * jnp.sqrt(left) * gradient)
                wrong = Margin()(model(z), y) >= 0
                share = number.astype(x.dtype) / (number.astype(x.dtype) + 3.0)
                return (z + share * (z - before), z, own.see(z, wrong, rank(z))), None

            first = (x, x, Closest.none(x))
            own = jax.lax.scan(step, first, jnp.arange(self.steps))[0][2]
            return (weight.after(own.found), closest.see(own.image, own.found, own.size)), None

        begin = (Weight.first(self.init_weight, x.dtype), Closest.none(x))
        return jax.lax.scan(search, begin, length=self.searches)[0][1].image
