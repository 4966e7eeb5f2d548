"""Certifiers: every one in the registry, in float64 and end to end, as a sweep calls them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_mnist.bench import matmul_flops
from robust_mnist.certify import CERTIFIERS
from robust_mnist.config import EPS
from robust_mnist.data.pixels import to_float
from robust_mnist.sweep import certify_batch


# Images by operations for one: the whole test set where that takes a second, else a part of it.
COUNTS = ((999_999, 10_000), (1e8, 1000), (np.inf, 100))


@pytest.mark.parametrize("name", CERTIFIERS)
def bench_certifier(time_call, network, mnist, name):
    certifier, images, labels = CERTIFIERS[name], mnist.test_images, mnist.test_labels
    if network.activation not in certifier.activations:
        pytest.skip(f"{name} does not know {network.activation}")
    small = EPS[certifier.ball.name][1]

    one = jax.make_jaxpr(lambda x, y, eps: certifier(network, x, y, eps=eps))
    flops = matmul_flops(one(to_float(images[0]), jnp.int32(labels[0]), jnp.float32(small)))
    count = next(n for limit, n in COUNTS if (flops or 1e6) <= limit)
    images, labels = images[:count], labels[:count]
    certify = lambda eps: certify_batch(certifier, network, images, labels, eps=eps)
    proven = time_call(
        lambda: certify(small),
        items=len(labels), flops=flops and flops * len(labels), rounds=5,
    )  # fmt: skip

    # Some at a small radius, fewer at a larger one, none in the ball that holds every image.
    assert proven.any()
    assert not (certify(2 * small) & ~proven).any()
    assert not certify(784.0).any()
