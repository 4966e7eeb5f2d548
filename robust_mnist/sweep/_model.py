"""Whether a model can be evaluated at all, told before anything is compiled for an attack."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.models import AbstractClassifier


IMAGES = 16
# AutoAttack's limit for a sum of probabilities.
ROUNDING = 1e-5
# And for the difference between two passes, relative to the largest logit, as in G19.
STEADY = 1e-4


def check_model(model: AbstractClassifier, part: Part, *, name: str = "the model") -> None:
    """Refuse a model that does not give finite logits for the images.

    Args:
        model: Called on single images of `part`.
        part: Images as stored and their labels; the first 16 are looked at, and 16 random ones.
        name: What messages call it.

    Raises:
        InputError: The model cannot be called on such an image, gives no vector with a number for
            each class, gives NaN or infinity on a clean image, gives other logits when it is asked
            again, or gives probabilities.
    """
    size, classes = part.images.shape[1], int(np.max(part.labels)) + 1
    rule = f"{name} must map an image of {size} pixels to at least {classes} logits"
    try:
        out = jax.eval_shape(model, jax.ShapeDtypeStruct((size,), jnp.float32))
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{rule}, got {type(error).__name__}: {reason}; mend it, or give images of its size"
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct) or not jnp.issubdtype(out.dtype, jnp.floating):
        raise InputError(f"{rule}, got {getattr(out, 'dtype', type(out).__name__)}; give floats")
    if len(out.shape) != 1 or out.shape[0] < classes:
        raise InputError(
            f"{rule}, got an output of shape {out.shape}; it is called on one image at a time, "
            "without an axis for a batch"
        )
    clean = to_float(part.images[:IMAGES])
    # A linear model fitted to one-hot classes adds up to 1 everywhere, and may well stay in [0, 1]
    # on a few images, but hardly on noise.
    noise = np.random.default_rng(0).random((IMAGES, size), np.float32)
    values, again = (
        np.asarray(_outputs(model, jnp.concatenate([clean, noise])), np.float64) for _ in range(2)
    )
    if not (finite := np.isfinite(values[: len(clean)]).all(axis=1)).all():
        image = part.ids[:IMAGES][~finite][0]
        raise InputError(
            f"{name} must give finite logits, got NaN or infinity on the clean image {image}; "
            "mend its weights or train it anew"
        )
    moved = np.abs(again - values)
    if moved.max() > STEADY * np.abs(values).max():
        before, after = values.flat[moved.argmax()], again.flat[moved.argmax()]
        raise InputError(
            f"{name} must give the same logits when it is asked again, got {before:.6g} and then "
            f"{after:.6g}; fix its draws, or average over them with robust_mnist.models.Expectation"
        )
    inside = values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING
    if inside and np.abs(values.sum(axis=1) - 1).max() <= ROUNDING:
        raise InputError(
            f"{name} must give logits, got outputs in [0, 1] that add up to 1, as probabilities "
            "do; give what goes into the softmax, or the logarithm of what comes out of it"
        )


@eqx.filter_jit
def _outputs(
    model: AbstractClassifier, pixels: Float[Array, "images pixels"]
) -> Float[Array, "images classes"]:
    return jax.vmap(model)(pixels)
