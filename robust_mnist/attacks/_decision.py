"""What attacks share that see the class alone: neither logits nor gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._closest import Closest
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall


Image = Float[Array, " pixels"]
Decide = Callable[[Image], Bool[Array, ""]]

# Noise images that are tried for a start.
TRIALS = 100


def decision(model: AbstractClassifier, y: Int[Array, ""]) -> Decide:
    """Whether the classifier is wrong about an image whose true class is `y`: all that is asked."""
    return lambda z: metrics.margin(model(z), y) <= 0


def start(is_wrong: Decide, ball: AbstractBall, x: Image, key: PRNGKeyArray) -> Closest:
    """The closest wrong image among noise on black, from every pixel down to a hundredth of them.

    Uniform noise in all pixels is the usual start, but a network gives nearly all of it one class,
    and has no wrong image among it for the digits of that class.
    """

    def try_one(closest: Closest, number: Array) -> tuple[Closest, None]:
        grey_key, which_key = jax.random.split(jax.random.fold_in(key, number))
        share = 1 - number.astype(x.dtype) / TRIALS
        bright = jax.random.uniform(which_key, x.shape, x.dtype) < share
        z = jnp.where(bright, jax.random.uniform(grey_key, x.shape, x.dtype), 0.0)
        return closest.see(z, is_wrong(z), ball.size(z - x)), None

    return jax.lax.scan(try_one, Closest.none(x), jnp.arange(TRIALS))[0]


def nearer(ball: AbstractBall, x: Image, z: Image, share: Float[Array, ""]) -> Image:
    """`z` pulled towards `x` until its size is `share` of what it was."""
    delta = z - x
    return x + ball.project(delta, share * ball.size(delta))


def pull(is_wrong: Decide, ball: AbstractBall, x: Image, z: Image, halvings: int) -> Image:
    """`z` pulled towards `x` as far as it stays wrong, by bisection of its size."""

    def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        right, wrong = ends
        middle = (right + wrong) / 2
        is_so = is_wrong(nearer(ball, x, z, middle))
        return (jnp.where(is_so, right, middle), jnp.where(is_so, middle, wrong)), None

    ends = (jnp.zeros((), x.dtype), jnp.ones((), x.dtype))
    (_, wrong), _ = jax.lax.scan(halve, ends, length=halvings)
    return jnp.where(wrong < 1, nearer(ball, x, z, wrong), z)
