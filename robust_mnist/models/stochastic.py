"""Classifiers that draw random numbers to answer, and what an attacker makes of them."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from robust_mnist.models._base import AbstractClassifier


class AbstractStochasticClassifier(eqx.Module):
    """A map from one flattened image, pixels in [0, 1], and a key to logits."""

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, " pixels"], *, key: PRNGKeyArray
    ) -> Float[Array, " classes"]:
        """Logits of one draw: any real numbers, not probabilities."""


class Expectation(AbstractClassifier):
    """The mean probabilities of a stochastic classifier, as logits.

    An image is always answered the same, as everything here expects of a classifier, and another
    image is answered from other draws: a search that asks for many images sees many draws, and does
    not settle on those it has seen.

    Attributes:
        model: Answers at random.
        key: Randomness of all draws.
        samples: Draws per image, at least 1; one alone is a classifier that answers at random.
    """

    model: AbstractStochasticClassifier
    key: PRNGKeyArray
    samples: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"Expectation takes at least one sample, got {self.samples}")

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        still = jax.lax.stop_gradient(x).astype(jnp.float32)
        bits = jnp.bitwise_xor.reduce(jax.lax.bitcast_convert_type(still, jnp.uint32))
        keys = jax.random.split(jax.random.fold_in(self.key, bits), self.samples)
        logits = jax.vmap(lambda key: self.model(x, key=key))(keys)
        # In logarithms, where probabilities would underflow.
        summed = jax.nn.logsumexp(jax.nn.log_softmax(logits, axis=1), axis=0)
        return summed - jnp.log(jnp.asarray(self.samples, summed.dtype))
