"""What the suite asks of a certifier."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, Int

from robust_mnist.models import MLP
from robust_mnist.threat import AbstractBall


class AbstractCertifier(eqx.Module):
    """A lower bound on the margin over a ball intersected with the pixel box."""

    @property
    @abc.abstractmethod
    def about(self) -> str:
        """What this very instance does, in one line with its numbers."""

    @property
    @abc.abstractmethod
    def ball(self) -> AbstractBall:
        """Norm of the ball."""

    @property
    @abc.abstractmethod
    def activations(self) -> frozenset[str]:
        """Hidden activations for which the bound is sound."""

    @property
    def batch(self) -> int:
        """Images per compiled call that suit a CPU: what is known of so many stays in its cache."""
        return 25

    @abc.abstractmethod
    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Lower bound on the worst margin; above 0 it certifies the image at `eps`.

        Args:
            model: Network with known layers and one of `activations`.
            x: Clean image, pixels in [0, 1].
            y: True class.
            eps: Radius in units of pixel intensity, at least 0.
        """
