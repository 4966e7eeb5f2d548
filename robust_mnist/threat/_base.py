"""Threat models: which perturbations an attacker may add to one image.

Everything here acts on a single flattened image. To batch, wrap the call in `jax.vmap`. The box
[0, 1] is the attack's business; a ball knows only its norm.
"""

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


class Linf(AbstractBall):
    """Every pixel may move by at most `eps`."""

    @property
    def name(self) -> str:
        return "linf"

    @property
    def title(self) -> str:
        return "Linf"

    def size(self, delta: Image) -> Scalar:
        return jnp.max(jnp.abs(delta))

    def project(self, delta: Image, eps: Scalar) -> Image:
        return jnp.clip(delta, -eps, eps)

    def steepest(self, gradient: Image) -> Image:
        return jnp.sign(gradient)

    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        return eps * jax.random.uniform(key, (pixels,), minval=-1.0, maxval=1.0)


class L2(AbstractBall):
    """The whole image may move by at most `eps` in Euclidean distance."""

    @property
    def name(self) -> str:
        return "l2"

    @property
    def title(self) -> str:
        return "L2"

    def size(self, delta: Image) -> Scalar:
        return jnp.linalg.norm(delta)

    def project(self, delta: Image, eps: Scalar) -> Image:
        # The floor keeps 0/0 out when eps = 0 and `delta` is already zero.
        return delta * jnp.minimum(1.0, eps / jnp.maximum(self.size(delta), 1e-12))

    def steepest(self, gradient: Image) -> Image:
        # Scaled by the largest entry first: squares of a gradient below 1e-19 underflow in float32,
        # and the gradient of a confident network is often smaller than that.
        largest = jnp.max(jnp.abs(gradient))
        unit = gradient / jnp.where(largest > 0, largest, 1.0)
        length = jnp.linalg.norm(unit)
        return unit / jnp.where(length > 0, length, 1.0)

    def sample(self, key: PRNGKeyArray, pixels: int, eps: Scalar) -> Image:
        direction_key, radius_key = jax.random.split(key)
        direction = self.steepest(jax.random.normal(direction_key, (pixels,)))
        return eps * jax.random.uniform(radius_key) ** (1 / pixels) * direction


BALLS: dict[str, AbstractBall] = {
    "linf": Linf(),
    "l2": L2(),
}
