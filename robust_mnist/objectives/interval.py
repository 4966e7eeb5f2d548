"""Training on what intervals prove."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.certify import IBP
from robust_mnist.errors import InputError
from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.objectives._base import AbstractObjective


class Interval(AbstractObjective):
    """Cross-entropy on the clean image, mixed with that of the worst logits that intervals allow.

    The loss is `share * CE(logits) + (1 - share) * CE(worst)`, where `worst` holds 0 for the true
    class and, for each other one, minus the lower bound on its margin. Intervals of an untrained
    network are far too wide to learn from, so training starts on clean images alone; then the
    radius grows from 0 to `eps` and the share falls from 1 to `clean`, both linearly.

    Reference:
        Gowal et al., "On the effectiveness of interval bound propagation for training verifiably
        robust models", 2018.

    Attributes:
        eps: Radius in Linf at the end, in units of pixel intensity, at least 0.
        warm_up: Steps on clean images alone.
        ramp: Steps from there until radius and share are at their ends, at least 1.
        clean: Share of the clean loss at the end, between 0 and 1.
    """

    eps: float
    warm_up: int
    ramp: int
    clean: float = 0.5

    def __check_init__(self) -> None:
        if not self.eps >= 0:
            raise ValueError(f"interval training needs eps of at least 0, got {self.eps}")
        if self.warm_up < 0 or self.ramp < 1:
            raise ValueError(
                "interval training needs warm_up of at least 0 and ramp of at least 1 steps, "
                f"got {self.warm_up} and {self.ramp}"
            )
        if not 0 <= self.clean <= 1:
            raise ValueError(f"interval training needs clean in [0, 1], got {self.clean}")

    def schedule(self, step: Int[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Radius and share of the clean loss at a training step."""
        done = jnp.clip((step.astype(jnp.float32) - self.warm_up) / self.ramp, 0.0, 1.0)
        return done * self.eps, 1.0 - done * (1.0 - self.clean)

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        step: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        del key
        network, (eps, share) = _bounded(model), self.schedule(step)
        worst = -IBP().margins(network, x, y, eps=eps)
        clean = metrics.cross_entropy(network(x), y)
        return share * clean + (1.0 - share) * metrics.cross_entropy(worst, y)

    def penalty(self, model: AbstractClassifier, *, step: Int[Array, ""]) -> Float[Array, ""]:
        del model, step
        return jnp.zeros(())


def _bounded(model: AbstractClassifier) -> MLP:
    if not isinstance(model, MLP):
        raise InputError(
            "interval training follows intervals through the layers of an MLP in float32, got "
            f"{type(model).__name__}; take --model mlp and --precision float32, or --objective "
            "cross-entropy"
        )
    if model.activation not in IBP().activations:
        known = ", ".join(sorted(IBP().activations))
        raise InputError(
            f"interval training knows the activations {known}, got {model.activation}; take one of "
            "these"
        )
    return model
