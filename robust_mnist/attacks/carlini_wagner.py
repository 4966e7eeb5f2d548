"""Carlini and Wagner's attack."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.attacks._closest import Closest
from robust_mnist.attacks._weight import Weight
from robust_mnist.attacks.losses import Margin
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L2, AbstractBall


# Pixels at 0 and 1 lie at infinity in the space of the arctangent, where no gradient moves them.
_INSIDE = 0.999999


class CarliniWagner(AbstractMinimalAttack):
    """Minimise distance plus weighted margin by Adam, in a space in which the box has no walls.

    Reference:
        Carlini and Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017,
        section VI; defaults as in the authors' code, without its early end, which depends on the
        other images of a batch.

    Attributes:
        searches: Bisections of the weight, at least 1.
        steps: Steps of Adam per weight, at least 1.
        learning_rate: Of Adam.
        init_weight: First weight of the margin.
        confidence: Margin, in logits, by which an image has to be wrong.
    """

    searches: int = eqx.field(static=True, default=9)
    steps: int = eqx.field(static=True, default=10_000)
    learning_rate: float = 0.01
    init_weight: float = 1e-3
    confidence: float = 0.0

    def __check_init__(self) -> None:
        if self.steps < 1 or self.searches < 1:
            raise ValueError(
                "CarliniWagner takes at least one search of one step, got "
                f"searches={self.searches} and steps={self.steps}"
            )

    @property
    def ball(self) -> AbstractBall:
        return L2()

    @property
    def about(self) -> str:
        return f"Carlini-Wagner: {self.searches} searches of {self.steps} steps of Adam in L2"

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key
        optimiser = optax.adam(self.learning_rate)
        to_image = lambda w: (jnp.tanh(w) + 1.0) / 2.0

        def cost(w: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
            z = to_image(w)
            score = Margin()(model(z), y)
            hinge = jnp.maximum(self.confidence - score, 0.0)
            return jnp.sum((z - x) ** 2) + weight * hinge, (z, score)

        def step(
            state: tuple[Array, optax.OptState, Closest], weight: Array
        ) -> tuple[Array, optax.OptState, Closest]:
            w, memory, closest = state
            (_, (z, score)), gradient = jax.value_and_grad(cost, has_aux=True)(w, weight)
            closest = closest.see(z, score >= self.confidence, self.ball.size(z - x))
            with jax.numpy_dtype_promotion("standard"):  # a float to the power of a count
                move, memory = optimiser.update(gradient, memory)
            return optax.apply_updates(w, move), memory, closest

        start = jnp.arctanh((2.0 * x - 1.0) * _INSIDE)

        def search(state: tuple[Weight, Closest], _: None) -> tuple[tuple[Weight, Closest], None]:
            weight, closest = state
            first = (start, optimiser.init(start), Closest.none(x))
            (last, _, own), _ = jax.lax.scan(
                lambda carry, _: (step(carry, weight.value), None), first, length=self.steps
            )
            z = to_image(last)
            own = own.see(z, Margin()(model(z), y) >= self.confidence, self.ball.size(z - x))
            return (weight.after(own.found), closest.see(own.image, own.found, own.size)), None

        begin = (Weight.first(self.init_weight, x.dtype), Closest.none(x))
        return jax.lax.scan(search, begin, length=self.searches)[0][1].image
