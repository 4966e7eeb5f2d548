"""Exact feasibility, on the host and in float64: an attack never marks its own homework."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Float64


Wide = Float64[np.ndarray, "images pixels"]
Pull = Callable[[Float32[np.ndarray, "images pixels"]], Float32[np.ndarray, "images pixels"]]


def sizes(
    norm: str,
    clean: Float32[np.ndarray, "images pixels"],
    found: Float32[np.ndarray, "images pixels"],
) -> Float64[np.ndarray, " images"]:
    """Size of each perturbation in float64.

    Args:
        norm: A key of `threat.BALLS`.
        clean: Clean images.
        found: Perturbed images.
    """
    return _SIZES[norm](found.astype(np.float64) - clean.astype(np.float64))


_SIZES: dict[str, Callable[[Wide], Float64[np.ndarray, " images"]]] = {
    "linf": lambda delta: np.max(np.abs(delta), axis=1),
    "l2": lambda delta: np.sqrt(np.sum(delta**2, axis=1)),
    "l1": lambda delta: np.sum(np.abs(delta), axis=1),
    "l0": lambda delta: np.sum(delta != 0, axis=1).astype(np.float64),
}


def pull(
    norm: str,
    clean: Float32[np.ndarray, "images pixels"],
    found: Float32[np.ndarray, "images pixels"],
    eps: Float64[np.ndarray, " images"],
) -> Float32[np.ndarray, "images pixels"]:
    """Move each found image towards its clean one until box and ball hold exactly.

    `puller` does the same to several answers for the same clean images, in less time.

    Float32 attacks overshoot their radius by a few units in the last place. What is returned is the
    very float32 image that is judged, and its float64 size is at most `eps`, with no tolerance.
    A NaN pixel is left alone: its image is no success.

    Args:
        norm: A key of `threat.BALLS`.
        clean: Clean images, pixels in [0, 1].
        found: What the attack returned.
        eps: Radius of each image; infinite where only the box bounds the search.
    """
    return puller(norm, clean, eps)(found)


def puller(
    norm: str, clean: Float32[np.ndarray, "images pixels"], eps: Float64[np.ndarray, " images"]
) -> Pull:
    """`pull` for these clean images and radii; what depends on them alone is computed once."""
    if norm == "linf":
        x, radius = clean.astype(np.float64), eps[:, None]
        low = _inwards(np.clip(x - radius, 0.0, 1.0), x, clean, radius)
        high = _inwards(np.clip(x + radius, 0.0, 1.0), x, clean, radius)
        return lambda found: np.clip(found, low, high)
    if norm == "l0":
        return lambda found: _pull_l0(clean, np.clip(found, 0.0, 1.0), eps)
    return lambda found: _pull_scaled(norm, clean, found, eps)


def _inwards(
    end: Wide,
    x: Wide,
    clean: Float32[np.ndarray, "images pixels"],
    eps: Float64[np.ndarray, "images 1"],
) -> Float32[np.ndarray, "images pixels"]:
    """The float32 pixels next to `end` that are within `eps` of the clean ones by float64."""
    inside = end.astype(np.float32)
    # Rounding to float32 may step outside by one unit; a step back leads inside. Few pixels need
    # one, so only they are touched.
    for _ in range(3):
        outside = np.abs(inside - x) > eps
        if not outside.any():
            return inside
        inside[outside] = np.nextafter(inside[outside], clean[outside])
    return np.where(np.abs(inside - x) > eps, clean, inside)


def _pull_l0(
    clean: Float32[np.ndarray, "images pixels"],
    z: Float32[np.ndarray, "images pixels"],
    eps: Float[np.ndarray, " images"],
) -> Float32[np.ndarray, "images pixels"]:
    # The largest changes stay, the first of equal ones.
    order = np.argsort(-np.abs(z - clean), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None], axis=1)
    return np.where(rank < np.floor(eps)[:, None], z, clean)


def _pull_scaled(
    norm: str,
    clean: Float32[np.ndarray, "images pixels"],
    found: Float32[np.ndarray, "images pixels"],
    eps: Float[np.ndarray, " images"],
) -> Float32[np.ndarray, "images pixels"]:
    x, z = clean.astype(np.float64), np.clip(found, 0.0, 1.0)
    delta = z - x
    length = _SIZES[norm](delta)
    shrink = np.where(length > eps, eps / np.where(length > 0, length, 1.0), 1.0)
    pulled, outside = z, length > eps
    # Each turn shrinks a little more, by about the rounding error of float32.
    for slack in (0.0, 1e-7, 1e-6, 1e-5, 1e-4):
        if not outside.any():
            return pulled
        factor = (shrink * (1.0 - slack))[outside, None]
        pulled[outside] = (x[outside] + delta[outside] * factor).astype(np.float32)
        outside[outside] = sizes(norm, clean[outside], pulled[outside]) > eps[outside]
    return np.where(outside[:, None], clean, pulled)
