"""The lab's attack: a multiple of the raw gradient."""

import math

import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks._base import AbstractStepAttack
from robust_mnist.attacks.losses import AbstractLoss, CrossEntropy, words
from robust_mnist.models import AbstractClassifier


class GradientStep(AbstractStepAttack):
    """`x + step * dloss/dx`, neither normalised nor projected.

    `step` is not an eps: how far the image moves depends on the gradient, which is small where the
    network is confident. That is why the sweep over `step` spans many decades.

    Attributes:
        loss: What to ascend.
    """

    loss: AbstractLoss = CrossEntropy()

    @property
    def about(self) -> str:
        return f"the lab's attack: one step along the raw gradient of {words(self.loss)}; no eps"

    @property
    def largest_step(self) -> float:
        return math.inf

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        step: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key
        return x + step * jax.grad(lambda z: self.loss(model(z), y))(x)
