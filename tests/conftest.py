"""Settings and fixtures for every test.

Nothing here imports robust_mnist: the hook that checks shapes rewrites the package while it is
imported, so it has to be in place first.
"""

import contextlib
import dataclasses
import gc
import os
import sys
import tempfile
import zlib
from pathlib import Path

import pytest


# All of this has to stand in the environment before anything imports JAX or matplotlib, and holds
# in the processes that tests start as well. A compilation cache would let one run change what the
# next one compiles; silent promotions hide mistakes; a display is not to be relied on.
for _name in [name for name in os.environ if name.startswith("JAX_") and "CACHE" in name]:
    del os.environ[_name]
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "Agg"
# Most of the time goes into compiling, a third of it into what LLVM optimises; `oracles` runs the
# programs that users run.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# What commands keep between processes is kept for these tests alone, workers included.
_CACHE = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="robust-mnist-tests-")
    os.environ["ROBUST_MNIST_CACHE"] = _CACHE.name


# A complete run in a second or two: a tiny network, few images, one eps.
TINY = [
    "--sizes", "784,8,10", "--epochs", "2", "--record-every", "1", "--batch-size", "20",
]  # fmt: skip
TINY_SWEEP = ["--norm", "linf", "--eps", "0.05", "--preset", "grid"]


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Let go of what the tests of a file have compiled, before there is no room for more.

    On a CPU each program maps a few pieces of memory, of which Linux grants a process 65,530. The
    whole suite needs more, and XLA ends with a segmentation fault where there are none left.
    """
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture
def undrawn(monkeypatch):
    """Pages with a single figure, for tests of what else lies in a run's folder."""
    from robust_mnist import figures

    charts = {
        name: chart if name == "step_size" else dataclasses.replace(chart, draw=lambda _: None)
        for name, chart in figures.FIGURES.items()
    }
    monkeypatch.setattr(figures, "FIGURES", charts)


@pytest.fixture
def getkey(request):
    """Return a function that gives a new JAX key at each call, the same ones in every run.

    The first key comes from the id of the test, so no test depends on the order of the others.
    """
    import jax

    key = jax.random.key(zlib.crc32(request.node.nodeid.encode()))

    def getkey():
        nonlocal key
        key, new = jax.random.split(key)
        return new

    return getkey


@pytest.fixture(scope="session")
def small_npz(tmp_path_factory):
    """A hundred training and thirty test images of MNIST, in Keras' layout."""
    import numpy as np

    from robust_mnist import data

    mnist = data.load("mnist")
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(
        path,
        x_train=mnist.train_images[:110].reshape(-1, 28, 28), y_train=mnist.train_labels[:110],
        x_test=mnist.test_images[:30].reshape(-1, 28, 28), y_test=mnist.test_labels[:30],
    )  # fmt: skip
    return path


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder; exit code, stdout, stderr."""
    from robust_mnist import cli

    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def finished(small_npz, tmp_path_factory):
    """A finished run that tests only read, or copy before they change it.

    The workers share the one that is done first.
    """
    from robust_mnist import cli

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    if not (shared / "tiny").is_dir():
        out = tmp_path_factory.mktemp("runs") / "tiny"
        code = cli.main(
            ["run", "--data", str(small_npz), *TINY, *TINY_SWEEP, "--out", str(out), "--quiet"]
        )
        assert code == 0
        with contextlib.suppress(OSError):  # another worker was faster
            out.rename(shared / "tiny")
    return shared / "tiny"
