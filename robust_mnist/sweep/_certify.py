"""Certificates and a last attack at one radius, on the images that are still open there."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from robust_mnist.certify import CERTIFIERS
from robust_mnist.clock import stopwatch
from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.records import Radii
from robust_mnist.sweep._bounds import Bounds, run_cell
from robust_mnist.sweep._proofs import certify_batch
from robust_mnist.sweep._sweep import Task, _Network, _write


class Tried(NamedTuple):
    """What one method settled.

    Attributes:
        method: Its name.
        images: Images it ran on.
        settled: Those it proved right, or broke.
        seconds: What it took, compilation included.
    """

    method: str
    images: int
    settled: int
    seconds: float


def open_at(bounds: Bounds, eps: float) -> Bool[np.ndarray, " images"]:
    """Images that are neither certified at `eps` nor broken within it."""
    return (bounds.radii.lower < eps) & (bounds.radii.upper > eps)


def settle_at(
    model: MLP,
    part: Part,
    bounds: Bounds,
    methods: Sequence[str],
    eps: float,
    key: PRNGKeyArray,
) -> Iterator[Tried]:
    """Run methods at one radius, each on what those before it left open, cheap ones first.

    Args:
        model: The network.
        part: All images.
        bounds: What is known of them; what is found is merged into it.
        methods: Names of certifiers and attacks of the norm of `bounds`.
        eps: Radius, above 0.
        key: Randomness of the attacks.

    Yields:
        What each method did; those that find nothing open are left out.

    Raises:
        Contradiction: A certificate and an attack exclude each other.
    """
    for method in methods:
        places = np.flatnonzero(open_at(bounds, eps))
        if not places.size:
            return
        with stopwatch() as elapsed:
            if method in CERTIFIERS:
                some = part.take(places)
                proof = np.full(len(part.labels), -np.inf)
                holds = certify_batch(CERTIFIERS[method], model, some.images, some.labels, eps=eps)
                proof[places[holds]] = eps
                bounds.radii = bounds.radii.merge(Radii.certified(bounds.radii.norm, method, proof))
            else:
                cell = run_cell(model, part, bounds, method, eps, key, at=places)
                bounds.merge(method, cell, credit=False)
        settled = places.size - int(np.sum(open_at(bounds, eps)))
        yield Tried(method, int(places.size), settled, elapsed.seconds + elapsed.compile_seconds)


def settle_run(
    task: Task, models: dict[int, MLP], norm: str, methods: Sequence[str], eps: float
) -> Iterator[tuple[int, Tried | Bounds]]:
    """The same for every network of a run; what was found is added to the run's files.

    Args:
        task: The run, with a plan that names `norm` and `eps`.
        models: One network per training seed.
        norm: Norm of the radius.
        methods: Names of certifiers and attacks.
        eps: Radius.

    Yields:
        Each network's seed with what a method did, and at last with all that is known of it.
    """
    networks = [
        _Network(task, seed, model, None if len(models) == 1 else index)
        for index, (seed, model) in enumerate(models.items())
    ]
    for network, model in zip(networks, models.values(), strict=True):
        bounds = network.start(norm)
        for tried in settle_at(model, task.part, bounds, methods, eps, network.key):
            yield network.seed, tried
        network.keep(bounds)
        yield network.seed, bounds
    _write(task.folder, networks)
