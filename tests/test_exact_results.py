"""The published results of `close`: what can be checked without the networks they are about.

`nox -s oracles` proves and replays them on the networks themselves.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from robust_mnist import load
from robust_mnist.data.pixels import to_float
from robust_mnist.records import Exact
from robust_mnist.sweep import sizes


FOLDER = Path(__file__).parent.parent / "reports" / "exact"
FILES = sorted(FOLDER.glob("*.npz"))
every_file = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def counts(exact):
    certified = int(np.sum(exact.radii.lower >= exact.eps))
    attacked = int(np.sum(exact.radii.upper <= exact.eps))
    return certified, attacked, exact.radii.lower.size - certified - attacked


@every_file
def test_the_table_tells_what_the_file_holds(path):
    exact = Exact.read(path)
    certified, attacked, left = counts(exact)
    [row] = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in (FOLDER / "README.md").read_text().splitlines()
        if f"({path.name})" in line
    ]
    assert row[1:6] == [
        exact.activation, f"{exact.radii.norm} {exact.eps:g}", str(certified), str(attacked),
        str(left),
    ]  # fmt: skip
    share = [certified / 100, (certified + left) / 100]
    assert [float(number) for number in re.findall(r"[\d.]+", row[6])] == sorted({*share})
    assert path.stat().st_size < 2_000_000


def test_every_row_of_the_table_has_its_file():
    named = re.findall(r"\((\S+\.npz)\)", (FOLDER / "README.md").read_text())
    assert sorted(named) == [path.name for path in FILES]
    assert FILES


@every_file
def test_every_witness_is_an_image_within_its_radius(path):
    exact, mnist = Exact.read(path), load("mnist")
    assert exact.data == mnist.sha256
    assert np.all(exact.radii.lower < exact.radii.upper)
    broken = np.flatnonzero(np.isfinite(exact.radii.upper) & (exact.radii.upper > 0))
    assert np.array_equal(exact.at, broken)  # who is wrong when clean needs no witness
    assert np.all((exact.witness >= 0) & (exact.witness <= 1))
    clean = to_float(mnist.test_images[exact.at])
    found = sizes(exact.radii.norm, clean, exact.witness)
    assert np.all(found > 0)
    assert np.all(found <= exact.radii.upper[exact.at])
