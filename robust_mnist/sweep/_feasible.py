"""Exact feasibility, on the host and in float64: an attack never marks its own homework."""

import numpy as np
from jaxtyping import Float, Float32, Float64


def sizes(
    norm: str,
    clean: Float32[np.ndarray, "images pixels"],
    found: Float32[np.ndarray, "images pixels"],
) -> Float64[np.ndarray, " images"]:
    """Size of each perturbation in float64.

    Args:
        norm: `linf` or `l2`.
        clean: Clean images.
        found: Perturbed images.
    """
    delta = found.astype(np.float64) - clean.astype(np.float64)
    if norm == "linf":
        return np.max(np.abs(delta), axis=1)
    return np.sqrt(np.sum(delta**2, axis=1))


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
        norm: `linf` or `l2`.
        clean: Clean images, pixels in [0, 1].
        found: What the attack returned.
        eps: Radius of each image.
    """
    x = clean.astype(np.float64)
    z = np.clip(found.astype(np.float64), 0.0, 1.0)
    if norm == "linf":
        return _pull_linf(x, clean, z, eps[:, None])
    return _pull_l2(x, clean, z, eps)


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


def _pull_l2(
    x: Float[np.ndarray, "images pixels"],
    clean: Float32[np.ndarray, "images pixels"],
    z: Float[np.ndarray, "images pixels"],
    eps: Float[np.ndarray, " images"],
) -> Float32[np.ndarray, "images pixels"]:
    delta = z - x
    length = np.sqrt(np.sum(delta**2, axis=1))
    shrink = np.where(length > eps, eps / np.where(length > 0, length, 1.0), 1.0)
    pulled = z.astype(np.float32)
    # Each turn shrinks a little more, by about the rounding error of float32.
    for slack in (0.0, 1e-7, 1e-6, 1e-5, 1e-4):
        outside = sizes("l2", clean, pulled) > eps
        if not outside.any():
            return pulled
        factor = (shrink * (1.0 - slack))[outside, None]
        pulled[outside] = (x[outside] + delta[outside] * factor).astype(np.float32)
    outside = sizes("l2", clean, pulled) > eps
    return np.where(outside[:, None], clean, pulled)
