"""What is known of one network in one norm, growing cell by cell."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, PRNGKeyArray

from robust_mnist.attacks import ATTACKS, AbstractBallAttack
from robust_mnist.certify import CERTIFIERS
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError, unknown
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii
from robust_mnist.sweep._driver import break_batch, certify_batch, judge_batch, method_key
from robust_mnist.sweep._methods import check_method
from robust_mnist.threat import BALLS


Cell = dict[str, np.ndarray]


@dataclasses.dataclass
class Bounds:
    """Merged radii, the witnesses behind them, and every method's own radii.

    Attributes:
        radii: Merged bounds.
        witness: The wrong images behind `radii.upper`; the clean image where there is none.
        upper: Closest wrong image of each attack alone.
        lower: Largest radius that each certifier alone proves.
    """

    radii: Radii
    witness: Float32[np.ndarray, "images pixels"]
    upper: dict[str, Float[np.ndarray, " images"]]
    lower: dict[str, Float[np.ndarray, " images"]]

    @classmethod
    def clean(cls, model: AbstractClassifier, part: Part, norm: str) -> "Bounds":
        """What the clean images alone prove."""
        pixels = to_float(part.images)
        margins, predicted = judge_batch(model, pixels, part.labels)
        return cls(Radii.clean(norm, margins > 0, predicted), pixels, {}, {})

    def merge(self, method: str, eps: float, cell: Cell) -> None:
        """Add what `method` found or proved at `eps`.

        Raises:
            Contradiction: A certificate and an attack exclude each other.
        """
        if "proven" in cell:
            own = np.where(cell["proven"], eps, -np.inf)
            self.radii = self.radii.merge(Radii.certified(self.radii.norm, method, own))
            self.lower[method] = np.maximum(own, self.lower.get(method, -np.inf))
        else:
            own = cell["size"]
            found = Radii.attacked(self.radii.norm, method, own, cell["reached"])
            self.radii = self.radii.merge(found)
            # A cell carries the images only where it was closer than all before it.
            self.witness[cell["improved"]] = cell["witness"]
            self.upper[method] = np.minimum(own, self.upper.get(method, np.inf))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but the witnesses, under the keys of `radii.npz`."""
        norm = self.radii.norm
        return {
            **self.radii.arrays(),
            **{f"upper/{norm}/{method}": own for method, own in self.upper.items()},
            **{f"lower/{norm}/{method}": own for method, own in self.lower.items()},
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
        return cls(merged, witness.copy(), own("upper"), own("lower"))


def run_cell(
    model: Any, part: Part, bounds: Bounds, method: str, eps: float, key: PRNGKeyArray
) -> Cell:
    """One method at one radius over all images.

    Args:
        model: Classifier under attack.
        part: Images as stored, labels and indices.
        bounds: What is known so far; witnesses are kept only where they are closer.
        method: Name of a ball attack or a certifier.
        eps: Radius, finite, at least 0.
        key: Randomness of the sweep.

    Returns:
        `proven` for a certifier; `size`, `reached`, `broken`, `improved`, `witness`, `close` and
        `nonfinite` for an attack.
    """
    if method in CERTIFIERS:
        proven = certify_batch(CERTIFIERS[method], model, part.images, part.labels, eps=eps)
        return {"proven": proven}
    attack = ATTACKS[method]
    if not isinstance(attack, AbstractBallAttack):
        raise TypeError(f"{method} has no ball and no place in a sweep over eps")
    found = break_batch(
        attack, model, part.images, part.labels,
        ids=part.ids, eps=eps, key=method_key(key, method),
    )  # fmt: skip
    improved = np.flatnonzero(found.size < bounds.radii.upper)
    return {
        "size": found.size,
        "reached": found.reached,
        "broken": found.broken,
        "improved": improved,
        "witness": found.witness[improved],
        "close": np.asarray(found.close),
        "nonfinite": np.asarray(found.nonfinite),
    }


def radii(
    model: AbstractClassifier,
    part: Part,
    *,
    norm: str,
    methods: Sequence[str] | str,
    eps: Sequence[float] | float,
    key: PRNGKeyArray,
) -> Radii:
    """Bounds on the robust radius of every image, in memory.

    Args:
        model: The classifier.
        part: Images as stored, their labels and indices.
        norm: `linf` or `l2`.
        methods: Names of ball attacks and certifiers of that norm, or one name.
        eps: Radii to try, in units of pixel intensity, or one radius.
        key: Randomness of the attacks.

    Raises:
        InputError: A method, a radius or the key is none, or a method acts in another norm.
        Contradiction: A certificate and an attack exclude each other.
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    sizes = [float(size) for size in np.atleast_1d(np.asarray(eps, dtype=np.float64))]
    if norm not in BALLS:
        raise unknown("norm", norm, BALLS)
    for method in methods:
        check_method(method, norm, getattr(model, "activation", ""))
    for size in sizes:
        if not (np.isfinite(size) and size >= 0):
            raise InputError(f"eps must be finite and at least 0, got {size:g}")
    if not _is_key(key):
        raise InputError(f"key must be a key of JAX such as jax.random.key(0), got {key!r}")
    bounds = Bounds.clean(model, part, norm)
    for method in methods:
        for radius in sizes:
            bounds.merge(method, radius, run_cell(model, part, bounds, method, radius, key))
    return bounds.radii


def _is_key(key: object) -> bool:
    return isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
