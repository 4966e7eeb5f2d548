"""Which methods run in which norm: names checked before anything is loaded or trained."""

import dataclasses

from robust_mnist.attacks import ATTACKS, AbstractBallAttack, AbstractStepAttack
from robust_mnist.certify import CERTIFIERS
from robust_mnist.config import METHODS, STEP_METHODS, SweepSettings
from robust_mnist.errors import InputError, unknown
from robust_mnist.threat import BALLS


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
        methods: Ball attacks and certifiers of each norm, in the order they run.
        steps: Step attacks, which have no norm.
        eps: Radii of each norm, increasing, 0 first.
    """

    methods: dict[str, tuple[str, ...]]
    steps: tuple[str, ...]
    eps: dict[str, tuple[float, ...]]


def norm_of(method: str) -> str | None:
    """The norm a method acts in; None for step attacks.

    Raises:
        InputError: No method has this name.
    """
    if method in CERTIFIERS:
        return CERTIFIERS[method].ball.name
    if method not in ATTACKS:
        raise unknown("method", method, [*ATTACKS, *CERTIFIERS])
    attack = ATTACKS[method]
    return attack.ball.name if isinstance(attack, AbstractBallAttack) else None


def check_method(method: str, norm: str, activation: str) -> None:
    """Refuse a method that cannot bound radii in a norm.

    Args:
        method: Name of a method.
        norm: Norm of the radii.
        activation: Hidden activation of the network.

    Raises:
        InputError: No such method, one of another norm or of none, or a certifier that does not
            apply.
    """
    its = norm_of(method)
    if its is None:
        raise InputError(f"{method} has no ball and bounds no radius; it runs in a sweep of a run")
    if its != norm:
        raise InputError(f"{method} acts in {its}, but norm is {norm}; give norm={its!r}")
    _check_activation(method, activation)


def _check_activation(method: str, activation: str) -> None:
    if method in CERTIFIERS and activation not in CERTIFIERS[method].activations:
        known = ", ".join(sorted(CERTIFIERS[method].activations))
        raise InputError(f"{method} knows the activations {known}, got {activation or 'none'}")


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
        sorted(filter(None, {norm_of(method) for method in settings.methods})) or BALLS
    )
    chosen = settings.methods or (*(m for norm in norms for m in METHODS[norm]), *STEP_METHODS)
    for method in settings.methods:
        norm = norm_of(method)
        if norm is not None and norm not in norms:
            raise InputError(
                f"{method} acts in {norm}, but --norm is {' '.join(norms)}; add {norm} to it"
            )
        _check_activation(method, activation)
    applies = lambda m: m not in CERTIFIERS or activation in CERTIFIERS[m].activations
    methods = {
        norm: tuple(m for m in chosen if norm_of(m) == norm and applies(m)) for norm in norms
    }
    return Plan(
        # A norm in which nothing runs is no part of the sweep.
        methods={norm: found for norm, found in methods.items() if found},
        steps=tuple(m for m in chosen if isinstance(ATTACKS.get(m), AbstractStepAttack)),
        eps={norm: settings.grid(norm) for norm, found in methods.items() if found},
    )
