import time

import keras
import numpy as np

from benchmarks.peers_training import BATCH, DECAY, DELTA, RATE, SIZES, Fit, Work, to_float


def fit(work: Work) -> Fit:
    begun = time.perf_counter()
    assert keras.backend.backend() == "jax"
    keras.utils.set_random_seed(work.seed)
    images, labels = to_float(work.train_images), work.train_labels
    model = network()

    def train(epochs: int) -> float:
        start = time.perf_counter()
        model.fit(images, labels, batch_size=BATCH, epochs=epochs, verbose=0)
        return time.perf_counter() - start

    # The compiled step belongs to the model, so it is trained briefly and taken back.
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    untrained = [variable.numpy() for variable in variables]
    train(1)
    for variable, value in zip(variables, untrained, strict=True):
        variable.assign(value)
    compile_s = time.perf_counter() - begun
    fit_s = train(work.epochs)
    logits = model.predict(to_float(work.test_images), verbose=0)
    correct = np.asarray(logits).argmax(axis=1) == work.test_labels
    return Fit(fit_s, compile_s, correct, work.threads)


def network() -> keras.Model:
    dense = lambda width, activation: keras.layers.Dense(
        width, activation, kernel_initializer="glorot_normal"
    )
    hidden = [dense(width, "tanh") for width in SIZES[1:-1]]
    model = keras.Sequential([keras.Input(SIZES[:1]), *hidden, dense(SIZES[-1], None)])
    model.compile(
        optimizer=keras.optimizers.RMSprop(RATE, rho=DECAY, epsilon=DELTA, centered=False),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model
