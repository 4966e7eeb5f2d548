"""The lab's training in several libraries, side by side: what each peer is and what it gets.

A peer is a file with `fit(work)` and a line in `PEERS`. Its process imports nothing else of this
project, so that no library pays for another one.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np


SIZES = (784, 50, 50, 10)
BATCH = 1000
RATE, DECAY, DELTA = 2e-3, 0.9, 1e-7
OURS = "robust_mnist"


@dataclasses.dataclass(frozen=True)
class Peer:
    """How a table names a peer, and where its work differs from that of the others.

    Attributes:
        module: File of this package.
        label: Short name for figures.
        libraries: Distributions whose versions are reported.
        remark: Its RMSProp, and what else has to be known beside its time.
        slow: Whether it is repeated once only, unless a number was asked for.
        gpu: Whether it needs an NVIDIA GPU; without one it runs only when it is asked for.
    """

    module: str
    label: str
    libraries: tuple[str, ...]
    remark: str
    slow: bool = False
    gpu: bool = False


PEERS: dict[str, Peer] = {
    OURS: Peer(
        "ours",
        "robust_mnist",
        ("robust-mnist", "jax", "equinox", "optax"),
        "delta under the root, not centred; the whole training is compiled; its time includes the "
        "record of losses and accuracy every 10 epochs, which the others do not keep",
    ),
    "torch": Peer(
        "torch_eager",
        "PyTorch, eager",
        ("torch",),
        "delta outside the root, not centred; hand-written loop over index_select",
    ),
    "torch-compile": Peer(
        "torch_compiled",
        "PyTorch, torch.compile",
        ("torch",),
        "delta outside the root, not centred; as torch, with its step through torch.compile, and "
        "with CUDA graphs where there is a GPU",
    ),
    "torch-graphs": Peer(
        "torch_graphs",
        "PyTorch, CUDA graph",
        ("torch",),
        "delta outside the root, not centred; as torch, with its step captured by hand and "
        "replayed; on a GPU only",
        gpu=True,
    ),
    "flax": Peer(
        "flax_optax",
        "Flax, Optax",
        ("flax", "optax", "jax"),
        "delta under the root, not centred; linen, a jitted step in a Python loop",
    ),
    "scikit-learn": Peer(
        "scikit_learn",
        "scikit-learn (Adam)",
        ("scikit-learn", "numpy"),
        "has no RMSProp: Adam, delta outside the root, at the same learning rate; Glorot uniform "
        "weights and biases; on the CPU only",
        slow=True,
    ),
    "keras": Peer(
        "keras_jax",
        "Keras on JAX",
        ("keras", "jax"),
        "delta under the root, not centred; model.fit",
    ),
}


@dataclasses.dataclass(frozen=True)
class Work:
    """The same for every peer: images as bytes, labels as int64, and how long to train."""

    train_images: np.ndarray
    train_labels: np.ndarray
    valid_images: np.ndarray
    valid_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    epochs: int
    seed: int
    threads: int

    @classmethod
    def read(cls, path: Path, **numbers: int) -> "Work":
        with np.load(path) as arrays:
            return cls(**arrays, **numbers)


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a peer measured.

    Attributes:
        fit_s: Seconds of training, data in memory and everything compiled.
        compile_s: Seconds from the images in memory to the start of `fit_s`: building the network,
            compiling it or training it for an epoch that is then taken back.
        correct: Whether each test image was classified rightly.
        threads: Those its library computes with.
        environment: Facts about the machine, from robust_mnist alone.
    """

    fit_s: float
    compile_s: float
    correct: np.ndarray
    threads: int
    environment: dict[str, Any] | None = None


def to_float(images: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1], bit for bit those that robust_mnist trains on."""
    return images.astype(np.float32) * np.float32(1 / 255)
