"""The embedded MNIST, its pixels and its splits."""

import dataclasses
import gzip
import hashlib
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from data_files import complaint, some_arrays

import robust_mnist.data
from robust_mnist.data import Dataset, load, split
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError


# As published with the dataset.
CONTENT = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FILES = pathlib.Path(robust_mnist.data.__file__).parent / "files"


@pytest.fixture(scope="module")
def mnist():
    return load("mnist")


def small(**changes):
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return Dataset(
        **dict(zip(names, some_arrays(), strict=True)) | {"name": "s", "origin": "here"} | changes
    )


@pytest.mark.parametrize("name", CONTENT)
def test_embedded_file_is_the_published_one(name):
    content = gzip.decompress((FILES / f"{name}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == CONTENT[name]


def test_notice_names_authors_licence_and_every_hash():
    notice = (FILES / "NOTICE").read_text()
    for part in ("LeCun", "Cortes", "Burges", "https://creativecommons.org/licenses/by-sa/3.0/"):
        assert part in notice
    assert all(f"{sha256}  {name}" in notice for name, sha256 in CONTENT.items())


def test_mnist_has_the_known_shapes_and_labels(mnist):
    assert mnist.train_images.shape == (60_000, 784)
    assert mnist.test_images.shape == (10_000, 784)
    assert mnist.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert (mnist.name, mnist.origin, mnist.embedded) == ("mnist", "embedded", True)


def test_images_are_in_the_order_of_the_file(mnist):
    """The first and the last image equal the first and the last 784 bytes after the header."""
    content = gzip.decompress((FILES / "train-images-idx3-ubyte.gz").read_bytes())
    assert mnist.train_images[0].tobytes() == content[16 : 16 + 784]
    assert mnist.train_images[59_999].tobytes() == content[-784:]


def test_loading_does_not_import_jax_or_pooch():
    code = (
        "import sys; from robust_mnist.data import load, split; split(load());"
        "print([m for m in ('jax', 'equinox', 'pooch', 'requests', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_grey_level_is_the_same_number_on_host_and_device_jitted_or_not():
    import jax
    import jax.numpy as jnp

    levels = np.arange(256, dtype=np.uint8)
    expected = np.array([np.float32(k) * np.float32(1 / 255) for k in range(256)])
    for found in (to_float(levels), to_float(jnp.asarray(levels)), jax.jit(to_float)(levels)):
        assert found.dtype == np.float32
        assert np.asarray(found).tobytes() == expected.tobytes()


def test_pixels_fill_the_box_and_do_not_leave_it():
    pixels = to_float(np.arange(256, dtype=np.uint8))
    assert (pixels[0], pixels[255]) == (0.0, 1.0)
    assert np.all(np.diff(pixels) > 0)


def test_pixels_keep_shape_and_kind_of_array():
    import jax
    import jax.numpy as jnp

    assert to_float(np.zeros((2, 784), np.uint8)).shape == (2, 784)
    assert isinstance(to_float(jnp.zeros((3, 784), np.uint8)), jax.Array)


def test_hash_depends_on_every_array_and_on_shapes_but_not_on_the_name():
    base = small()
    assert base.sha256 == small(name="other", origin="there").sha256
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        changed = getattr(base, field).copy()
        changed.flat[0] ^= 1
        assert small(**{field: changed}).sha256 != base.sha256
    train, labels = base.train_images, base.train_labels
    moved = {
        "train_images": train[:4],
        "train_labels": labels[:4],
        "test_images": np.concatenate([train[4:], base.test_images]),
        "test_labels": np.concatenate([labels[4:], base.test_labels]),
    }
    assert small(**moved).sha256 != base.sha256


def test_hash_of_the_embedded_data_never_changes(mnist):
    assert mnist.sha256 == "5a4d4600f9ae243d0ab9ee1ff6d948035e6f85a423fdfacf899262ac3ca6f325"


def test_arrays_of_a_dataset_cannot_be_written_to():
    data = small()
    with pytest.raises(ValueError, match="read-only"):
        data.train_images[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"


def test_making_a_dataset_leaves_the_given_array_writable():
    images = some_arrays()[0]
    small(train_images=images)
    images[0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": np.zeros((5, 783), np.uint8)}, r"shape \(n, 784\), got \(5, 783\)"),
        ({"train_images": np.zeros((5, 28, 28), np.uint8)}, "flatten"),
        ({"train_images": np.zeros((5, 784), np.float32)}, "uint8, got float32"),
        ({"train_images": np.zeros((4, 784), np.uint8)}, "4 images but labels of shape"),
        ({"test_labels": np.zeros(2, np.uint8)}, "test: 3 images"),
        ({"test_labels": np.array([0, 10, 2], np.uint8)}, "label 10 at position 1"),
        (
            {"test_images": np.zeros((0, 784), np.uint8), "test_labels": np.zeros(0, np.uint8)},
            "holds no images",
        ),
    ],
)
def test_a_dataset_refuses_arrays_that_are_not_sound(changes, words):
    assert re.search(words, complaint(lambda: small(**changes)))


def test_lab_split_takes_the_agreed_images(mnist):
    """Any language can draw these: indices sorted by the sha256 of `lab-split:<index>`."""
    parts = split(mnist, "lab")
    assert parts.train.ids[:10].tolist() == [
        12410, 36200, 56775, 2799, 11654, 8970, 29159, 13389, 17, 551
    ]  # fmt: skip
    drawn = np.concatenate([parts.train.ids, parts.valid.ids])
    assert drawn.shape == (11_000,)
    assert (
        hashlib.sha256(drawn.astype("<i8").tobytes()).hexdigest()
        == "0dfd36f7bfe46df60dd63ed5018a7b396c8c62e1e0f54e693e53a4a8048373b9"
    )


@pytest.mark.parametrize(("name", "sizes"), [("lab", (10_000, 1_000)), ("full", (55_000, 5_000))])
def test_parts_of_a_split_are_disjoint_and_hold_the_images_their_ids_name(mnist, name, sizes):
    parts = split(mnist, name)
    assert (len(parts.train.ids), len(parts.valid.ids)) == sizes
    assert len(np.unique(np.concatenate([parts.train.ids, parts.valid.ids]))) == sum(sizes)
    for part in (parts.train, parts.valid):
        assert np.array_equal(part.images, mnist.train_images[part.ids])
        assert np.array_equal(part.labels, mnist.train_labels[part.ids])
    assert np.array_equal(parts.test.images, mnist.test_images)
    assert np.array_equal(parts.test.labels, mnist.test_labels)
    assert np.array_equal(parts.test.ids, np.arange(10_000))


def test_lab_is_the_beginning_of_full(mnist):
    lab, full = split(mnist, "lab"), split(mnist, "full")
    assert np.array_equal(lab.train.ids, full.train.ids[:10_000])
    assert np.array_equal(lab.valid.ids, full.train.ids[10_000:11_000])


@pytest.mark.parametrize(
    ("count", "name", "train", "valid"),
    [
        (60_000, "lab", 10_000, 1_000),
        (11_000, "lab", 10_000, 1_000),
        (22, "lab", 20, 2),
        (21, "lab", 20, 1),
        (2, "lab", 1, 1),
        (60_000, "full", 55_000, 5_000),
        (24, "full", 22, 2),
        (2, "full", 1, 1),
    ],
)
def test_foreign_data_are_split_in_the_order_of_their_file(count, name, train, valid):
    data = small(
        train_images=np.zeros((count, 784), np.uint8), train_labels=np.zeros(count, np.uint8)
    )
    parts = split(data, name)
    assert np.array_equal(parts.train.ids, np.arange(train))
    assert np.array_equal(parts.valid.ids, np.arange(train, train + valid))


@pytest.mark.parametrize("name", ["lab", "full"])
def test_one_training_image_cannot_be_split(name):
    one = small(train_images=np.zeros((1, 784), np.uint8), train_labels=np.zeros(1, np.uint8))
    with pytest.raises(InputError, match="at least 2"):
        split(one, name)


def test_an_unknown_split_gets_a_suggestion():
    with pytest.raises(
        InputError, match=r"unknown split 'ful': choose from lab, full; did you mean 'full'\?"
    ):
        split(small(), "ful")
