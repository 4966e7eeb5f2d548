import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from benchmarks.peers_training import BATCH, DECAY, DELTA, RATE, SIZES, Fit, Work, to_float


class Network(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        glorot = nn.initializers.glorot_normal()
        for width in SIZES[1:-1]:
            x = nn.tanh(nn.Dense(width, kernel_init=glorot)(x))
        return nn.Dense(SIZES[-1], kernel_init=glorot)(x)


@jax.jit
def step(state: TrainState, images: jax.Array, labels: jax.Array, batch: jax.Array) -> TrainState:
    def loss(params: dict) -> jax.Array:
        logits = state.apply_fn(params, images[batch])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

    return state.apply_gradients(grads=jax.grad(loss)(state.params))


def fit(work: Work) -> Fit:
    begun = time.perf_counter()
    images = jnp.asarray(to_float(work.train_images))
    labels = jnp.asarray(work.train_labels, jnp.int32)
    model = Network()
    fresh = TrainState.create(
        apply_fn=model.apply,
        params=model.init(jax.random.key(work.seed), images[:1]),
        tx=optax.rmsprop(RATE, decay=DECAY, eps=DELTA, eps_in_sqrt=True, centered=False),
    )
    rng = np.random.default_rng(work.seed)

    def train(epochs: int) -> tuple[TrainState, float]:
        start, state = time.perf_counter(), fresh
        for _ in range(epochs):
            for batch in rng.permutation(len(labels)).reshape(-1, BATCH):
                state = step(state, images, labels, batch)
        return jax.block_until_ready(state), time.perf_counter() - start

    train(1)
    compile_s = time.perf_counter() - begun
    state, fit_s = train(work.epochs)
    logits = model.apply(state.params, to_float(work.test_images))
    correct = np.asarray(logits).argmax(axis=1) == work.test_labels
    return Fit(fit_s, compile_s, correct, work.threads)
