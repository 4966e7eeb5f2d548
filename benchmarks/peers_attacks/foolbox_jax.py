from collections.abc import Callable

import foolbox
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers_attacks import Count, Prepared, Work, foolbox_attacks
from robust_mnist.clock import stopwatch


ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def prepare(work: Work) -> Prepared:
    count = Count()
    model = foolbox.JAXModel(network(work, count), bounds=(0, 1))
    images, labels = jnp.asarray(work.pixels), jnp.asarray(work.labels, jnp.int32)
    named = foolbox_attacks.attacks(model, jnp.stack)
    return Prepared(
        {
            name: lambda at, attack=attack: np.asarray(attack(images[at], labels[at]))
            for name, attack in named.items()
        },
        count,
        stopwatch,
        facts={"threads": work.threads},
    )


def network(work: Work, count: Count) -> Callable[[jax.Array], jax.Array]:
    layers = [
        (jnp.asarray(w.T), jnp.asarray(b)) for w, b in zip(work.weights, work.biases, strict=True)
    ]
    activation = ACTIVATIONS[work.activation]

    @jax.jit
    def logits(images: jax.Array) -> jax.Array:
        for weight, bias in layers[:-1]:
            images = activation(images @ weight + bias)
        weight, bias = layers[-1]
        return images @ weight + bias

    def counted(images: jax.Array) -> jax.Array:
        count.forward += len(images)
        # Attacks run step by step, so that only what is being differentiated is traced here.
        count.backward += len(images) if isinstance(images, jax.core.Tracer) else 0
        return logits(images)

    return counted
