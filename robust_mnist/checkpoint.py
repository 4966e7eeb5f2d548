"""Weights and training states as safetensors files: named arrays and text, nothing to unpickle."""

import hashlib
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from robust_mnist import files
from robust_mnist.errors import InputError
from robust_mnist.models import MLP, MODELS, AbstractClassifier, kept
from robust_mnist.models.mlp import Dense


Tree = TypeVar("Tree")
Metadata = dict[str, Any]


def save(path: str | os.PathLike[str], tree: PyTree, metadata: Metadata) -> None:
    """Write the arrays of `tree` under their own names, such as `layers.0.weight`.

    Args:
        path: The file; replaced whole.
        tree: Anything whose array leaves matter.
        metadata: JSON values stored beside the arrays.
    """
    host = jax.device_get(eqx.filter(tree, eqx.is_array))
    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in _named(host)}
    # One entry only: safetensors writes several in random order, and equal networks would differ.
    about = {"about": json.dumps(metadata)}
    with files.writing(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata=about))


def load(path: str | os.PathLike[str], like: Tree) -> tuple[Tree, Metadata]:
    """Read a file written by `save` into the shape of `like`.

    Args:
        path: The file.
        like: A tree with the same array names, shapes and dtypes; its other leaves are kept.

    Returns:
        The tree and the metadata.

    Raises:
        InputError: The file is missing, damaged, or holds other arrays than `like`.
    """
    arrays, metadata = _read(path)
    wanted, rest = eqx.partition(like, _is_array)
    names = [name for name, _ in _named(wanted)]
    if set(names) != set(arrays):
        odd = sorted(set(names) ^ set(arrays))
        raise InputError(
            f"{path} must hold the arrays of this network, it differs in {', '.join(odd)}; "
            "put back a copy, or make it anew"
        )
    for name, leaf in _named(wanted):
        found = arrays[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise InputError(
                f"{path}: {name} must be {leaf.dtype}{leaf.shape}, "
                f"got {found.dtype}{found.shape}; put back a copy, or make it anew"
            )
    leaves = [jax.numpy.asarray(arrays[name]) for name in names]
    filled = jax.tree.unflatten(jax.tree.structure(wanted), leaves)
    return eqx.combine(filled, rest), metadata


def save_model(path: str | os.PathLike[str], model: AbstractClassifier, metadata: Metadata) -> None:
    """Write one network; `metadata` must name its `model`, `sizes` and `activation`."""
    save(path, model, metadata)


def load_model(path: str | os.PathLike[str]) -> AbstractClassifier:
    """Rebuild a network from its file.

    Raises:
        InputError: The file is no network written by this package, or it is damaged.
    """
    _, metadata = _read(path)
    try:
        model = MODELS[metadata["model"]]
        sizes, activation = tuple(metadata["sizes"]), metadata["activation"]
        like = eqx.filter_eval_shape(
            lambda key: kept(model(sizes, activation, key=key)), jax.random.key(0)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not say which network it holds: {error}; put back a copy, or make it anew"
        ) from error
    return load(path, like)[0]


def read_npz(
    path: str | os.PathLike[str],
    activation: str,
    *,
    note: Callable[[str], None] = lambda _: None,
) -> MLP:
    """A network from elsewhere: an NPZ with `layers.0.weight` (out, in), `layers.0.bias`, ...

    Args:
        path: The file.
        activation: Name of the activation between the layers.
        note: Told in one line how many weights are no float32, and were rounded to the nearest.

    Raises:
        InputError: The file cannot be read, or its layers do not follow each other.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except files.DAMAGED as error:
        # What numpy says of a file that is no archive is an advice to unpickle it.
        reason = error if isinstance(error, OSError) else "it is no archive of numbers"
        if not Path(path).is_file():
            raise InputError(f"{path} is no file; name an NPZ with the network") from error
        raise InputError(
            f"{path} cannot be read as an NPZ: {reason}; save it with numpy.savez"
        ) from error
    names = [
        f"layers.{index}.{part}" for index in range(len(arrays) // 2) for part in ("weight", "bias")
    ]
    if not names or set(names) != set(arrays):
        raise InputError(
            f"{path} must hold layers.0.weight, layers.0.bias, layers.1.weight and so on, "
            f"got {', '.join(arrays) or 'nothing'}; save all layers under these names"
        )
    weights, biases = ([arrays[name] for name in names[part::2]] for part in (0, 1))
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise InputError(
                f"{path}: {name} must hold real numbers, got {array.dtype}; save it as float32"
            )
    shapes = [arrays[name].shape for name in names]
    sizes = (*weights[0].shape[1:], *(bias.size for bias in biases))
    if shapes != [s for ins, outs in pairwise(sizes) for s in ((outs, ins), (outs,))]:
        raise InputError(f"{path}: shapes must be (out, in) and (out,), each in the last out, got "
                         f"{', '.join(map(str, shapes))}; transpose or mend them")  # fmt: skip
    with np.errstate(over="ignore"):
        single = {name: array.astype(np.float32) for name, array in arrays.items()}
    moved = sum(np.sum(np.isfinite(a) & (single[name] != a)) for name, a in arrays.items())
    if moved:
        note(
            f"{path}: {moved:,} of {sum(a.size for a in arrays.values()):,} weights are no float32 "
            "and were rounded; what is found is about the network with the rounded weights"
        )
    model = MLP(sizes, activation, key=jax.random.key(0))
    weights, biases = ([jax.numpy.asarray(single[n]) for n in names[part::2]] for part in (0, 1))
    layers = tuple(Dense(w, b) for w, b in zip(weights, biases, strict=True))
    return eqx.tree_at(lambda m: m.layers, model, layers)


def about(path: str | os.PathLike[str]) -> Metadata:
    """The metadata of a file written by `save`, without its arrays.

    Raises:
        InputError: The file is missing or damaged.
    """
    return _open(path, lambda _: {})[1]


def digest(path: str | os.PathLike[str]) -> str:
    """sha256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def _is_array(leaf: object) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Metadata]:
    return _open(path, lambda stored: {name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118


def _open(
    path: str | os.PathLike[str], take: Callable[[Any], dict[str, np.ndarray]]
) -> tuple[dict[str, np.ndarray], Metadata]:
    try:
        with safetensors.safe_open(path, framework="numpy") as stored:
            metadata = json.loads((stored.metadata() or {}).get("about", "{}"))
            if not isinstance(metadata, dict):
                raise ValueError(f"its metadata must be an object, got {metadata!r}")  # noqa: TRY004, TRY301
            return take(stored), metadata
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors: {error}; put back a copy, or make it anew"
        ) from error
