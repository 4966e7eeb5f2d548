"""What the long tests need from outside, and by what name it is missing."""

import os
from pathlib import Path

import pytest


VARIABLE = "ROBUST_MNIST_NETWORKS"
FOLDER = Path(__file__).resolve().parent


def pytest_generate_tests(metafunc):
    """Run a test that asks for a `network` once for each file in the folder."""
    if "network" not in metafunc.fixturenames:
        return
    folder = os.environ.get(VARIABLE)
    files = sorted(Path(folder).glob("*.npz")) if folder else []
    if files:
        metafunc.parametrize("network", files, indirect=True, ids=lambda path: path.stem)
        return
    why = f"{VARIABLE}={folder} holds no networks" if folder else f"{VARIABLE} names no folder"
    missing = pytest.param(None, marks=pytest.mark.skip(reason=why), id="missing")
    metafunc.parametrize("network", [missing], indirect=True)


@pytest.fixture
def network(request):
    """One of the trained networks."""
    from benchmarks.peers_attacks import networks

    return networks.read(request.param)


@pytest.fixture(scope="session")
def first_images():
    """The first 1,000 test images of MNIST."""
    import numpy as np

    from robust_mnist import data

    return data.split(data.load("mnist"), "lab").test.take(np.arange(1000))
