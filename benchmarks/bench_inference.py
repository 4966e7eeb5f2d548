"""Inference: bytes in, logits out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_mnist.data.pixels import to_float


# Under a tenth of a millisecond a call is too short for the clock: many are timed together.
@pytest.mark.parametrize(
    ("batch", "iterations"),
    [
        pytest.param(batch, iterations, id=str(batch))
        for batch, iterations in ((1, 100), (64, 20), (1024, 2), (10_000, 1))
    ],
)
def bench_inference(benchmark, time_compiled, network, mnist, batch, iterations):
    images = mnist.test_images[:batch]

    logits = time_compiled(forward, network, images, items=batch, iterations=iterations)

    # Operation by operation. The tolerance is for devices that multiply in fewer bits.
    eager = forward(network, jnp.asarray(images))
    assert logits.shape == (batch, 10)
    np.testing.assert_allclose(logits, eager, atol=1e-2)
    benchmark.extra_info["logits"] = np.asarray(logits[:100]).tolist()


def forward(model, images):
    return jax.vmap(model)(to_float(images))
