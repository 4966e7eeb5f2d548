"""Certificates over a batch of images: searched for in float32, given in float64."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, Integer, UInt8

from robust_mnist.certify import AbstractCertifier, rounding
from robust_mnist.data.pixels import to_float
from robust_mnist.models import MLP
from robust_mnist.sweep._driver import in_chunks, widened


# Steps along the secant after the halvings. Bounds bend little over what is left by then.
SECANTS = 3
# Where a radius is not confirmed in float64, these shares of it are tried.
SHARES = (1.0, 0.999, 0.9, 0.5)
# A radius that is proven and the bound there, and one that is not and the bound there.
Ends = tuple[Array, Array, Array, Array]


def chunk_of(certifier: AbstractCertifier) -> int:
    """Images per compiled call that suit the device; an accelerator wants more at once."""
    return certifier.batch if jax.default_backend() == "cpu" else 1000


@eqx.filter_jit
def _bound(
    certifier: AbstractCertifier,
    model: MLP,
    images: Float[Array, "images pixels"],
    labels: Int[Array, " images"],
    eps: Float[Array, " images"],
) -> Float[Array, " images"]:
    return jax.vmap(lambda x, y, e: certifier(model, x, y, eps=e))(images, labels, eps)


def certify_batch(
    certifier: AbstractCertifier,
    model: MLP,
    images: UInt8[np.ndarray, "images pixels"],
    labels: Integer[np.ndarray, " images"],
    *,
    eps: float | Float[np.ndarray, " images"],
    chunk: int = 0,
) -> Bool[np.ndarray, " images"]:
    """Which images are proven right everywhere in the ball, computed in float64.

    Args:
        certifier: What proves.
        model: Network with an activation the certifier knows.
        images: Clean images as stored, 0 to 255.
        labels: True classes.
        eps: Radius, one for all or one per image, finite, at least 0.
        chunk: Images per compiled call; 0 for what suits the device.
    """
    radius = np.broadcast_to(np.asarray(eps, np.float64), labels.shape)
    with jax.enable_x64(True):
        wide = widened(model)
        (bounds,) = in_chunks(
            lambda x, y, e: (_bound(certifier, wide, x, y, e),),
            chunk or chunk_of(certifier),
            to_float(images).astype(np.float64), labels.astype(np.int32), radius,
        )  # fmt: skip
    if bounds.dtype != np.float64:
        raise TypeError(f"certificates must be computed in float64, got {bounds.dtype}")
    return bounds > least_bound(model)


def least_bound(model: MLP) -> float:
    """What the bound of a certificate has to exceed.

    A bound is of the exact network; images are judged in float64. What lies between the two is
    at most `rounding`, so that above it no certified image can be judged wrong.
    """
    return rounding(model)


def certified_radii(
    certifier: AbstractCertifier,
    model: MLP,
    images: UInt8[np.ndarray, "images pixels"],
    labels: Integer[np.ndarray, " images"],
    *,
    largest: float,
    gap: float,
    chunk: int = 0,
) -> Float64[np.ndarray, " images"]:
    """The largest radius of each image that is proven, as far as a search finds it.

    The search runs in float32, all images at once, each with its own radius; its end is proven
    anew in float64. That bounds may rise again at a larger radius is nothing to rely on: the search
    keeps a radius that is proven and one that is not, and closes in on where they meet.

    Args:
        certifier: What proves.
        model: Network with an activation the certifier knows.
        images: Clean images as stored, 0 to 255.
        labels: True classes.
        largest: Radius beyond which nothing is asked.
        gap: How closely the radius is found by halving; three steps along the secant then come
            closer by some orders of magnitude.
        chunk: Images per compiled call; 0 for what suits the device.

    Returns:
        Radii of at most `largest`; -inf where none above 0 is proven.
    """
    halvings = max(1, math.ceil(math.log2(largest / gap)))
    y = labels.astype(np.int32)
    most = _no_less(np.full(len(labels), largest))
    (found,) = in_chunks(
        lambda x, y, e: (_climb(certifier, model, x, y, e, halvings),),
        chunk or chunk_of(certifier), images, y, most,
    )  # fmt: skip
    wanted = np.minimum(found.astype(np.float64), largest)
    proven = np.full(len(labels), -np.inf)
    left = np.flatnonzero(wanted > 0)
    for share in SHARES:
        if not left.size:
            break
        at = share * wanted[left]
        holds = certify_batch(certifier, model, images[left], y[left], eps=at, chunk=chunk)
        proven[left[holds]] = at[holds]
        left = left[~holds]
    return proven


def largest_certified(
    certifier: AbstractCertifier,
    model: MLP,
    images: UInt8[np.ndarray, "images pixels"],
    labels: Integer[np.ndarray, " images"],
    *,
    radii: Sequence[float],
    chunk: int = 0,
) -> Float64[np.ndarray, " images"]:
    """The largest of some radii that is proven of each image, in a third of the time of a search.

    Halving finds it in float32, as if what is proven at a radius were so at all smaller ones, and
    it is proven anew in float64, or else the one below it.

    Args:
        certifier: What proves.
        model: Network with an activation the certifier knows.
        images: Clean images as stored, 0 to 255.
        labels: True classes.
        radii: What is asked, increasing, above 0.
        chunk: Images per compiled call; 0 for what suits the device.

    Returns:
        One of `radii` for each image; -inf where none is proven.
    """
    asked, y, size = np.asarray(radii, np.float64), labels.astype(np.int32), chunk
    size = size or chunk_of(certifier)
    single = jnp.asarray(_no_less(asked))
    (count,) = in_chunks(lambda x, y: (_halve(certifier, model, x, y, single),), size, images, y)
    proven, left = np.full(len(labels), -np.inf), np.flatnonzero(count > 0)
    for _ in range(2):
        if not left.size:
            break
        at = asked[count[left] - 1]
        holds = certify_batch(certifier, model, images[left], y[left], eps=at, chunk=chunk)
        proven[left[holds]] = at[holds]
        count[left] -= 1
        left = left[~holds & (count[left] > 0)]
    return proven


def _no_less(radii: Float64[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """In float32 rounded up; float64 judges what is found there."""
    single = radii.astype(np.float32)
    return np.where(single < radii, np.nextafter(single, np.float32(np.inf)), single)


@eqx.filter_jit
def _halve(
    certifier: AbstractCertifier,
    model: MLP,
    images: UInt8[Array, "images pixels"],
    labels: Int[Array, " images"],
    radii: Float32[Array, " radii"],
) -> Int[Array, " images"]:
    """How many of the radii are proven of each image in float32, the smallest first."""

    def halve(x: Array, y: Array) -> Array:
        def closer(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            low, high = ends
            middle = (low + high + 1) // 2
            # Where both ends have met at none, the first radius is tried again for nothing.
            proven = certifier(model, x, y, eps=radii[jnp.maximum(middle, 1) - 1]) > 0
            met = low == high
            low, high = jnp.where(proven, middle, low), jnp.where(proven, high, middle - 1)
            return (jnp.where(met, ends[0], low), jnp.where(met, ends[1], high)), None

        ends = jnp.int32(0), jnp.int32(radii.size)
        (low, _), _ = jax.lax.scan(closer, ends, length=radii.size.bit_length())
        return low

    with jax.default_matmul_precision("highest"):
        return jax.vmap(halve)(to_float(images), labels)


@eqx.filter_jit
def _climb(
    certifier: AbstractCertifier,
    model: MLP,
    images: UInt8[Array, "images pixels"],
    labels: Int[Array, " images"],
    largest: Float[Array, " images"],
    halvings: int,
) -> Float[Array, " images"]:
    """The largest radius found in float32 at which each image is proven; 0 where there is none."""
    # Where the next radius lies: at the end above, at that below, then halfway, then where the
    # secant meets 0, at last just below. The ends are visited inside the loop, because
    # compiling a bound a second and a third time takes as long as the first.
    ends = [1.0, 0.0, *[np.nan] * (halvings + SECANTS)]
    aims = [np.nan] * (2 + halvings) + [0.0] * (SECANTS - 1) + [0.01]
    turns = jnp.asarray(ends, jnp.float32), jnp.asarray(aims, jnp.float32)

    def climb(x: Array, y: Array, most: Array) -> Array:
        def closer(ends: Ends, turn: tuple[Array, Array]) -> tuple[Ends, None]:
            (low, at_low, high, at_high), (end, aim) = ends, turn
            share = jnp.clip(at_low / (at_low - at_high) - aim, 0.01, 0.99)
            # Also where a bound is NaN or infinite.
            share = jnp.where(jnp.isfinite(share), share, 0.5)
            radius = jnp.where(end == 1, high, low + (high - low) * jnp.where(end == 0, 0.0, share))
            value = certifier(model, x, y, eps=radius)
            proven = value > 0
            pick = lambda ours, theirs: jnp.where(proven, ours, theirs)
            below = pick(radius, low), pick(value, at_low)
            return (*below, pick(high, radius), pick(at_high, value)), None

        start, unknown = jnp.zeros_like(most), jnp.full_like(most, jnp.nan)
        (low, *_), _ = jax.lax.scan(closer, (start, unknown, most, unknown), turns)
        return low

    with jax.default_matmul_precision("highest"):
        return jax.vmap(climb)(to_float(images), labels, largest)
