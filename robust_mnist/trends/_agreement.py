"""Whether two devices computed the same: a speed-up of other numbers is none."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool

from robust_mnist.trends._environments import Environment, number, words


# Largest relative error of a product in float32, and in numbers of 10 and of 7 bits of mantissa:
# half of the last bit, 2^-24, 2^-11 and 2^-8, and what summing up adds.
_FLOAT32, _TF32 = 1e-5, 2e-3
# A logit is a sum of sums: what rounding moves it by, in errors of a product of the largest logit.
_ERRORS = 50
# An attack goes on from what it rounded: where a gradient changes its sign, the paths part.
_SHARE = 0.005


@dataclasses.dataclass(frozen=True)
class Flips:
    """One attack on the same images on two devices.

    Attributes:
        benchmark: Such as `break[pgd40-linf]`.
        differ: Images broken on one device and not on the other.
        images: Images attacked.
        near_zero: Found images whose margin is within 1e-4 of a tie, the larger number of the two
            devices: those may fall either way.
    """

    benchmark: str
    differ: int
    images: int
    near_zero: int

    @property
    def allowed(self) -> bool:
        """Whether rounding can explain the difference: at most one image in 200, or near ties."""
        return self.differ <= max(self.near_zero, _SHARE * self.images)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far a device and the baseline computed the same.

    Attributes:
        device: Label of the device.
        logits: Largest difference of a logit over the benchmarks of inference, by benchmark.
        bounds: How far rounding can have moved them, by benchmark: fifty times the error of a
            product as measured on both devices, times the largest logit; NaN where that is unknown.
        flips: One entry per attack that ran on both.
        skipped: Attacks on both whose flags cannot be compared, with the reason.
        why: What either device multiplies in.
    """

    device: str
    logits: dict[str, float]
    bounds: dict[str, float]
    flips: list[Flips]
    skipped: list[str]
    why: str

    @property
    def verdict(self) -> str:
        """`agree`, `disagree` or `not measured`."""
        if not all(self.allowed(name) for name in self.logits):
            return "disagree"
        if not self.flips:
            return "not measured"
        return "agree" if all(flips.allowed for flips in self.flips) else "disagree"

    def allowed(self, name: str) -> bool:
        """Whether rounding can explain what the logits of a benchmark differ by."""
        return not self.logits[name] > self.bounds[name]

    @property
    def logit_difference(self) -> float:
        """The largest over all benchmarks; NaN if none has logits."""
        return max(self.logits.values(), default=math.nan)


def agreement(base: Environment, other: Environment, benchmarks: list[str]) -> Agreement:
    """Compare logits and flags of the benchmarks that both ran."""
    logits, bounds, flips, skipped = {}, {}, [], []
    error = sum(side.peak("float32_error") for side in (base, other))
    for name in benchmarks:
        if name.startswith("inference["):
            if (found := _logit_difference(base, other, name)) is not None:
                logits[name], largest = found
                bounds[name] = _ERRORS * error * largest
        elif name.startswith("break["):
            flipped = _flips(base, other, name)
            if isinstance(flipped, Flips):
                flips.append(flipped)
            elif flipped:
                skipped.append(f"{name}: {flipped}")
    return Agreement(other.label, logits, bounds, flips, skipped, _why(base, other))


def _logit_difference(
    base: Environment, other: Environment, name: str
) -> tuple[float, float] | None:
    """The largest difference, and the largest logit of the baseline."""
    a, b = (_matrix(side.newest(name, "logits")) for side in (base, other))
    if a is None or b is None or a.shape[1:] != b.shape[1:]:
        return None
    count = min(len(a), len(b))
    difference = float(np.max(np.abs(a[:count] - b[:count])))
    largest = float(np.max(np.abs(a[:count])))
    return (difference if math.isfinite(difference) else math.inf), largest


def _matrix(value: object) -> np.ndarray | None:
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.ndim == 2 and found.size else None


def _flips(base: Environment, other: Environment, name: str) -> Flips | str:
    """What differs, or why that cannot be told; an empty reason where there are no flags."""
    sides = base, other
    if any(side.newest(name, "flags") is None for side in sides):
        return ""
    facts = [
        [number(side.newest(name, n)) for n in ("items", "eps", "near_zero")] for side in sides
    ]
    if any(math.isnan(value) for side in facts for value in side):
        return "items, eps or near_zero is missing"
    (images, eps, near), (their_images, their_eps, their_near) = facts
    if images != their_images or eps != their_eps:
        return f"{images:.0f} images at eps {eps:g} against {their_images:.0f} at {their_eps:g}"
    flags = [_flags(side.newest(name, "flags"), int(images)) for side in sides]
    if flags[0] is None or flags[1] is None:
        return f"flags are not {images:.0f} bits in hexadecimal"
    return Flips(name, int(np.sum(flags[0] != flags[1])), int(images), int(max(near, their_near)))


def _flags(text: object, images: int) -> Bool[np.ndarray, " images"] | None:
    try:
        packed = np.frombuffer(bytes.fromhex(str(text)), np.uint8)
    except ValueError:
        return None
    # Exactly the bytes that hold so many bits: otherwise the flags belong to other images.
    if images < 1 or packed.size != -(-images // 8):
        return None
    return np.unpackbits(packed, count=images).astype(bool)


def arithmetic(environment: Environment) -> str:
    """What an environment multiplies float32 numbers in, as measured."""
    error = environment.peak("float32_error")
    if math.isnan(error):
        text = "float32_error not measured"
    elif error < _FLOAT32:
        text = "true float32"
    else:
        bits = "10 bits of mantissa (TF32)" if error < _TF32 else "7 bits of mantissa (bfloat16)"
        text = f"products with {bits}, float32_error {error:.1e}"
    precision = words(environment.machine.get("matmul_precision", "default"))
    if precision != "default":
        text += f", matmul_precision {precision}"
    return text + (", x64 on" if environment.machine.get("x64") else "")


def _why(base: Environment, other: Environment) -> str:
    mine, theirs = arithmetic(other), arithmetic(base)
    if mine == theirs:
        return f"{mine} on both"
    return f"{mine} on {other.label}; {theirs} on {base.label}"
