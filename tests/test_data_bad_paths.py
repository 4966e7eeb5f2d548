"""Paths and names that lead to no data end in one line that says what to give instead."""

import io
import os
import pathlib

import pytest
from data_files import complaint, csv_bytes, some_arrays, write, write_idx

from robust_mnist.data import idx, lab_csv, load, npz


ARRAYS = some_arrays()
ROWS = csv_bytes(*ARRAYS[:2])


def test_an_empty_folder(tmp_path):
    message = complaint(load, tmp_path)
    assert "holds no IDX files and no *train*.csv; give a folder of the four IDX files" in message


def test_a_folder_with_a_training_csv_only(tmp_path):
    write(tmp_path / "train.csv", ROWS)
    assert "no *test*.csv" in complaint(load, tmp_path)


def test_a_folder_with_several_training_csvs_names_them(tmp_path):
    for name in ("train_a.csv", "train_b.csv", "test.csv"):
        write(tmp_path / name, ROWS)
    assert "several files match *train*.csv (train_a.csv, train_b.csv)" in complaint(load, tmp_path)


def test_a_single_file_that_is_no_npz(tmp_path):
    path = write(tmp_path / "train.csv", ROWS)
    assert "one file alone must be NPZ; give" in complaint(load, path)


@pytest.mark.parametrize("which", [0, 1])
def test_a_pair_of_which_one_is_a_folder(tmp_path, which):
    pair = [write(tmp_path / "train.csv", ROWS)] * 2
    pair[which] = tmp_path
    assert complaint(load, pair) == (
        f"{tmp_path}: expected a file, but this is a folder; name the file itself"
    )


@pytest.mark.parametrize("which", [0, 1])
def test_a_pair_of_which_one_is_missing(tmp_path, which):
    pair = [write(tmp_path / "train.csv", ROWS)] * 2
    pair[which] = tmp_path / "gone.csv"
    assert complaint(load, pair).startswith(f"{tmp_path / 'gone.csv'}: no such file; ")


def test_a_folder_that_ends_in_npz(tmp_path):
    (tmp_path / "data.npz").mkdir()
    assert "holds no IDX files" in complaint(load, tmp_path / "data.npz")


@pytest.mark.parametrize("source", [[], ["mnist", "kmnist", "mnist"]])
def test_neither_one_nor_two_sources(source):
    assert "two CSV files" in complaint(load, source)


@pytest.mark.parametrize("source", [["mnist", "kmnist"], ["mnist", "test.csv"], ["mnist,kmnist"]])
def test_a_name_among_several_sources_stands_alone(source):
    message = complaint(load, source)
    assert message.startswith(" ".join(source).replace(",", " "))
    assert "stands alone; give one name" in message


def test_two_files_parted_by_a_comma_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.csv", "test.csv"):
        write(tmp_path / name, ROWS)
    assert complaint(load, "train.csv,test.csv").endswith("; part two files by a space")


def test_a_folder_whose_name_holds_a_comma_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_idx(tmp_path / "mnist,kmnist", ARRAYS)
    assert load("mnist,kmnist").name == "mnist,kmnist"


@pytest.mark.parametrize("name", ["fashon-mnist", "Fashion-MNIST"])
def test_an_unknown_name_gets_the_list_and_a_suggestion(name):
    assert complaint(load, name) == (
        f"unknown dataset {name!r}: neither a path that exists nor one of "
        "mnist, fashion-mnist, kmnist; did you mean 'fashion-mnist'?"
    )


@pytest.mark.parametrize(
    "name", ["", "no/such/path", "a\0b", "a\nb", pytest.param("x" * 5000, id="long")]
)
def test_a_name_that_cannot_be_a_path(name):
    assert complaint(load, name).startswith("unknown dataset")


@pytest.mark.parametrize("name", ["a\0b", pytest.param("x" * 5000, id="long")])
def test_a_pair_of_names_that_cannot_be_paths(name):
    assert "cannot be read" in complaint(load, [name, name])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_before_it_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    assert "not a regular file" in complaint(load, tmp_path / "pipe.npz")


@pytest.mark.parametrize(
    "read", [idx.read_images, lab_csv.read, npz.read], ids=["idx", "csv", "npz"]
)
def test_a_file_without_permission(tmp_path, monkeypatch, read):
    """Refused by a stand-in for `open`, since administrators may read everything."""

    def refuse(file, *_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(file))

    path = write(tmp_path / "data", ROWS)
    monkeypatch.setattr(io, "open", refuse)
    message = complaint(read, path)
    assert message.startswith(str(path))
    assert "Permission denied" in message


def test_a_folder_without_permission(tmp_path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    assert "cannot be listed (Permission denied)" in complaint(load, tmp_path)
