"""Exact feasibility, on the host and in float64: an attack never marks its own homework."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Float64


Wide = Float64[np.ndarray, "images pixels"]


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

    Float32 attacks overshoot their radius by a few units in the last place. What is returned is the
    very float32 image that is judged, and its float64 size is at most `eps`, with no tolerance.
    A NaN pixel is left alone: its image is no success.

    Args:
        norm: A key of `threat.BALLS`.
        clean: Clean images, pixels in [0, 1].
        found: What the attack returned.
        eps: Radius of each image; infinite where only the box bounds the search.
    """
    x = clean.astype(np.float64)
    z = np.clip(found.astype(np.float64), 0.0, 1.0)
    if norm == "linf":
        return _pull_linf(x, clean, z, eps[:, None])
    if norm == "l0":
        return _pull_l0(clean, z.astype(np.float32), eps)
    return _pull_scaled(norm, x, clean, z, eps)


def _pull_linf(
    x: Float[np.ndarray, "images pixels"],
    clean: Float32[np.ndarray, "images pixels"],
    z: Float[np.ndarray, "images pixels"],
    eps: Float[np.ndarray, "images 1"],
) -> Float32[np.ndarray, "images pixels"]:
    pulled = np.clip(z, x - eps, x + eps).astype(np.float32)
    # Rounding to float32 may step outside by one unit; a step back leads inside. Few pixels need
    # one, so only they are touched.
    for _ in range(3):
        outside = np.abs(pulled.astype(np.float64) - x) > eps
        if not outside.any():
            return pulled
        pulled[outside] = np.nextafter(pulled[outside], clean[outside])
    outside = np.abs(pulled.astype(np.float64) - x) > eps
    return np.where(outside, clean, pulled)


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
    x: Float[np.ndarray, "images pixels"],
    clean: Float32[np.ndarray, "images pixels"],
    z: Float[np.ndarray, "images pixels"],
    eps: Float[np.ndarray, " images"],
) -> Float32[np.ndarray, "images pixels"]:
    delta = z - x
    length = _SIZES[norm](delta)
    shrink = np.where(length > eps, eps / np.where(length > 0, length, 1.0), 1.0)
    pulled = z.astype(np.float32)
    # Each turn shrinks a little more, by about the rounding error of float32.
    for slack in (0.0, 1e-7, 1e-6, 1e-5, 1e-4):
        outside = sizes(norm, clean, pulled) > eps
        if not outside.any():
            return pulled
        factor = (shrink * (1.0 - slack))[outside, None]
        pulled[outside] = (x[outside] + delta[outside] * factor).astype(np.float32)
    outside = sizes(norm, clean, pulled) > eps
    return np.where(outside[:, None], clean, pulled)
