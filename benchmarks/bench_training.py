"""Training without figures and files: the compiled steps between two records of the history."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from robust_mnist import metrics, training
from robust_mnist.config import TrainSettings
from robust_mnist.data.pixels import to_float


@pytest.mark.parametrize(
    ("networks", "shared"),
    [
        pytest.param(1, False, id="1-network"),
        pytest.param(16, False, id="16-networks-independent"),
        pytest.param(16, True, id="16-networks-shared"),
    ],
)
def bench_training(time_compiled, split, networks, shared):
    settings = TrainSettings(seeds=networks, shared_batches=shared)
    epochs = settings.record_every
    images = training.Images(
        train=jnp.asarray(split.train.images),
        train_labels=jnp.asarray(split.train.labels, jnp.int32),
        valid=jnp.asarray(split.valid.images),
        valid_labels=jnp.asarray(split.valid.labels, jnp.int32),
    )
    start = training.initialise(settings)
    keys = jax.vmap(jax.random.key)(jnp.arange(networks))
    steps = epochs * (len(split.train.labels) // settings.batch_size)

    _, measured = time_compiled(
        training.advance(settings, epochs), start, keys, jnp.asarray(0, jnp.int32), images,
        items=steps * settings.batch_size * networks, rounds=10,
    )  # fmt: skip

    before = losses(start.model, to_float(images.train), images.train_labels)
    after = measured["train_cross_entropy"]
    assert jnp.all(jnp.isfinite(after))
    assert jnp.all(after < before / 2)
    # Each network has weights of its own; one trained and copied would be sixteen times as fast.
    assert len(set(after.tolist())) == networks


@eqx.filter_jit
def losses(networks, images, labels):
    """Mean cross-entropy of every network."""
    arrays, rest = eqx.partition(networks, eqx.is_array)
    one = lambda part: metrics.evaluate(eqx.combine(part, rest), images, labels)
    return jax.vmap(one)(arrays)["cross_entropy"]
