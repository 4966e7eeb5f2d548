"""The kinds of attack. All act on one image and return an image, never a verdict."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall


class AbstractAttack(eqx.Module):
    """A frozen description of a search, without model or data."""

    @property
    @abc.abstractmethod
    def about(self) -> str:
        """What this very instance does, in one line with its numbers."""


class AbstractBallAttack(AbstractAttack):
    """Searches for the worst image inside the ball of radius `eps`."""

    @property
    @abc.abstractmethod
    def ball(self) -> AbstractBall:
        """Norm that bounds the perturbation."""

    @property
    @abc.abstractmethod
    def one_step(self) -> bool:
        """Whether `eps` is the length of a single step.

        Then accuracy at exactly that step is of interest besides; it may rise again where the step
        overshoots.
        """

    @abc.abstractmethod
    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        """The best image found: in [0, 1] and in the ball up to rounding.

        Args:
            model: Classifier under attack.
            x: Clean image, pixels in [0, 1].
            y: True class.
            eps: Radius in units of pixel intensity, at least 0; traced, so that a sweep over
                radii compiles once.
            key: Randomness; the same key gives the same image.
        """


class AbstractMinimalAttack(AbstractAttack):
    """Searches for the closest wrong image, without a radius: one run gives a whole curve."""

    @property
    @abc.abstractmethod
    def ball(self) -> AbstractBall:
        """Norm that is minimised."""

    @abc.abstractmethod
    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        """The closest wrong image found, in [0, 1] up to rounding; any image where none was.

        Args:
            model: Classifier under attack.
            x: Clean image, pixels in [0, 1].
            y: True class.
            key: Randomness; the same key gives the same image.
        """


class AbstractStepAttack(AbstractAttack):
    """Takes one step of a given length and knows no ball; the step's unit is the attack's own."""

    @property
    @abc.abstractmethod
    def largest_step(self) -> float:
        """Where a sweep over the step ends at the latest; infinite where no end makes sense."""

    @abc.abstractmethod
    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        step: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        """The stepped image, not clipped: whoever measures clips it to [0, 1].

        Args:
            model: Classifier under attack.
            x: Clean image, pixels in [0, 1].
            y: True class.
            step: Length of the step, at least 0.
            key: Randomness; the same key gives the same image.
        """
