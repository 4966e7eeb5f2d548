"""What a norm has to know."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


Image = Float[Array, " pixels"]
Scalar = Float[Array, ""]


class AbstractBall(eqx.Module):
    """A norm ball of radius `eps`, centred on the clean image."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Key in `BALLS`: the norm's name in files, flags and figures."""

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """The norm's name in sentences."""

    @abc.abstractmethod
    def size(self, delta: Image) -> Scalar:
        """Norm of `delta`; the perturbation is allowed when this is at most `eps`."""

    @abc.abstractmethod
    def project(self, delta: Image, eps: Scalar) -> Image:
        """Closest point to `delta`, in Euclidean distance, inside the ball."""

    @abc.abstractmethod
    def steepest(self, gradient: Image) -> Image:
        """Direction of size 1 that ascends fastest along `gradient`; zero where that is zero."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        """A uniformly random point of the ball."""

    @abc.abstractmethod
    def ascend(self, x: Image, gradient: Image, eps: Scalar) -> Image:
        """The change that raises `gradient @ change` most, of all that ball and box allow.

        Exact: where a pixel meets the end of its range, the others take over what it leaves of the
        budget. A step that is clipped afterwards would lose it, and most pixels of a digit start at
        an end.

        Args:
            x: Where to start from, pixels in [0, 1].
            gradient: What to ascend; its scale does not matter.
            eps: Largest size of the change.
        """

    @abc.abstractmethod
    def nearest(self, x: Image, gradient: Image, rise: Scalar) -> Image:
        """The smallest change with `gradient @ change >= rise` that stays in the box.

        The exact projection on a half-space and the box; where they do not meet, the corner of the
        box that comes closest.

        Args:
            x: Where to start from, pixels in [0, 1].
            gradient: Normal of the half-space; its scale together with that of `rise` is free.
            rise: How much is wanted; nothing changes for 0 or less.
        """


def room(x: Image, gradient: Image) -> Image:
    """How far each pixel can move along `gradient` before it leaves [0, 1]."""
    return jnp.where(gradient > 0, 1.0 - x, jnp.where(gradient < 0, x, 0.0)).clip(0.0, 1.0)


def to_unit(gradient: Image) -> tuple[Image, Scalar]:
    """`gradient` over its largest entry, and that entry, or 1 where all are 0.

    Squares of a gradient below 1e-19 underflow in float32, and the gradient of a confident network
    is often smaller than that.
    """
    largest = jnp.max(jnp.abs(gradient))
    scale = jnp.where(largest > 0, largest, 1.0)
    return gradient / scale, scale
