import time
import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info

from benchmarks.peers_training import BATCH, DELTA, RATE, SIZES, Fit, Work, to_float


def fit(work: Work) -> Fit:
    begun = time.perf_counter()
    images = to_float(work.train_images)
    model = MLPClassifier(
        SIZES[1:-1],
        activation="tanh",
        solver="adam",
        alpha=0.0,
        batch_size=BATCH,
        learning_rate_init=RATE,
        epsilon=DELTA,
        max_iter=work.epochs,
        tol=0.0,
        n_iter_no_change=work.epochs,
        random_state=work.seed,
    )
    start = time.perf_counter()
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        model.fit(images, work.train_labels)
    fit_s, compile_s = time.perf_counter() - start, start - begun
    assert model.n_iter_ == work.epochs
    correct = model.predict(to_float(work.test_images)) == work.test_labels
    threads = max(pool["num_threads"] for pool in threadpool_info())
    return Fit(fit_s, compile_s, correct, threads)
