"""Every format gives back the images and labels that were written, by every way of naming it."""

import gzip
import time

import numpy as np
import pytest
from data_files import csv_bytes, some_arrays, write, write_idx, write_npz

from robust_mnist.data import load


@pytest.fixture(scope="module")
def mnist():
    return load("mnist")


@pytest.fixture(scope="module")
def slices(mnist):
    """Six hundred training and forty test images, so that a CSV is parsed in two blocks."""
    return (
        mnist.train_images[-600:],
        mnist.train_labels[-600:],
        mnist.test_images[:40],
        mnist.test_labels[:40],
    )


def assert_holds(data, arrays):
    train_images, train_labels, test_images, test_labels = arrays
    assert np.array_equal(data.train_images, train_images)
    assert np.array_equal(data.train_labels, train_labels)
    assert np.array_equal(data.test_images, test_images)
    assert np.array_equal(data.test_labels, test_labels)
    assert not data.embedded


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_gives_back_what_was_written(tmp_path, slices, separator, ending):
    folder = write_idx(tmp_path / "digits.v2", slices, separator=separator, ending=ending)
    data = load(str(folder))
    assert_holds(data, slices)
    assert (data.name, data.origin) == ("digits.v2", str(folder))


def test_unpacked_idx_files_beside_packed_ones_are_read(tmp_path, slices):
    """Some tools leave both, so both must not be an error; the packed ones are broken here."""
    folder = write_idx(tmp_path / "raw", slices)
    for path in list(folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(b"broken")
    assert_holds(load(folder), slices)


@pytest.mark.parametrize("form", ["%d", "%.1f", "%.6e", " %d", "%d "])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_csv_gives_back_what_was_written(tmp_path, slices, form, header, ending):
    few = [array[:30] for array in slices]
    train = write(
        tmp_path / f"a_train{ending}", csv_bytes(few[0], few[1], form=form, header=header)
    )
    test = write(tmp_path / f"a_test{ending}", csv_bytes(few[2], few[3], form=form))
    data = load((str(train), str(test)))
    assert_holds(data, few)
    assert (data.name, data.origin) == ("a_train", f"{train}, {test}")


@pytest.mark.parametrize("form", ["%d", "%.1f"])
def test_csv_of_several_blocks_keeps_every_row(tmp_path, slices, form):
    train = write(tmp_path / "train.csv", csv_bytes(*slices[:2], form=form))
    test = write(tmp_path / "test.csv", csv_bytes(*slices[2:]))
    assert_holds(load([train, test]), slices)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.rstrip(b"\n"),
        lambda content: content + b"\n  \n",
        lambda content: content.replace(b"\n", b"\n\n"),
    ],
    ids=["windows line ends", "byte-order mark", "no last line end", "blank end", "blank lines"],
)
@pytest.mark.parametrize("header", [False, True])
def test_csv_from_other_writers_is_read_as_well(tmp_path, change, header):
    arrays = some_arrays()
    train = write(tmp_path / "train.csv", change(csv_bytes(*arrays[:2], header=header)))
    test = write(tmp_path / "test.csv", csv_bytes(*arrays[2:]))
    assert_holds(load([train, test]), arrays)


def test_csv_folder_is_read_and_named_after_itself(tmp_path):
    arrays = some_arrays()
    write(tmp_path / "my_Train.csv", csv_bytes(*arrays[:2]))
    write(tmp_path / "my_test.csv.gz", csv_bytes(*arrays[2:]))
    data = load(tmp_path)
    assert_holds(data, arrays)
    assert data.name == tmp_path.name


def test_the_sample_folder_of_colab_is_understood(tmp_path):
    """It holds housing data with `train` and `test` in their names as well."""
    arrays = some_arrays()
    write(tmp_path / "mnist_train_small.csv", csv_bytes(*arrays[:2]))
    write(tmp_path / "mnist_test.csv", csv_bytes(*arrays[2:]))
    for name in ("california_housing_train.csv", "california_housing_test.csv", "README.md"):
        write(tmp_path / name, b"longitude,latitude\n1,2\n")
    assert_holds(load(tmp_path), arrays)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("flat", [False, True])
def test_npz_gives_back_what_was_written(tmp_path, slices, save, flat):
    path = tmp_path / "digits.npz"
    x_train, y_train, x_test, y_test = slices
    shape = (-1, 784) if flat else (-1, 28, 28)
    x_train, x_test = x_train.reshape(shape), x_test.reshape(shape)
    save(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, more=np.arange(3))
    data = load(path)
    assert_holds(data, slices)
    assert (data.name, data.origin) == ("digits", str(path))


@pytest.mark.parametrize("dtype", ["int16", "int64", ">i4", "float16", "float32", "float64", ">f8"])
def test_npz_of_any_number_type_is_read(tmp_path, dtype):
    arrays = some_arrays()
    path = write_npz(tmp_path / "n.npz", [array.astype(dtype) for array in arrays])
    assert_holds(load(path), arrays)


def test_npz_in_column_order_is_read(tmp_path):
    arrays = some_arrays()
    x_train = np.asfortranarray(arrays[0].reshape(-1, 28, 28))
    assert_holds(load(write_npz(tmp_path / "f.npz", arrays, x_train=x_train)), arrays)


def test_one_path_in_a_list_is_the_same_as_the_path(tmp_path):
    path = write_npz(tmp_path / "d.npz", some_arrays())
    assert load([path]).sha256 == load(path).sha256 == load(str(path)).sha256
    assert load(["mnist"]).embedded


def test_a_folder_called_mnist_needs_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = some_arrays()
    write_idx(tmp_path / "mnist", arrays)
    assert load("mnist").embedded
    assert_holds(load("./mnist"), arrays)


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    write_idx(tmp_path, some_arrays())
    monkeypatch.chdir(tmp_path)
    assert load(".").name == tmp_path.name


def test_all_formats_agree_on_the_hash(tmp_path, slices):
    few = [array[:20] for array in slices]
    train = write(tmp_path / "train.csv", csv_bytes(*few[:2]))
    test = write(tmp_path / "test.csv", csv_bytes(*few[2:]))
    folder = write_idx(tmp_path / "idx", few, ending=".gz")
    npz = write_npz(tmp_path / "d.npz", few)
    assert len({load(source).sha256 for source in ([train, test], folder, npz)}) == 1


def test_a_csv_of_thousands_of_rows_takes_seconds_at_most(tmp_path, mnist):
    """A bound that only a slow algorithm misses: 4,000 rows take a tenth of a second."""
    rows = csv_bytes(mnist.train_images[:1000], mnist.train_labels[:1000])
    train = tmp_path / "train.csv.gz"
    train.write_bytes(gzip.compress(rows * 4, compresslevel=1))
    test = write(tmp_path / "test.csv", csv_bytes(mnist.test_images[:1], mnist.test_labels[:1]))
    start = time.perf_counter()
    data = load([train, test])
    assert time.perf_counter() - start < 5
    assert np.array_equal(data.train_images[3000:], mnist.train_images[:1000])
