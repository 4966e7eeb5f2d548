"""Whatever is in a file, reading it ends in arrays or in an `InputError`, and never fills memory.

Files are of a few kilobytes, so anything that takes 100 MB took it on the word of a header.
"""

import gzip
import io
import os
import pathlib
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from data_files import check_line, csv_bytes, idx_bytes, some_arrays, write_npz
from hypothesis import HealthCheck, given, settings, strategies as st

from robust_mnist.data import idx, lab_csv, npz
from robust_mnist.errors import InputError


LIMIT = 100e6  # bytes
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "30"))  # for each test; more for an idle hour
ARRAYS = some_arrays(2, 1)
READERS = {
    "images": (idx.read_images, idx_bytes(ARRAYS[0].reshape(-1, 28, 28))),
    "labels": (idx.read_labels, idx_bytes(ARRAYS[1])),
    "images.gz": (idx.read_images, gzip.compress(idx_bytes(np.zeros((2, 28, 28), np.uint8)))),
    "train.csv": (lab_csv.read, csv_bytes(ARRAYS[0] % 10, ARRAYS[1])),
    "train.csv.gz": (lab_csv.read, gzip.compress(csv_bytes(ARRAYS[0] % 10, ARRAYS[1]))),
}
every_reader = pytest.mark.parametrize("name", [*READERS, "stored.npz", "packed.npz"])
many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def reader_of(name):
    if name in READERS:
        return READERS[name]
    save = np.savez if name == "stored.npz" else np.savez_compressed
    stream = io.BytesIO()
    save(stream, **dict(zip(npz.KEYS, ARRAYS, strict=True)))
    return npz.read, stream.getvalue()


def read_anything(read, path: pathlib.Path, content: bytes) -> bool:
    """Read bytes as a file; whether they were taken for data."""
    path.write_bytes(content)
    message = None
    tracemalloc.start()
    try:
        read(path)
    except InputError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LIMIT
    if message is not None:
        check_line(message, path)
    return message is None


@every_reader
def test_sound_files_are_taken(name, folder):
    """Otherwise the mutations below would start from rubbish."""
    read, content = reader_of(name)
    assert read_anything(read, folder / name, content)


@every_reader
@many
@given(content=st.binary(max_size=1024))
def test_random_bytes(name, folder, content):
    read, _ = reader_of(name)
    assert not read_anything(read, folder / name, content)


@every_reader
@many
@given(data=st.data())
def test_sound_files_with_some_bytes_changed(name, folder, data):
    """Half of the changes fall on the first or the last hundred bytes, where the structure is."""
    read, sound = reader_of(name)
    content = bytearray(sound)
    size = len(content)
    anywhere = st.integers(0, size - 1)
    edges = st.integers(0, 99).map(lambda k: k % size) | st.integers(1, 100).map(
        lambda k: -k % size
    )
    for place in data.draw(st.lists(anywhere | edges, min_size=1, max_size=8)):
        content[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    read_anything(read, folder / name, bytes(content))


@every_reader
@many
@given(data=st.data())
def test_sound_files_with_a_piece_cut_or_put_in(name, folder, data):
    read, sound = reader_of(name)
    start, end = (data.draw(st.integers(0, len(sound))) for _ in range(2))
    read_anything(
        read, folder / name, sound[:start] + data.draw(st.binary(max_size=64)) + sound[end:]
    )


@many
@given(
    code=st.sampled_from([0x08, 0x0D]),
    sizes=st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([1, 28, 784]), max_size=4),
    body=st.binary(max_size=900),
    packed=st.booleans(),
)
def test_idx_headers_that_lie(folder, code, sizes, body, packed):
    content = bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + body
    path = folder / ("lie.gz" if packed else "lie")
    for read in (idx.read_images, idx.read_labels):
        read_anything(read, path, gzip.compress(content) if packed else content)


CELLS = st.sampled_from(
    sorted(
        {"0", "7", "255", "256", "-1", "+3", "-0", "6.0", "6.5", ".", "1e2", "1e999", "9" * 30}
        | {"nan", "inf", "", " ", "x", "\0", "1_0", "0x1", "'", '"7"', "#", "\u0663", "1;2"}
    )
)


@many
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS, st.integers(781, 783)), min_size=1, max_size=4),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n", ""]),
)
def test_csv_cells_of_all_kinds(folder, rows, end):
    lines = [",".join([label, first, *["0"] * fill, last]) for label, first, last, fill in rows]
    read_anything(lab_csv.read, folder / "cells.csv", end.join(lines).encode())


@many
@given(
    descr=st.sampled_from(["|u1", "<f8", "<i2", "|O", "<U9", "|V9", "<f16", "|b1", "<M8[s]"]),
    fortran=st.booleans(),
    shape=st.lists(st.sampled_from([0, 1, 2, 28, 784, 2**31, 2**62, 2**70]), max_size=5).map(tuple),
    body=st.binary(max_size=900),
    count=st.integers(0, 2**32 - 2),
)
def test_npz_headers_that_lie(folder, descr, fortran, shape, body, count):
    """Both headers lie: that of the array about its shape, that of the zip about its size."""
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_2_0(stream, header)
    path = folder / "lie.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in npz.KEYS:
            archive.writestr(f"{key}.npy", stream.getvalue() + body)
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", count)
    for each in (path.read_bytes(), bytes(content)):
        read_anything(npz.read, path, each)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_header_that_promises_most_of_a_gigabyte_takes_no_memory(folder, ending):
    header = struct.pack(">4B3I", 0, 0, 8, 3, 10**6, 28, 28)
    content = gzip.compress(header) if ending else header
    assert not read_anything(idx.read_images, folder / f"promise{ending}", content)


@pytest.mark.parametrize("bomb", ["images", "csv", "npz"])
def test_decompression_bombs_are_stopped(folder, bomb):
    """Zeros shrink a thousand times; reading stops where the header says it should."""
    zeros = b"".join([gzip.compress(bytes(2**20))] * 256)
    if bomb == "images":
        small = gzip.compress(idx_bytes(np.zeros((1, 28, 28), np.uint8)))
        assert not read_anything(idx.read_images, folder / "bomb.gz", small + zeros)
    elif bomb == "csv":
        assert not read_anything(lab_csv.read, folder / "bomb.csv.gz", zeros)
    else:
        path = write_npz(folder / "bomb.npz", ARRAYS, x_train=None)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x_train.npy", _npy_of_one_image() + bytes(2**28))
        assert not read_anything(npz.read, path, path.read_bytes())


def _npy_of_one_image() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 784), np.uint8))
    return stream.getvalue()
