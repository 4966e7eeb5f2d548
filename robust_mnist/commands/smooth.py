"""Certify the smoothed versions of a run's networks."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from robust_mnist import config, sweep as sweeping
from robust_mnist.certify import Gaussian
from robust_mnist.clock import stopwatch
from robust_mnist.commands._opening import settings_of
from robust_mnist.commands._result import Result, columns
from robust_mnist.commands.certify import check_network
from robust_mnist.commands.pipeline import Job
from robust_mnist.config import EPS
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.records import Row, RunFolder, Smoothed, attack_seed, table


def smooth(command: config.Smooth) -> Result:
    """Draw noisy copies of some test images, and say how far their majority cannot be changed."""
    folder = RunFolder(Path(command.run))
    job = Job(settings_of(folder), folder, command.output)
    part = _spread(job.split.test, command.images)
    models = {
        seed: check_network(network, str(folder.model(seed)), job.split.test)
        for seed, network in job.train().items()
    }
    key = jax.random.key(attack_seed(folder.info()))
    found: dict[int, tuple[Smoothed, float]] = {}
    total = len(models) * command.images
    with job.console.progress("smooth", total) as update:
        for number, (seed, model) in enumerate(models.items()):
            before = number * command.images
            tell = lambda done, before=before, seed=seed: update(before + done, f"seed {seed}")
            with stopwatch() as elapsed:
                smoothed = sweeping.smooth(
                    Gaussian(command.sigma), model, part, samples=command.samples, key=key,
                    select=command.select, alpha=command.alpha, done=tell,
                )  # fmt: skip
            found[seed] = smoothed, elapsed.seconds
    folder.add_rows(table(row for seed, one in found.items() for row in _rows(job, seed, *one)))
    return _told(found)


def _spread(part: Part, count: int) -> Part:
    """That many images, evenly spread: the data may be in some order."""
    images = len(part.labels)
    if count > images:
        raise InputError(f"--images must be at most the {images} test images, got {count}")
    return part.take(np.arange(count) * images // count)


def _radii(smoothed: Smoothed) -> list[float]:
    """Radii of the L2 curves that so many draws could certify; 0 always."""
    return [eps for eps in EPS["l2"] if eps <= smoothed.largest]


def _rows(job: Job, seed: int, smoothed: Smoothed, seconds: float) -> list[Row]:
    method = f"gaussian-{smoothed.sigma:g}-n{smoothed.samples}-alpha{smoothed.alpha:g}"
    return [
        Row(
            split="test", seed=seed, norm="l2", eps=eps, step=None, method=method,
            kind="smoothed", images=len(smoothed.labels),
            correct=int(np.sum(smoothed.correct >= eps)), seconds=seconds, **job.about,
        )
        for eps in _radii(smoothed)
    ]  # fmt: skip


def _told(found: dict[int, tuple[Smoothed, float]]) -> Result:
    lines: list[str] = []
    facts: list[dict[str, Any]] = []
    for seed, (smoothed, seconds) in found.items():
        radii = _radii(smoothed)
        shares = smoothed.certified_accuracy(radii).tolist()
        answers, images = smoothed.answers(), len(smoothed.labels)
        right, unsure = int(np.sum(answers == smoothed.labels)), int(np.sum(answers < 0))
        rows = [(f"{eps:g}", f"{share:.1%}") for eps, share in zip(radii, shares, strict=True)]
        lines += [
            columns([("l2 radius", "certified"), *rows]),
            "",
            (
                f"{f'seed {seed}, ' if len(found) > 1 else ''}smoothed with sigma "
                f"{smoothed.sigma:g}: average certified radius {smoothed.average_radius:.3f}, "
                f"{smoothed.abstained} abstentions, of {images} images with {smoothed.samples} "
                f"draws each; {right / images:.1%} answered rightly without a radius, with "
                f"{unsure} abstentions; {seconds:.1f} s"
            ),
            (
                f"Each certificate is wrong with probability {smoothed.alpha:g} at most, and is "
                "about the smoothed classifier, never about the network."
            ),
            "",
        ]
        facts.append(
            {
                "seed": seed, "sigma": smoothed.sigma, "samples": smoothed.samples,
                "alpha": smoothed.alpha, "images": images, "norm": "l2", "eps": radii,
                "certified_accuracy": shares, "average_certified_radius": smoothed.average_radius,
                "abstained": smoothed.abstained, "answered_right": right,
                "answers_abstained": unsure, "largest": smoothed.largest, "seconds": seconds,
            }
        )  # fmt: skip
    return Result("\n".join(lines), facts)
