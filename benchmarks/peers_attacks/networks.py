"""The networks under attack: the lab's, of a run or trained on the spot, and those of a folder."""

import os
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from robust_mnist import checkpoint, training
from robust_mnist.config import TrainSettings
from robust_mnist.data import Split
from robust_mnist.errors import InputError
from robust_mnist.models import MLP
from robust_mnist.models.mlp import Dense


VARIABLE = "ROBUST_MNIST_NETWORKS"


def mlp(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], activation: str) -> MLP:
    """The network of these layers, weights (out, in)."""
    sizes = (weights[0].shape[1], *map(len, biases))
    blank = eqx.filter_eval_shape(MLP, sizes, activation, key=jax.random.key(0))
    layers = tuple(
        Dense(jnp.asarray(w), jnp.asarray(b)) for w, b in zip(weights, biases, strict=True)
    )
    return eqx.tree_at(lambda model: model.layers, blank, layers)


def lab(run: Path | None, split: Split) -> MLP:
    """The network of a run's first seed, or one trained with the lab's settings."""
    if run is None:
        return training.train(TrainSettings(), split.train, split.valid).models[0]
    found = sorted((run / "model").glob("*.safetensors"))
    if not found:
        raise InputError(f"{run} must be the folder of a trained run, it has no model in it")
    return checkpoint.load_model(found[0])


def named() -> dict[str, Path]:
    """The files in the folder that `ROBUST_MNIST_NETWORKS` names, by name; none where it is unset.

    Raises:
        InputError: It names no folder, or one without networks.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return {}
    found = {path.stem: path for path in sorted(Path(folder).glob("*.npz"))}
    if not found:
        raise InputError(f"{VARIABLE} must name a folder with networks (*.npz), got {folder}")
    return found


def read(path: Path) -> MLP:
    """A network from `layers.<i>.weight` and `.bias`; hidden units are ReLU, but tanh by name."""
    with np.load(path) as arrays:
        count = sum(name.endswith(".weight") for name in arrays)
        weights, biases = (
            [arrays[f"layers.{i}.{kind}"] for i in range(count)] for kind in ("weight", "bias")
        )
    return mlp(weights, biases, "tanh" if "tanh" in path.stem else "relu")
