"""Randomised smoothing: what a classifier answers, on the whole, under Gaussian noise.

What is proven here is about another classifier than the one that was given, the smoothed one, and
right with a stated probability only. So the two have types of their own, `AbstractSmoothing` and
`robust_mnist.records.Smoothed`: nothing that merges bounds on the radii of a network takes either.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.models import ACTIVATIONS, MLP


# Draws at a time. Which draw has which number depends on it, so it is the same on every device.
CHUNK = 1000


class AbstractSmoothing(eqx.Module):
    """Votes of a network on noisy copies of an image: evidence on the smoothed classifier.

    Attributes:
        sigma: Standard deviation of the noise in each pixel, above 0.
    """

    sigma: eqx.AbstractVar[float]

    @abc.abstractmethod
    def votes(
        self, model: MLP, x: Float[Array, " pixels"], *, samples: int, key: PRNGKeyArray
    ) -> Int[Array, " classes"]:
        """How many of `samples` noisy copies of `x` are given each class.

        A tie or a NaN votes for none, so that the sum may be smaller.

        Args:
            model: The network that is smoothed.
            x: Clean image; noise carries it out of [0, 1], and nothing is clipped.
            samples: Copies, at least 1; the first n draws are the same for any larger number.
            key: Randomness of the noise.
        """


class Gaussian(AbstractSmoothing):
    """Noise of the same size in all pixels, drawn where it enters the first layer.

    `W (x + noise) + b` is all that the network sees of the noise. With `W^T = Q R` it is `W x + b`
    plus `R^T` times as many normal numbers as there are neurons, which is the same distribution:
    `Q^T noise` is normal. For 50 neurons that is a sixteenth of the numbers, and of the arithmetic.

    The normal numbers are float32, finely grained and without the farthest tails; like everybody
    else, we take them for the real thing.

    Reference:
        Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized smoothing",
        ICML 2019.

    Attributes:
        sigma: Standard deviation in each pixel, in units of pixel intensity, above 0.
    """

    sigma: float

    def __check_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma must be above 0, got {self.sigma}")

    def votes(
        self, model: MLP, x: Float[Array, " pixels"], *, samples: int, key: PRNGKeyArray
    ) -> Int[Array, " classes"]:
        first, *others = model.layers
        # Of the network alone: computed once for all images.
        spread = jnp.linalg.qr(first.weight.T, mode="r").T * self.sigma
        still = first(x)

        def classify(draw: Float[Array, " draws"]) -> Float[Array, " classes"]:
            z = still + spread @ draw
            for layer in others:
                z = layer(ACTIVATIONS[model.activation](z))
            return z

        def count(votes: Int[Array, " classes"], number: Array) -> tuple[Array, None]:
            draws = jax.random.normal(
                jax.random.fold_in(key, number), (CHUNK, spread.shape[1]), x.dtype
            )
            won = jax.vmap(_winner)(jax.vmap(classify)(draws))
            asked = number * CHUNK + jnp.arange(CHUNK) < samples
            return votes + jnp.sum(won & asked[:, None], axis=0, dtype=votes.dtype), None

        nobody = jnp.zeros(model.layers[-1].bias.size, jnp.int32)
        return jax.lax.scan(count, nobody, jnp.arange(-(-samples // CHUNK)))[0]


def _winner(logits: Float[Array, " classes"]) -> Array:
    """Marks the class whose logit is above all others, if there is one."""
    best = logits == jnp.max(logits)
    return best & (jnp.sum(best) == 1)
