"""Small arrays behind the figures that show single images, so that a report needs no network."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from robust_mnist import metrics
from robust_mnist.data import Dataset, Split
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii
from robust_mnist.sweep._steps import LAST, smallest_step


DIGITS, SHOWN = 30, 40
Panels = dict[str, np.ndarray]


def sample_panels(model: AbstractClassifier, dataset: Dataset, split: Split) -> Panels:
    """The first training digits, and the first test images with their probabilities."""
    images = split.test.images[:SHOWN]
    probabilities = eqx.filter_jit(jax.vmap(type(model).probabilities, in_axes=(None, 0)))
    return {
        "digits/images": dataset.train_images[:DIGITS],
        "digits/labels": dataset.train_labels[:DIGITS],
        "test/images": images,
        "test/labels": split.test.labels[:SHOWN],
        "test/probabilities": np.asarray(probabilities(model, to_float(images))),
        "flow/labels": split.test.labels,
    }


def lab_panel(model: AbstractClassifier, dataset: Dataset) -> tuple[Panels, dict[str, Any]]:
    """The lab's attack on the last image of the training file, not clipped.

    Returns:
        The arrays, for step 1 and for the smallest step that fools the network, if there is one up
        to 1e16; and what `run.json` says of it.
    """
    image, label = dataset.train_images[-1], int(dataset.train_labels[-1])
    x, y = jnp.asarray(to_float(image)), jnp.asarray(label, jnp.int32)

    @eqx.filter_jit
    def look(model: AbstractClassifier, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        with jax.default_matmul_precision("highest"):
            return model.probabilities(z), metrics.margin(model(z), y)

    gradient = eqx.filter_jit(
        lambda model: jax.grad(lambda z: metrics.cross_entropy(model(z), y))(x)
    )(model)
    attacked = lambda step: x + jnp.asarray(step, jnp.float32) * gradient
    smallest = smallest_step(lambda step: bool(look(model, attacked(step))[1] <= 0))
    steps = [1.0] if smallest is None else sorted({1.0, smallest})
    panels = {
        "lab/image": image,
        "lab/label": np.asarray(label),
        "lab/probabilities": np.asarray(look(model, x)[0]),
        "lab/gradient": np.asarray(gradient),
        "lab/steps": np.asarray(steps),
        "lab/attacked": np.stack([np.asarray(attacked(step)) for step in steps]),
        "lab/attacked_probabilities": np.stack(
            [np.asarray(look(model, attacked(step))[0]) for step in steps]
        ),
    }
    about = {
        "index": len(dataset.train_labels) - 1,
        "smallest_step": smallest,
        "searched_to": LAST,
        "gradient_norm": float(np.linalg.norm(np.asarray(gradient, np.float64))),
    }
    return panels, about


def gallery_panel(radii: Radii, witness: np.ndarray, split: Split) -> Panels:
    """The least and the most robust right image of each class, with its wrong neighbour.

    Args:
        radii: Merged bounds of one network.
        witness: The wrong images behind `radii.upper`.
        split: Whose test images were attacked.
    """
    labels, right = split.test.labels, radii.upper > 0
    chosen = []
    for least in (True, False):
        for digit in range(10):
            of_class = np.flatnonzero((labels == digit) & right)
            if of_class.size:
                upper = radii.upper[of_class]
                chosen.append(of_class[np.argmin(upper) if least else np.argmax(upper)])
    index = np.array(chosen, dtype=np.int64)
    found = np.isfinite(radii.upper[index])
    prefix = f"gallery/{radii.norm}"
    return {
        f"{prefix}/images": split.test.images[index],
        f"{prefix}/witnesses": np.where(found[:, None], witness[index], np.float32(np.nan)),
        f"{prefix}/labels": labels[index],
        f"{prefix}/reached": radii.reached[index],
        f"{prefix}/upper": radii.upper[index],
        f"{prefix}/index": index,
    }
