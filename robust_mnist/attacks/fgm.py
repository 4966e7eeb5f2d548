"""Fast gradient method."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks.losses import AbstractLoss, CrossEntropy, words
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


class FGM(AbstractBallAttack):
    """One step of length `eps` along the steepest ascent of the loss; FGSM in Linf.

    Reference:
        Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.

    Attributes:
        ball: Norm in which the step has length `eps`.
        loss: What to ascend; the published attack uses cross-entropy.
    """

    ball: AbstractBall = Linf()
    loss: AbstractLoss = CrossEntropy()

    @property
    def about(self) -> str:
        sign = self.ball.name == "linf"
        name = "fast gradient sign method (FGSM)" if sign else "fast gradient method (FGM)"
        way = "the sign of the gradient" if sign else "the gradient"
        return f"{name}: one step of eps in {self.ball.title} along {way} of {words(self.loss)}"

    @property
    def one_step(self) -> bool:
        return True

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del key
        gradient = jax.grad(lambda z: self.loss(model(z), y))(x)
        return jnp.clip(x + eps * self.ball.steepest(gradient), 0.0, 1.0)
