"""Data: from files to arrays, from arrays to the device, from bytes to pixels."""

import jax
import numpy as np
import pytest

from robust_mnist import data
from robust_mnist.data.pixels import to_float


def bench_load(time_call):
    """The embedded files, unpacked and checked."""
    mnist = time_call(lambda: data.load("mnist"), items=70_000, rounds=10)
    assert mnist.train_images.shape == (60_000, 784)
    assert mnist.test_images.shape == (10_000, 784)
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("name", data.SPLITS)
def bench_split(time_call, mnist, name):
    parts = time_call(lambda: data.split(mnist, name), items=60_000, rounds=10)
    assert not set(parts.train.ids) & set(parts.valid.ids)
    assert np.array_equal(parts.train.images[7], mnist.train_images[parts.train.ids[7]])


@pytest.mark.parametrize("kind", ["bytes", "pixels"])
def bench_copy(time_call, mnist, kind):
    """To the device, as bytes or as float32 pixels."""
    images = mnist.test_images if kind == "bytes" else to_float(mnist.test_images)
    images = unaligned(images)
    copy = time_call(
        lambda: jax.block_until_ready(jax.device_put(images)),
        items=len(images), bytes=images.nbytes, rounds=30,
    )  # fmt: skip
    assert copy.unsafe_buffer_pointer() != images.ctypes.data
    assert np.array_equal(copy, images)


def bench_to_float(time_compiled, mnist):
    """The 256 grey levels as pixels, on the device."""
    pixels = time_compiled(to_float, mnist.test_images, items=len(mnist.test_images))
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, to_float(mnist.test_images))


def unaligned(array):
    """The same numbers where no CPU device would take them over without copying."""
    room = np.empty(array.nbytes + 128, np.uint8)
    skip = -room.ctypes.data % 64 + 16
    moved = room[skip : skip + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved
