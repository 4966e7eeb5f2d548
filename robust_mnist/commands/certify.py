"""Prove images right at a radius, in a run's networks or in one from elsewhere."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from robust_mnist import checkpoint, config, data, sweep as sweeping
from robust_mnist.commands._opening import open_run
from robust_mnist.commands._programs import keep_programs
from robust_mnist.commands._result import Result, columns
from robust_mnist.commands.pipeline import Job
from robust_mnist.config import CERTIFY, SweepSettings, TrainSettings
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.sweep import Bounds, Plan, Tried


def certify(command: config.Certify) -> Result:
    """Run certifiers, and an attack on what they leave open, at one radius."""
    if not (command.methods or command.norm in CERTIFY):
        raise InputError(
            f"certify has methods for the norms {', '.join(CERTIFY)}, got {command.norm}"
        )
    return _of_file(command) if command.run is None else _of_run(command)


def _of_file(command: config.Certify) -> Result:
    assert command.model is not None
    keep_programs()
    model = checkpoint.read_npz(command.model, command.activation)
    methods = _methods(command, command.activation)
    dataset = data.load(command.data, quiet=command.output.quiet)
    ids = np.arange(len(dataset.test_labels))
    part = Part(dataset.test_images, dataset.test_labels, ids)
    check_network(model, command.model, part)
    bounds = Bounds.clean(model, part, command.norm)
    console, key = Console(quiet=command.output.quiet), jax.random.key(command.attack_seed)
    tried = []
    for one in sweeping.settle_at(model, part, bounds, methods, command.eps, key):
        console.note(_line(one))
        tried.append(one)
    return _told(command, {0: (tried, bounds)})


def _of_run(command: config.Certify) -> Result:
    assert command.run is not None
    settings, folder = open_run(TrainSettings(), run=command.run, out=None, overwrite=False)
    methods = _methods(command, settings.activation)
    job = Job(settings, folder, command.output)
    networks = job.train()
    models: dict[int, MLP] = {}
    for seed, network in networks.items():
        models[seed] = check_network(network, str(folder.model(seed)), job.split.test)
    held = folder.info().get("sweep") or dataclasses.asdict(SweepSettings())
    plan = Plan({command.norm: ()}, (), {command.norm: (0.0, command.eps)})
    task = sweeping.Task(folder, job.split.test, plan, held["attack_seed"], job.about)
    console = Console(quiet=command.output.quiet)
    found: dict[int, tuple[list[Tried], Bounds]] = {}
    tried: list[Tried] = []
    for seed, one in sweeping.settle_run(task, models, command.norm, methods, command.eps):
        if isinstance(one, Tried):
            console.note(f"seed {seed}: {_line(one)}")
            tried.append(one)
        else:
            found[seed] = tried, one
            tried = []
    return _told(command, found)


def _methods(command: config.Certify, activation: str) -> Sequence[str]:
    """What to try: all that was asked for, or of the defaults what applies.

    Raises:
        InputError: A method that was asked for is unknown, of another norm, or does not apply.
    """
    for method in command.methods:
        sweeping.check_method(method, command.norm, activation)
    if command.methods:
        return command.methods
    defaults = CERTIFY[command.norm]
    return [name for name in defaults if sweeping.applies(name, activation)]


def check_network(model: AbstractClassifier, name: str, part: Part) -> MLP:
    """Refuse a network that no proof can be about."""
    if not isinstance(model, MLP):
        raise InputError(f"{name} must be an MLP to be certified, got {type(model).__name__}")
    pixels, classes = part.images.shape[1], int(np.max(part.labels)) + 1
    ins, outs = model.layers[0].weight.shape[1], model.layers[-1].bias.size
    if ins != pixels or outs < classes:
        raise InputError(
            f"{name} must take {pixels} pixels and give {classes} classes, got {ins} and {outs}"
        )
    if not all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))
    ):
        raise InputError(f"{name} must hold finite weights, got NaN or infinity")
    return model


def _line(tried: Tried) -> str:
    return f"{tried.method}: {tried.settled} of {tried.images} settled in {tried.seconds:.1f} s"


def _told(command: config.Certify, found: dict[int, tuple[list[Tried], Bounds]]) -> Result:
    facts: list[dict[str, Any]] = []
    lines: list[str] = []
    for seed, (tried, bounds) in found.items():
        certified = int(np.sum(bounds.radii.lower >= command.eps))
        attacked = int(np.sum(bounds.radii.upper <= command.eps))
        images = bounds.radii.upper.size
        heading = [("method", "images", "settled", "seconds")]
        rows = [(t.method, str(t.images), str(t.settled), f"{t.seconds:.1f}") for t in tried]
        if rows:
            lines += [columns(heading + rows), ""]
        lines.append(
            f"{f'seed {seed}, ' if len(found) > 1 else ''}{command.norm} {command.eps:g}: "
            f"{certified} certified, {attacked} attacked, {images - certified - attacked} open, "
            f"of {images}; robust accuracy is from {certified / images:.2%} to "
            f"{1 - attacked / images:.2%}"
        )
        facts.append(
            {
                "seed": seed, "norm": command.norm, "eps": command.eps, "images": images,
                "certified": certified, "attacked": attacked,
                "open": images - certified - attacked,
                "methods": [one._asdict() for one in tried],
            }
        )  # fmt: skip
    return Result("\n".join(lines), facts)
