"""Settings and fixtures for every test.

Nothing here imports robust_mnist: the hook that checks shapes rewrites the package while it is
imported, so it has to be in place first.
"""

import gc
import os
import sys
import zlib

import pytest


# All of this has to stand in the environment before anything imports JAX or matplotlib, and holds
# in the processes that tests start as well. A compilation cache would let one run change what the
# next one compiles; silent promotions hide mistakes; a display is not to be relied on.
for _name in [name for name in os.environ if name.startswith("JAX_") and "CACHE" in name]:
    del os.environ[_name]
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "Agg"


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Let go of what the tests of a file have compiled.

    On a CPU each program maps a few pieces of memory, of which Linux grants a process 65,530. The
    whole suite needs more, and XLA ends with a segmentation fault where there are none left.
    """
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


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
