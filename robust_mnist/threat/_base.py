"""What a norm has to know."""

import abc

import equinox as eqx
import jax
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

    @abc.abstractmethod
    def least(self, x: Image, weights: Image, eps: Scalar) -> Scalar:
        """At most the least `weights @ z` of all images z in ball and box: a proof, rounded down.

        Close to the truth, but not always exact, since millions of rows are bounded in this way.
        A compiler makes fast loops of sums of plain arithmetic; of comparisons it does not.

        Rounding: a sum of n terms is off, in any order, by a share of n u of the sum of their
        magnitudes, u half a unit in the last place; twice that, and 16 more than n, cover
        products of such errors and those of the terms.

        Reference:
            Higham, "Accuracy and stability of numerical algorithms", section 4.2.

        Args:
            x: Clean image, pixels in [0, 1].
            weights: Of each pixel.
            eps: Radius.
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


def upwards(terms: Image) -> Scalar:
    """The sum of terms of at least 0, rounded up."""
    return jnp.sum(terms) * (1 + share_lost(terms))


def share_lost(terms: Image) -> Scalar:
    """How much of the sum of their magnitudes the sum of some terms can be off by rounding."""
    return (terms.size + 16) * jnp.finfo(terms.dtype).eps * jnp.ones((), terms.dtype)


def clean_value(x: Image, weights: Image) -> Scalar:
    """`weights @ x`, rounded down."""
    return jnp.sum(weights * x - jnp.abs(weights) * (share_lost(x) * x))


def shared(worth: Image, room: Image, budget: Scalar) -> Scalar:
    """The most that a budget buys of goods with limits, or slightly more.

    For any price p, `budget p + sum of room max(worth - p, 0)` is an upper bound, and it is exact
    for the price at which the goods worth more use up the budget. That is found by bisection.

    Args:
        worth: Value of a unit of each good, at least 0.
        room: Units there are of it, at least 0.
        budget: Units to buy in all, at least 0.
    """

    def halve(ends: tuple[Scalar, Scalar], _: None) -> tuple[tuple[Scalar, Scalar], None]:
        low, high = ends
        price = (low + high) / 2
        cheap = jnp.sum(jnp.where(worth > price, room, 0.0)) > budget
        return (jnp.where(cheap, price, low), jnp.where(cheap, high, price)), None

    (_, price), _ = jax.lax.scan(halve, (jnp.zeros_like(budget), jnp.max(worth)), length=10)
    price = jax.lax.stop_gradient(price)  # at the best price the value is flat in it
    bought = upwards(room * jnp.maximum(worth - price, 0.0) + budget * price / worth.size)
    return jnp.minimum(bought, upwards(room * worth))  # all of it, where the budget allows
