import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from robust_mnist import checkpoint
from robust_mnist.errors import InputError
from robust_mnist.models import MLP


ABOUT = {"model": "mlp", "sizes": [784, 5, 10], "activation": "relu"}


@pytest.fixture
def model(getkey):
    return MLP((784, 5, 10), "relu", key=getkey())


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, model, ABOUT)
    return path


def test_a_network_survives_its_file_bit_for_bit(model, path):
    loaded = checkpoint.load_model(path)
    assert loaded.activation == "relu"
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(loaded), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype


def test_arrays_carry_the_names_and_layout_of_pytorch_linear_layers(path):
    arrays = safetensors.numpy.load_file(path)
    assert set(arrays) == {f"layers.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}
    assert arrays["layers.0.weight"].shape == (5, 784)


def test_any_tree_of_arrays_can_be_kept(tmp_path):
    tree = {"a": jnp.arange(3), "b": [jnp.ones((2, 2)), "text"]}
    checkpoint.save(tmp_path / "x.safetensors", tree, {"epoch": 3, "history": [{"loss": 0.1}]})
    loaded, about = checkpoint.load(tmp_path / "x.safetensors", tree)
    assert about == {"epoch": 3, "history": [{"loss": 0.1}]}
    assert loaded["b"][1] == "text"
    assert np.array_equal(loaded["a"], tree["a"])


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read as safetensors: .*; put back a copy"):
        checkpoint.load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_one_line(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cannot be read as safetensors: .*; put back a copy"):
        checkpoint.load_model(path)


def test_a_header_that_declares_too_much_is_refused(path):
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**60) + content[8:])
    with pytest.raises(InputError, match=r"cannot be read as safetensors: .*; put back a copy"):
        checkpoint.load_model(path)


@pytest.mark.parametrize(
    "change", [{"model": "cnn"}, {"sizes": [784]}, {"sizes": "x"}, {"activation": "none"}]
)
def test_a_file_that_describes_no_network_is_refused(model, tmp_path, change):
    path = tmp_path / "odd.safetensors"
    checkpoint.save_model(path, model, ABOUT | change)
    with pytest.raises(InputError, match=r"does not say which network.*; put back a copy"):
        checkpoint.load_model(path)


def test_weights_of_another_shape_are_refused(model, tmp_path):
    path = tmp_path / "odd.safetensors"
    checkpoint.save_model(path, model, ABOUT | {"sizes": [784, 6, 10]})
    with pytest.raises(InputError, match=r"layers\.0\.weight must be .*; put back a copy"):
        checkpoint.load_model(path)


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_metadata_that_is_no_json_object_is_refused(text, tmp_path):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(1)}, metadata={"about": text}))
    with pytest.raises(InputError, match=r"cannot be read as safetensors: .*; put back a copy"):
        checkpoint.load_model(path)


def test_nothing_half_written_is_left_when_writing_fails(model, path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(json, "dumps", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoint.save_model(path, model, ABOUT)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
