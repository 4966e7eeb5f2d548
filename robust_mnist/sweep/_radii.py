"""Bounds on robust radii in one call, in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, PRNGKeyArray

from robust_mnist.attacks import AbstractAttack
from robust_mnist.certify import CERTIFIERS
from robust_mnist.config import PRESETS, SweepSettings, check_range
from robust_mnist.data import Part
from robust_mnist.errors import InputError, closest, unknown
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii
from robust_mnist.sweep._aim import Aim
from robust_mnist.sweep._bounds import Bounds, run_cell, runs_once
from robust_mnist.sweep._methods import check_method, plan
from robust_mnist.sweep._model import check_model
from robust_mnist.sweep._proofs import certified_radii, largest_certified
from robust_mnist.sweep._schedule import run_stage
from robust_mnist.threat import BALLS


def radii(
    model: AbstractClassifier,
    part: Part,
    *,
    norm: str,
    methods: Sequence[str] | str | Mapping[str, AbstractAttack],
    eps: Sequence[float] | float = (),
    key: PRNGKeyArray,
) -> Radii:
    """Bounds on the robust radius of every image, in memory.

    Args:
        model: The classifier.
        part: Images as stored, their labels and indices.
        norm: `linf` or `l2`.
        methods: Names of attacks and certifiers of that norm, or one name; or a preset, `quick`,
            `standard` or `thorough`, whose certifiers run first and whose attacks then on what is
            open; or attacks by names that are not in the registry, such as `Restarts`, `EOT` and
            `Transfer` make them.
        eps: Radii to try, in units of pixel intensity, or one radius; minimal attacks and
            certifiers find each image's own. With a preset the accuracy at them is settled, and
            without any every radius is refined to 2^-10 of the norm's largest default one.
        key: Randomness of the attacks.

    Raises:
        InputError: There is no image, a method, a radius or the key is none, a method acts in
            another norm, or the model does not give finite logits.
        Contradiction: A certificate and an attack exclude each other.
    """
    sizes = [float(size) for size in np.atleast_1d(np.asarray(eps, dtype=np.float64))]
    if norm not in BALLS:
        raise unknown("norm", norm, BALLS)
    if not isinstance(part, Part):
        raise InputError(
            f"part must be a Part, such as the test of rm.split(rm.load('mnist')), got "
            f"{type(part).__name__}; its take(np.arange(200)) is a smaller one"
        )
    if not len(part.labels):
        raise InputError("part must hold at least one image, got none; take some of a data set")
    for size in sizes:
        if not (np.isfinite(size) and size >= 0):
            raise InputError(f"eps must be finite and at least 0, got {size:g}")
        check_range(norm, size, "eps")
    if not _is_key(key):
        raise InputError(f"key must be a key of JAX such as jax.random.key(0), got {key!r}")
    if isinstance(methods, str) and methods in PRESETS:
        if sizes and not any(sizes):
            raise InputError("eps must name a radius above 0 for a preset, got 0")
        if norm not in PRESETS[methods].stages:
            norms = ", ".join(PRESETS[methods].stages)
            raise InputError(f"{methods} knows the norms {norms}, got {norm}; name methods")
        return _scheduled(model, part, norm, methods, tuple(sizes), key)
    own = dict(methods) if isinstance(methods, Mapping) else {}
    names = [methods] if isinstance(methods, str) else list(methods)
    if not names:
        presets = ", ".join(PRESETS)
        raise InputError(f"methods must name an attack, a certifier or one of {presets}, got none")
    if isinstance(methods, str) and (near := closest(methods, PRESETS)):
        raise InputError(f"unknown preset {methods!r}{near}")
    if alone := [name for name in names if name in PRESETS]:
        raise InputError(f"a preset is no method among others; give methods={alone[0]!r} alone")
    for method in names:
        check_method(method, norm, getattr(model, "activation", ""), own.get(method))
    if not sizes:
        presets = ", ".join(PRESETS)
        raise InputError(f"eps must name a radius unless methods is one of {presets}, got none")
    check_model(model, part)
    bounds = Bounds.clean(model, part, norm)
    for method in names:
        attack = own.get(method)
        for radius in [np.inf] if runs_once(method, attack) else sizes:
            cell = run_cell(
                model, part, bounds, method, radius, key, largest=max(sizes), attack=attack
            )
            bounds.merge(method, cell, own_at=radius)
    return bounds.radii


def _scheduled(
    model: AbstractClassifier,
    part: Part,
    norm: str,
    preset: str,
    eps: tuple[float, ...],
    key: PRNGKeyArray,
) -> Radii:
    """The bounds of a preset; nothing is said of single attacks, so that none needs a control."""
    # Both have been looked up, and the settings look at their kinds again.
    settings = SweepSettings(norm=(norm,), preset=preset, eps=eps)  # type: ignore[arg-type]
    todo = plan(settings, getattr(model, "activation", ""))
    check_model(model, part)
    bounds = Bounds.clean(model, part, norm)
    aim = todo.aim[norm]
    for method in todo.methods[norm]:
        if method in CERTIFIERS:
            bounds.merge(method, {"proven": _proven(method, model, part, aim)})
    for method in todo.stages[norm]:
        for _ in run_stage(model, part, bounds, method, aim=aim, key=key):
            pass
    return bounds.radii


def _proven(method: str, model: Any, part: Part, aim: Aim) -> Float64[np.ndarray, " images"]:
    what = CERTIFIERS[method], model, part.images, part.labels
    if np.isinf(aim.gap):
        return largest_certified(*what, radii=aim.radii)
    return certified_radii(*what, largest=aim.radii[-1], gap=aim.gap)


def _is_key(key: object) -> bool:
    return isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
