import time

import jax
import numpy as np

from benchmarks.peers_training import BATCH, DECAY, DELTA, RATE, SIZES, Fit, Work, to_float
from robust_mnist import training
from robust_mnist.bench import environment
from robust_mnist.config import TrainSettings
from robust_mnist.data import Part


def fit(work: Work) -> Fit:
    settings = TrainSettings(
        sizes=SIZES,
        activation="tanh",
        epochs=work.epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        decay=DECAY,
        delta=DELTA,
        seed=work.seed,
    )
    start = time.perf_counter()
    trained = training.train(
        settings,
        part(work.train_images, work.train_labels),
        part(work.valid_images, work.valid_labels),
    )
    seconds = time.perf_counter() - start
    logits = jax.vmap(trained.models[0])(to_float(work.test_images))
    correct = np.asarray(logits).argmax(axis=1) == work.test_labels
    # Beside its programs `train` does little but compile them, and draw the weights.
    compile_s = seconds - trained.seconds
    return Fit(trained.seconds, compile_s, correct, work.threads, environment())


def part(images: np.ndarray, labels: np.ndarray) -> Part:
    return Part(images, labels.astype(np.uint8), np.arange(len(labels)))
