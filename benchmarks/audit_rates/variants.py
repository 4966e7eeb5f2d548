"""Other fakes of every kind than those that the checks were tuned on, drawn anew by every seed."""

import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from robust_mnist.audit.fakes import (
    FAKES,
    AbstractFake,
    BentGradient,
    KWinners,
    NoisyOutput,
    QuantisedInput,
    ScaledLogits,
    ShatteredGradient,
    SoftmaxOutput,
)
from robust_mnist.audit.selftest import OneOf
from robust_mnist.models import AbstractClassifier


COUNT = 6  # variants of each fake
Wrap = Callable[[AbstractClassifier], AbstractFake]


def variants(name: str, seed: int) -> list[Wrap]:
    """The variants of a fake that belong to a seed."""
    return _KINDS[name](np.random.default_rng([seed, zlib.crc32(name.encode())]))


def _logits(rng: np.random.Generator) -> list[Wrap]:
    return [lambda m, f=f: ScaledLogits(m, f) for f in _spread(rng, 30, 1e6)]


def _killed(rng: np.random.Generator) -> list[Wrap]:
    # Steps so fine that only the slope is gone; the bare form has no number to vary.
    return [lambda m, n=n: QuantisedInput(m, round(n)) for n in _spread(rng, 64, 65536)]


def _reversed(rng: np.random.Generator) -> list[Wrap]:
    both = zip(_spread(rng, 0.01, 100), rng.permutation(_spread(rng, 0.6, 1.0)), strict=True)
    return [lambda m, f=f, s=s: BentGradient(m, -f, s) for f, s in both]


def _shattered(rng: np.random.Generator) -> list[Wrap]:
    both = zip(_spread(rng, 0.002, 0.02), rng.permutation(_spread(rng, 4, 40)), strict=True)
    return [lambda m, h=h, s=s: ShatteredGradient(m, h, s / (4 * h)) for h, s in both]


def _two_levels(rng: np.random.Generator) -> list[Wrap]:
    shifts = _round(rng.permutation(np.linspace(-0.4, 0.4, COUNT) + rng.uniform(-0.05, 0.05)))
    levels = [2] * (COUNT - 2) + [3] * 2
    pairs = zip(levels, shifts, strict=True)
    return [lambda m, n=n, s=s: QuantisedInput(m, n, s) for n, s in pairs]


def _levels(rng: np.random.Generator) -> list[Wrap]:
    return [lambda m, n=n: QuantisedInput(m, n) for n in _whole(rng, 4, 32, other_than=8)]


def _winners(rng: np.random.Generator) -> list[Wrap]:
    return [lambda m, n=n: KWinners(m, n) for n in _whole(rng, 6, 64, other_than=16)]


def _softmax(low: float, high: float) -> Callable[[np.random.Generator], list[Wrap]]:
    return lambda rng: [lambda m, t=t: SoftmaxOutput(m, t) for t in _spread(rng, low, high)]


def _noisy(low: float, high: float) -> Callable[[np.random.Generator], list[Wrap]]:
    return lambda rng: [lambda m, d=d: NoisyOutput(m, d) for d in _spread(rng, low, high)]


def _spread(rng: np.random.Generator, low: float, high: float, count: int = COUNT) -> list[float]:
    """One number from each of `count` equal parts of the range, in proportion, three digits."""
    at = (np.arange(count) + rng.uniform(size=count)) / count
    return _round(low * (high / low) ** at)


def _round(numbers: Sequence[float] | np.ndarray) -> list[float]:
    return [float(f"{number:.3g}") for number in numbers]


def _whole(rng: np.random.Generator, low: int, high: int, *, other_than: int) -> list[int]:
    numbers: list[int] = []
    for number in _spread(rng, low, high):
        whole = max(round(number), numbers[-1] + 1 if numbers else 0)
        numbers.append(whole + (whole == other_than))
    return numbers


_KINDS: dict[str, Callable[[np.random.Generator], list[Wrap]]] = {
    "logits-x1000": _logits,
    "gradient-killed": _killed,
    "gradient-reversed": _reversed,
    "gradient-shattered": _shattered,
    "input-2-levels": _two_levels,
    "input-8-levels": _levels,
    "k-winners": _winners,
    "softmax": _softmax(0.2, 5.0),
    "softmax-cold": _softmax(1e-5, 1e-1),
    "noise": _noisy(0.3, 30.0),
    "noise-faint": _noisy(2e-3, 1e-1),
}


def program(inside: AbstractClassifier, fake: AbstractFake | None = None) -> OneOf:
    """A network, or a fake of it, in a form that shares its compiled programs with all the others.

    One branch for each kind of fake, and their numbers are arguments.
    """
    kinds = {type(one): one for one in (planted.wrap(inside) for planted in FAKES.values())}
    if fake is not None:
        kinds[type(fake)] = fake
    number = 0 if fake is None else 1 + list(kinds).index(type(fake))
    argument = lambda leaf: jnp.asarray(leaf, jnp.float32) if np.isscalar(leaf) else leaf
    choices = jax.tree.map(argument, (inside, *kinds.values()))
    return OneOf(choices, jnp.asarray(number, jnp.int32))
