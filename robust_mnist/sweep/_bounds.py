"""What is known of one network in one norm, growing cell by cell."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, PRNGKeyArray

from robust_mnist.attacks import ATTACKS, AbstractAttack, AbstractMinimalAttack
from robust_mnist.certify import CERTIFIERS
from robust_mnist.config import EPS
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii, ran_key
from robust_mnist.sweep._driver import (
    Found,
    Search,
    break_batch,
    judge_batch,
    method_key,
)
from robust_mnist.sweep._proofs import certified_radii


Cell = dict[str, np.ndarray]


@dataclasses.dataclass
class Bounds:
    """Merged radii, the witnesses behind them, and every method's own radii.

    Attributes:
        radii: Merged bounds.
        witness: The wrong images behind `radii.upper`; the clean image where there is none.
        upper: Closest wrong image of each attack alone, as it is credited with; NaN for images it
            did not run on.
        lower: Largest radius that each certifier alone proves.
        ran: Which images each attack ran on, by the names of `records.ran_key`: one entry for each
            of its radii.
    """

    radii: Radii
    witness: Float32[np.ndarray, "images pixels"]
    upper: dict[str, Float[np.ndarray, " images"]]
    lower: dict[str, Float[np.ndarray, " images"]]
    ran: dict[str, Bool[np.ndarray, " images"]] = dataclasses.field(default_factory=dict)

    @classmethod
    def clean(cls, model: AbstractClassifier, part: Part, norm: str) -> "Bounds":
        """What the clean images alone prove."""
        pixels = to_float(part.images)
        margins, predicted = judge_batch(model, pixels, part.labels)
        return cls(Radii.clean(norm, margins > 0, predicted), pixels, {}, {})

    def merge(self, method: str, cell: Cell, *, own_at: float | None = None) -> None:
        """Add what `method` found or proved.

        Args:
            method: Name of the method.
            cell: As `run_cell` gives it.
            own_at: Radius at which an attack ran, infinite where it was given none, to count what
                it found among its own radii as well. None where the images were chosen for what
                other methods had found.

        Raises:
            Contradiction: A certificate and an attack exclude each other.
        """
        if "proven" in cell:
            own = cell["proven"]
            self.radii = self.radii.merge(Radii.certified(self.radii.norm, method, own))
            self.lower[method] = np.maximum(own, self.lower.get(method, -np.inf))
        else:
            found = Radii.attacked(self.radii.norm, method, cell["size"], cell["reached"])
            self.radii = self.radii.merge(found)
            # A cell carries the images only where it was closer than all before it.
            self.witness[cell["improved"]] = cell["witness"]
            if own_at is not None:
                self.upper[method] = np.fmin(cell["own"], self.upper.get(method, np.nan))
                key = ran_key(self.radii.norm, method, own_at)
                self.ran[key] = ~np.isnan(cell["own"]) | self.ran.get(key, False)

    def take(self, at: Int64[np.ndarray, " chosen"]) -> "Bounds":
        """What is known of the images at these places alone."""
        chosen = lambda each: {name: values[at] for name, values in each.items()}
        names = [field.name for field in dataclasses.fields(Radii) if field.name != "norm"]
        radii = Radii(self.radii.norm, **{name: getattr(self.radii, name)[at] for name in names})
        own = chosen(self.upper), chosen(self.lower), chosen(self.ran)
        return Bounds(radii, self.witness[at], *own)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but the witnesses, under the keys of `radii.npz`."""
        norm = self.radii.norm
        return {
            **self.radii.arrays(),
            **{f"upper/{norm}/{method}": own for method, own in self.upper.items()},
            **{f"lower/{norm}/{method}": own for method, own in self.lower.items()},
            **self.ran,
        }

    @classmethod
    def restore(cls, norm: str, arrays: dict[str, np.ndarray], witness: np.ndarray) -> "Bounds":
        """The inverse of `arrays`."""
        own = lambda end: {
            key.removeprefix(f"{end}/{norm}/"): array
            for key, array in arrays.items()
            if key.startswith(f"{end}/{norm}/")
        }
        names = ("lower", "upper", "certifier", "method", "reached")
        merged = Radii(norm=norm, **{name: arrays[f"{name}/{norm}"] for name in names})
        ran = {key: array for key, array in arrays.items() if key.startswith(f"ran/{norm}/")}
        return cls(merged, witness.copy(), own("upper"), own("lower"), ran)


def run_cell(
    model: Any,
    part: Part,
    bounds: Bounds,
    method: str,
    eps: float | Float[np.ndarray, " chosen"],
    key: PRNGKeyArray,
    *,
    at: Int64[np.ndarray, " chosen"] | None = None,
    largest: float = 0.0,
    gap: float = 0.0,
    chunk: int = 1000,
    attack: AbstractAttack | None = None,
) -> Cell:
    """One method at one radius over all images, or an attack over some of them.

    Args:
        model: Classifier under attack.
        part: Images as stored, labels and indices.
        bounds: What is known so far; witnesses are kept only where they are closer.
        method: Name of an attack with a norm, or of a certifier; it decides the random draws.
        eps: Radius, at least 0, of each image or of all; infinite for what runs once.
        key: Randomness of the sweep.
        at: Places of the images to attack; all by default.
        largest: Radius up to which a certifier is asked; the end of the norm's grid at least.
        gap: How closely a certifier's radius is searched for; 0 for 2^-10 of that.
        chunk: Images per compiled call.
        attack: What the name stands for, where it is none of the registry.

    Returns:
        `proven` for a certifier: a radius, or -inf. `size`, `own`, `reached`, `broken`, `improved`,
        `witness`, `close` and `nonfinite` for an attack. Arrays are of all images; where the attack
        did not run, `size` is infinite and `own` NaN.
    """
    if method in CERTIFIERS:
        largest = max(largest, EPS[bounds.radii.norm][-1])
        proven = certified_radii(
            CERTIFIERS[method], model, part.images, part.labels,
            largest=largest, gap=gap or largest / 1024,
        )  # fmt: skip
        return {"proven": proven}
    attack = ATTACKS[method] if attack is None else attack
    if not isinstance(attack, Search):
        raise TypeError(f"{method} has no ball and no place in a sweep over eps")
    at = np.arange(len(part.labels)) if at is None else at
    some = part.take(at)
    found = break_batch(
        attack, model, some.images, some.labels,
        ids=some.ids, eps=eps, key=method_key(key, method), chunk=chunk,
    )  # fmt: skip
    return found_cell(bounds, method, at, found)


def found_cell(bounds: Bounds, method: str, at: Int64[np.ndarray, " chosen"], found: Found) -> Cell:
    """What was found at some images, as a cell of all.

    Args:
        bounds: What is known so far.
        method: Name of what found it.
        at: Places of the images, in order; several of them may be the same.
        found: What was found there.
    """
    images = bounds.radii.upper.size
    spread = lambda values, missing: _scattered(values, at, images, missing)
    size, reached = spread(found.size, np.inf), spread(found.reached, -1)
    improved = _improved(bounds, method, size, reached)
    return {
        "size": size,
        "own": spread(found.own, np.nan),
        "reached": reached,
        "broken": spread(found.broken, False),
        "improved": improved,
        "witness": found.witness[np.searchsorted(at, improved)],
        "close": np.asarray(found.close),
        "nonfinite": np.asarray(found.nonfinite),
    }


def kept_cell(bounds: Bounds, method: str, cell: Cell) -> Cell:
    """A cell from a file, with the wrong images that are closer than what is known by now.

    Args:
        bounds: What is known, perhaps more than when the cell was made.
        method: Its method.
        cell: As `run_cell` gave it, or empty.

    Returns:
        The cell, ready to be merged; empty where it lacks an image that it would need.
    """
    if "size" not in cell:
        return cell
    improved = _improved(bounds, method, cell["size"], cell["reached"])
    if not np.isin(improved, cell["improved"]).all():
        return {}
    witness = cell["witness"][np.searchsorted(cell["improved"], improved)]
    return {**cell, "improved": improved, "witness": witness}


def _improved(
    bounds: Bounds, method: str, size: np.ndarray, reached: np.ndarray
) -> Int64[np.ndarray, " closer"]:
    merged = bounds.radii.merge(Radii.attacked(bounds.radii.norm, method, size, reached))
    # Two methods often end in the same corner: of equal sizes the merge takes the same one always.
    taken = (merged.method == method) & (merged.upper == size)
    held = (bounds.radii.method == method) & (bounds.radii.upper == merged.upper)
    return np.flatnonzero(taken & ~(held & (bounds.radii.reached == merged.reached)))


def _scattered(values: np.ndarray, at: np.ndarray, count: int, missing: Any) -> np.ndarray:
    everywhere = np.full(count, missing, values.dtype)
    everywhere[at] = values
    return everywhere


def runs_once(method: str, attack: AbstractAttack | None = None) -> bool:
    """Whether a method, or an attack by a name of its own, finds radii itself and is given none."""
    attack = ATTACKS.get(method) if attack is None else attack
    return method in CERTIFIERS or isinstance(attack, AbstractMinimalAttack)
