"""Norms of matrices, from above: a proof needs no estimate that may be too small."""

import jax.numpy as jnp
from jaxtyping import Array, Float


SQUARINGS = 12


def spectral_norm(
    weight: Float[Array, "neurons below"], scale: Float[Array, " neurons"]
) -> Float[Array, ""]:
    """At least the largest singular value of `scale[:, None] * weight`, and hardly more.

    Power iteration approaches it from below and would prove nothing, and the error of a library's
    decomposition is known up to a constant alone. The Frobenius norm is an upper bound, and can be
    taken of any power: `|A|^2 = |A A^T| <= |A A^T|_F`, again and again. After k squarings the bound
    is too large by a factor of at most rank^(2^-k / 4): 1.0003 for 100 neurons.

    Rounding: let u be half a unit in the last place. A computed `A A^T` differs from the exact one
    by at most n u |A|_F^2 in any norm used here, n the terms of each sum, which is added, twice,
    with 16 more than n for scales and roots. `|weight|_F^2` is the trace of what was computed.

    Reference:
        Delattre et al., "Efficient bound of Lipschitz constant for convolutional layers by Gram
        iteration", ICML 2023. Rounding: Higham, "Accuracy and stability of numerical algorithms",
        section 3.5.

    Args:
        weight: The matrix. A product that is the same for all images is computed once for them.
        scale: Factor of each row, at least 0.
    """
    limits = jnp.finfo(weight.dtype)
    rows, columns = weight.shape
    if rows <= columns:
        gram = scale[:, None] * (weight @ weight.T) * scale[None]
    else:
        scaled = scale[:, None] * weight
        gram = scaled.T @ scaled
    slack = (max(rows, columns) + 16) * limits.eps
    # The second term is what underflows, in each product, before it is scaled or after.
    steepest = jnp.maximum(1.0, jnp.max(scale) ** 2)
    lost = slack * jnp.trace(gram) + 4 * weight.size * limits.tiny * steepest
    return jnp.sqrt(_largest(gram) + lost) * (1 + 16 * limits.eps)


def _largest(gram: Float[Array, "rows rows"]) -> Float[Array, ""]:
    """At least the spectral norm."""
    slack = (gram.shape[0] + 16) * jnp.finfo(gram.dtype).eps
    sizes = []
    for _ in range(SQUARINGS):
        sizes.append(_frobenius(gram))
        # To Frobenius norm 1, so that nothing overflows, and the slack is known.
        gram = gram / jnp.where(sizes[-1] > 0, sizes[-1], 1.0)
        gram = gram @ gram.T
    bound = _frobenius(gram)
    for size in reversed(sizes):
        bound = size * jnp.sqrt(bound + slack)
    return bound


def _frobenius(matrix: Float[Array, "rows rows"]) -> Float[Array, ""]:
    return length(matrix.reshape(-1))


def length(values: Float[Array, "*rows entries"]) -> Float[Array, "*rows"]:
    """Euclidean lengths of rows, however small or large their entries.

    In units of the largest entry: its square may be 0 or infinite, and a length of 0 proves what is
    false. The square of an entry that is far smaller may underflow, which changes the length by
    less than rounding does.

    Args:
        values: One or several rows.
    """
    largest = jnp.max(jnp.abs(values), axis=-1, keepdims=True)
    shares = values / jnp.where(largest > 0, largest, 1.0)
    return largest[..., 0] * jnp.sqrt(jnp.sum(shares * shares, axis=-1))
