"""Which methods run in which norm: names checked before anything is loaded or trained."""

import dataclasses

from robust_mnist.attacks import ATTACKS, AbstractAttack, AbstractStepAttack, LinearRegion
from robust_mnist.certify import CERTIFIERS
from robust_mnist.config import (
    CONTROL_IMAGES,
    DEFAULT_NORMS,
    METHODS,
    PRESETS,
    STEP_METHODS,
    Preset,
    SweepSettings,
)
from robust_mnist.errors import InputError, unknown
from robust_mnist.sweep._aim import Aim
from robust_mnist.sweep._driver import Search


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
        methods: Ball attacks and certifiers of each norm, in the order they run.
        steps: Step attacks, which have no norm.
        eps: Radii of each norm, increasing, 0 first.
        stages: Attacks of each norm that run afterwards where the bounds are open, in order.
        aim: How well the radii of each norm have to be known.
        control: Number of images that the attacks among `methods` run on; 0 for all.
    """

    methods: dict[str, tuple[str, ...]]
    steps: tuple[str, ...]
    eps: dict[str, tuple[float, ...]]
    stages: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    aim: dict[str, Aim] = dataclasses.field(default_factory=dict)
    control: int = 0


def norm_of(method: str) -> str | None:
    """The norm a method acts in; None for step attacks.

    Raises:
        InputError: No method has this name.
    """
    if method in CERTIFIERS:
        return CERTIFIERS[method].ball.name
    if method not in ATTACKS:
        raise unknown("method", method, [*ATTACKS, *CERTIFIERS], listing="robust-mnist methods")
    attack = ATTACKS[method]
    return attack.ball.name if isinstance(attack, Search) else None


def check_method(
    method: str, norm: str, activation: str, attack: AbstractAttack | None = None
) -> None:
    """Refuse a method that cannot bound radii in a norm.

    Args:
        method: Name of a method.
        norm: Norm of the radii.
        activation: Hidden activation of the network.
        attack: What the name stands for, where it is none of the registry.

    Raises:
        InputError: No such method, one of another norm or of none, a certifier that does not apply,
            or a name of the registry for something else.
    """
    if attack is not None and (method in CERTIFIERS or ATTACKS.get(method, attack) is not attack):
        raise InputError(f"{method} means something else in the registry; choose another name")
    if attack is None:
        its = norm_of(method)
    else:
        its = attack.ball.name if isinstance(attack, Search) else None
    if its is None:
        raise InputError(f"{method} has no ball and bounds no radius; it runs in a sweep of a run")
    if its != norm:
        raise InputError(f"{method} acts in {its}, but norm is {norm}; give norm {its}")
    _check_activation(method, activation, attack)


def _check_activation(method: str, activation: str, attack: AbstractAttack | None = None) -> None:
    known = _activations(method, attack)
    if known is not None and activation not in known:
        names = ", ".join(sorted(known))
        raise InputError(
            f"{method} knows the activations {names}, got {activation or 'none'}; leave it out"
        )


def applies(method: str, activation: str) -> bool:
    """Whether a method can run on a network with this hidden activation."""
    known = _activations(method)
    return known is None or activation in known


def _control(preset: Preset, norm: str) -> tuple[str, ...]:
    """Certifiers first: what they prove needs no attack."""
    certifiers = tuple(method for method in METHODS[norm] if method in CERTIFIERS)
    return (*certifiers, *preset.control[norm])


def _activations(method: str, attack: AbstractAttack | None = None) -> frozenset[str] | None:
    """The activations a method is bound to; None for most."""
    if method in CERTIFIERS:
        return CERTIFIERS[method].activations
    attack = ATTACKS[method] if attack is None else attack
    return attack.activations if isinstance(attack, LinearRegion) else None


def _preset(settings: SweepSettings, norms: tuple[str, ...]) -> Preset | None:
    """The preset that is meant; None for the grid."""
    if settings.preset == "grid":
        return None
    name = "standard" if settings.preset == "auto" else settings.preset
    preset = PRESETS[name]
    lacking = [norm for norm in norms if norm not in preset.stages]
    if settings.preset == "auto":
        return None if settings.methods or lacking else preset
    if lacking:
        raise InputError(
            f"--preset {name} knows the norms {', '.join(preset.stages)}, got "
            f"{' '.join(lacking)}; use --preset grid"
        )
    return preset


def plan(settings: SweepSettings, activation: str) -> Plan:
    """Resolve settings into methods and radii per norm.

    A certifier that does not know the network's activation is left out of the defaults.

    Args:
        settings: As given by the user; empty fields mean the defaults.
        activation: Hidden activation of the network.

    Raises:
        InputError: An unknown method, one of another norm than asked for, or a certifier that
            does not apply.
    """
    norms: tuple[str, ...] = settings.norm or tuple(
        sorted(filter(None, {norm_of(method) for method in settings.methods})) or DEFAULT_NORMS
    )
    preset = _preset(settings, norms)
    default = lambda norm: METHODS[norm] if preset is None else _control(preset, norm)
    chosen = settings.methods or (*(m for norm in norms for m in default(norm)), *STEP_METHODS)
    for method in settings.methods:
        norm = norm_of(method)
        if norm is not None and norm not in norms:
            raise InputError(
                f"{method} acts in {norm}, but --norm is {' '.join(norms)}; add {norm} to it"
            )
        _check_activation(method, activation)
    fits = lambda method: applies(method, activation)
    methods = {norm: tuple(m for m in chosen if norm_of(m) == norm and fits(m)) for norm in norms}
    stages = {} if preset is None else {norm: preset.stages[norm] for norm in norms}
    return Plan(
        stages={norm: tuple(filter(fits, found)) for norm, found in stages.items()},
        aim={norm: Aim(settings.gap(norm), settings.grid(norm)[1:]) for norm in norms},
        control=0 if preset is None else CONTROL_IMAGES,
        # A norm in which nothing runs is no part of the sweep.
        methods={norm: found for norm, found in methods.items() if found},
        steps=tuple(m for m in chosen if isinstance(ATTACKS.get(m), AbstractStepAttack)),
        eps={norm: settings.grid(norm) for norm, found in methods.items() if found},
    )
