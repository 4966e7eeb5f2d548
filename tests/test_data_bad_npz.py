"""NPZ files that are not sound end in one line that names the member."""

import gzip
import io
import pathlib
import zipfile

import numpy as np
import pytest
from data_files import cases, complaint, some_arrays, write_npz

from robust_mnist.data import load, npz


ARRAYS = some_arrays()


@cases(
    "changes",
    ({"y_train": None, "x_test": None}, "lacks y_train, x_test, it holds 'x_train', 'y_test'"),
    ({"x_train": np.zeros((5, 27, 28), np.uint8)}, "x_train: images must be 28x28"),
    ({"x_train": np.zeros((5, 28, 28, 1), np.uint8)}, "got (5, 28, 28, 1)"),
    ({"x_train": np.uint8(3)}, "x_train: images must be 28x28"),
    ({"y_test": np.eye(3, dtype=np.uint8)}, "y_test: labels must have shape (n,), got (3, 3)"),
    ({"y_test": np.array([1, 2, 10])}, "y_test, image 2: label 10 is not a whole number"),
    ({"y_test": np.array([1, -2, 1])}, "y_test, image 1: label -2 is not"),
    ({"y_test": np.array([1, 2.5, 1])}, "y_test, image 1: label 2.5 is not"),
    ({"y_test": np.array([1, 2])}, "test: 3 images but labels of shape (2,)"),
    ({"x_test": ARRAYS[2] / 255}, "x_test: the largest pixel is 1, so the images seem"),
    ({"x_test": ARRAYS[2] + 0.5}, "x_test, image 0: pixel"),
    ({"x_test": np.full((3, 784), np.nan)}, "x_test, image 0: pixel nan is not"),
    ({"x_test": np.full((3, 784), np.inf)}, "x_test, image 0: pixel inf is not"),
    ({"x_test": np.full((3, 784), -1)}, "x_test, image 0: pixel -1 is not"),
    ({"x_test": np.full((3, 784), 256)}, "x_test, image 0: pixel 256 is not"),
    ({"x_test": np.zeros((0, 28, 28), np.uint8)}, "x_test: holds nothing, its shape is (0,"),
    ({"x_test": np.array([[1, None]])}, "x_test: holds Python objects (pickle)"),
    ({"x_test": np.array(["a"])}, "x_test: holds values of type '<U1'"),
    ({"x_test": np.zeros(3, "c16")}, "x_test: holds values of type '<c16'"),
    ({"x_test": np.zeros(3, [("a", "u1")])}, "x_test: its header is not that of a plain array"),
)
def test_bad_npz(tmp_path, changes, words):
    path = write_npz(tmp_path / "data.npz", ARRAYS, **changes)
    message = complaint(load, path)
    assert message.startswith(str(path))
    assert words in message


def npz_with(path, member: bytes, *, method: int = zipfile.ZIP_DEFLATED) -> pathlib.Path:
    """An NPZ whose `x_train` is the given bytes."""
    write_npz(path, ARRAYS, x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", member, method)
    return path


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """An NPY array of bytes with a header that may lie about its shape."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


@cases(
    "member",
    (b"", "x_train: not an NPY array"),
    (b"hello", "x_train: not an NPY array"),
    (b"\x93NUMPY\x09\x00" + bytes(100), "x_train: not an NPY array"),
    (b"\x93NUMPY\x02\x00" + b"\xff" * 100, "x_train: its header is not"),
    (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "x_train: its header is not"),
    (npy((10**6, 784)), "x_train: declares 784000000 bytes of data but holds only 0"),
    (npy((10**12, 784)), "x_train: declares 784000000000000 bytes of data, more than"),
    (npy((10**30, 0)), "x_train: holds nothing"),
    (npy((2, 784), bytes(784)), "declares 1568 bytes of data but holds only 784"),
    (npy((2, 784), bytes(2000)), "more data follows the 1568 bytes"),
    (npy((2, 784), bytes(10**8)), "more data follows the 1568 bytes"),
)
def test_npz_with_a_header_that_lies(tmp_path, member, words):
    assert words in complaint(npz.read, npz_with(tmp_path / "data.npz", member))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_compressed_by_something_that_shrinks_a_million_times_is_refused(tmp_path, method):
    path = npz_with(tmp_path / "data.npz", npy((5, 784), ARRAYS[0].tobytes()), method=method)
    assert "compressed in a way NPZ never is" in complaint(npz.read, path)


@pytest.mark.parametrize(
    "content",
    [b"", b"x_train", gzip.compress(b"x_train"), np.arange(5).tobytes()],
    ids=["empty", "text", "gzip", "numbers"],
)
def test_npz_that_is_no_zip(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    assert "not a sound NPZ (zip) file" in complaint(npz.read, path)


def test_npz_cut_short(tmp_path):
    path = write_npz(tmp_path / "data.npz", ARRAYS)
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a sound NPZ (zip) file" in complaint(npz.read, path)


def test_npz_with_one_bit_flipped_in_an_image_fails_its_checksum(tmp_path):
    path = write_npz(tmp_path / "data.npz", ARRAYS)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    assert "CRC" in complaint(npz.read, path)


@pytest.mark.parametrize("offset", [10**6, 2**40, 2**64 - 1], ids=["past", "far", "farthest"])
def test_npz_whose_directory_points_nowhere(tmp_path, offset):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key in npz.KEYS:
            archive.writestr(f"{key}.npy", npy((1, 784), bytes(784)))
        archive.infolist()[0].header_offset = offset
    assert "NPZ" in complaint(npz.read, path)


def test_npz_without_members_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w"):
        pass
    assert "it holds nothing" in complaint(npz.read, tmp_path / "data.npz")
