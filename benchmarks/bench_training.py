"""Training without figures and files: the compiled steps between two records of the history.

A call trains for whole epochs and measures once, as training does; the more networks, the fewer
epochs, so that a round takes a second or two.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from robust_mnist import metrics, training
from robust_mnist.bench import matmul_flops
from robust_mnist.config import TrainSettings
from robust_mnist.data.pixels import to_float


LAB, LARGE = (784, 50, 50, 10), (784, 512, 512, 10)


@pytest.mark.parametrize(
    ("sizes", "networks", "shared", "precision", "epochs"),
    [
        pytest.param(LAB, 1, False, "float32", 10, id="1-network"),
        pytest.param(LAB, 1, False, "bf16", 10, id="1-network-bf16"),
        pytest.param(LAB, 16, False, "float32", 5, id="16-networks-independent"),
        pytest.param(LAB, 16, True, "float32", 5, id="16-networks-shared"),
        pytest.param(LAB, 16, True, "bf16", 5, id="16-networks-shared-bf16"),
        pytest.param(LAB, 128, False, "float32", 1, id="128-networks-independent"),
        pytest.param(LAB, 128, True, "float32", 1, id="128-networks-shared"),
        pytest.param(LAB, 128, True, "bf16", 1, id="128-networks-shared-bf16"),
        pytest.param(LAB, 1024, True, "float32", 1, id="1024-networks-shared"),
        pytest.param(LAB, 1024, True, "bf16", 1, id="1024-networks-shared-bf16"),
        pytest.param(LARGE, 1, False, "float32", 2, id="784-512-512-10"),
        pytest.param(LARGE, 1, False, "bf16", 2, id="784-512-512-10-bf16"),
    ],
)
def bench_training(time_compiled, monkeypatch, split, sizes, networks, shared, precision, epochs):
    if networks == 1024 and jax.default_backend() == "cpu":
        pytest.skip("for accelerators: minutes on a CPU, which 128 networks keep as busy")
    settings = TrainSettings(
        sizes=sizes, seeds=networks, shared_batches=shared, precision=precision
    )
    images = training.Images(
        train=jnp.asarray(split.train.images),
        train_labels=jnp.asarray(split.train.labels, jnp.int32),
        valid=jnp.asarray(split.valid.images),
        valid_labels=jnp.asarray(split.valid.labels, jnp.int32),
    )
    start = training.initialise(settings)
    keys = jax.vmap(jax.random.key)(jnp.arange(networks))
    steps = epochs * (len(split.train.labels) // settings.batch_size)

    work = (training.advance(settings, epochs), start, keys, jnp.asarray(0, jnp.int32), images)
    with monkeypatch.context() as patched:
        # Rows that only fill a tile are no work done.
        patched.setattr(training, "TILES", {})
        flops = matmul_flops(eqx.filter_make_jaxpr(work[0])(*work[1:])[0])

    _, measured = time_compiled(
        *work,
        items=steps * settings.batch_size * networks, rounds=10 if networks == 1 else 5,
        flops=flops,
        dtype="bfloat16" if precision == "bf16" else "float32",
    )  # fmt: skip

    before = losses(start.model, to_float(images.train), images.train_labels)
    after = measured["train_cross_entropy"]
    assert jnp.all(jnp.isfinite(after))
    assert jnp.all(after < 0.7 * before)
    # Each network has weights of its own; one trained and copied would be sixteen times as fast.
    # Of a thousand losses a few are equal by chance.
    assert len(set(after.tolist())) > 0.99 * networks


def bench_fit(benchmark, time_call, split):
    """The lab's training from end to end: 500 epochs, 50 records, without files."""
    settings = TrainSettings()
    images = settings.epochs * len(split.train.labels)

    fit = lambda: training.train(settings, split.train, split.valid)

    trained = time_call(fit, items=images, rounds=3, once=True)

    pixels, labels = to_float(split.test.images), jnp.asarray(split.test.labels, jnp.int32)
    accuracy = float(metrics.evaluate(trained.models[0], pixels, labels)["accuracy"])
    assert accuracy > 0.94
    benchmark.extra_info["accuracy"] = accuracy


@eqx.filter_jit
def losses(networks, images, labels):
    """Mean cross-entropy of every network."""
    arrays, rest = eqx.partition(networks, eqx.is_array)
    one = lambda part: metrics.evaluate(eqx.combine(part, rest), images, labels)
    return jax.vmap(one)(arrays)["cross_entropy"]
