"""Small experiments on the attacks themselves, so that a report can tell how far to trust them.

They are decided on the device, gradient by gradient, and never enter the bounds: an image within
rounding of a tie may count otherwise than in the curves.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from robust_mnist.attacks import APGD, ATTACKS, DDN, FMN, PGD, AbstractMinimalAttack
from robust_mnist.clock import stopwatch
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Alone, Radii, Records, attack_seed
from robust_mnist.sweep._driver import image_keys, judge_batch, method_key
from robust_mnist.sweep._panels import Panels


Pathed = PGD | APGD | DDN | FMN  # attacks that tell what they had seen after each gradient

IMAGES = 256
STEPS = (1, 2, 5, 10, 20, 40)
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
RESTARTS = 8


def probe_panels(
    model: AbstractClassifier,
    part: Part,
    records: Records,
    witnesses: dict[str, np.ndarray],
) -> Panels:
    """What the page says of the attacks of the first network and needs that network for.

    Args:
        model: The first network of the run.
        part: Images as stored, labels and indices.
        records: The run.
        witnesses: Its closest wrong images, by norm.

    Returns:
        By norm the count of wrong images that survive 8 bits and, where enough attacks ran to be
        compared, on a few of the images of all of them: accuracy against the number of gradients,
        against number and length of the steps of PGD, and what its restarts break.
    """
    panels: Panels = {}
    key = jax.random.key(attack_seed(records.info))
    for norm in records.norms:
        merged = records.radii_of(norm)[0]
        panels[f"uint8/{norm}"] = _survivors(model, merged, witnesses[norm], part)
        alone = Alone.of(records, norm)
        if alone is not None and alone.enough:
            panels |= _Probe(model, part, merged, alone, key).panels()
    return panels


def _survivors(
    model: AbstractClassifier, radii: Radii, witness: np.ndarray, part: Part
) -> Int[np.ndarray, " 2"]:
    """Wrong images that are still wrong in 8 bits, and how many there were."""
    found = np.flatnonzero(np.isfinite(radii.upper) & (radii.upper > 0))
    if not found.size:
        return np.zeros(2, np.int64)
    rounded = to_float(np.rint(witness[found] * 255).astype(np.uint8))
    margins, _ = judge_batch(model, rounded, part.labels[found])
    return np.array([np.sum(margins <= 0), found.size], np.int64)


class _Probe:
    """The experiments in one norm, on images spread evenly over those of all attacks."""

    def __init__(
        self, model: AbstractClassifier, part: Part, merged: Radii, alone: Alone, key: PRNGKeyArray
    ) -> None:
        self.model, self.alone, self.key = model, alone, key
        # Not the first of them: the later half of MNIST's test images is the easier one.
        spread = np.linspace(0, alone.images - 1, min(IMAGES, alone.images)).round().astype(int)
        self.places = alone.places[spread]
        self.part = part.take(self.places)
        self.right = merged.upper[self.places] > 0

    def panels(self) -> Panels:
        norm = self.alone.norm
        found: Panels = {
            f"probe/{norm}/eps": np.asarray(self.alone.eps),
            f"probe/{norm}/places": self.places,
        }
        pgd = ATTACKS.get(f"pgd40-{norm}")
        if isinstance(pgd, PGD):
            found |= self._step_grid(pgd) | self._restarts(pgd)
        return found | self._convergence()

    def _step_grid(self, pgd: PGD) -> Panels:
        """One run of a length of step tells of every smaller number of steps as well."""
        norm = self.alone.norm
        accuracy = [self._accuracy(self._seen(_paced(pgd, share)))[[*STEPS]] for share in SHARES]
        return {
            f"grid/{norm}/steps": np.array(STEPS),
            f"grid/{norm}/shares": np.array(SHARES),
            f"grid/{norm}/accuracy": np.stack(accuracy),
        }

    def _restarts(self, pgd: PGD) -> Panels:
        seen = [self._seen(_paced(pgd, 0.1), restart)[:, -1] for restart in range(RESTARTS)]
        return {f"restarts/{self.alone.norm}/broken": np.stack(seen) & self.right}

    def _convergence(self) -> Panels:
        methods, curves, seconds = [], [], []
        for name in self.alone.methods:
            attack = ATTACKS.get(name)
            if not isinstance(attack, Pathed):
                continue
            # The same program as of the grid, where there was one.
            attack = _paced(attack, attack.rel_step_size) if isinstance(attack, PGD) else attack
            with stopwatch() as elapsed:
                seen = self._seen(attack, name=name)
            methods.append(name)
            curves.append(self._accuracy(seen))
            seconds.append(elapsed.seconds)
        if not methods:
            return {}
        points = max(map(len, curves))
        pad = lambda curve: np.pad(curve, (0, points - len(curve)), constant_values=np.nan)
        prefix = f"convergence/{self.alone.norm}"
        return {
            f"{prefix}/methods": np.array(methods),
            f"{prefix}/accuracy": np.stack([pad(curve) for curve in curves]),
            f"{prefix}/seconds": np.array(seconds),
        }

    def _seen(
        self, attack: Pathed, restart: int = 0, *, name: str = "probe"
    ) -> Bool[np.ndarray, "images points"]:
        """Whether a wrong image within eps was seen after 0, 1, ... gradients."""
        key = jax.random.fold_in(method_key(self.key, name), restart)
        eps = jnp.asarray(self.alone.eps, jnp.float32)
        labels, ids = (jnp.asarray(a, jnp.int32) for a in (self.part.labels, self.part.ids))
        wrong = _paths(attack, self.model, jnp.asarray(self.part.images), labels, ids, eps, key)
        return np.logical_or.accumulate(np.asarray(wrong), axis=1)

    def _accuracy(self, seen: Bool[np.ndarray, "images points"]) -> Float[np.ndarray, " points"]:
        return np.mean(self.right[:, None] & ~seen, axis=0)


def _paced(attack: PGD, share: float) -> PGD:
    """With a step that is traced, so that all lengths share one program."""
    return eqx.tree_at(lambda a: a.rel_step_size, attack, jnp.asarray(share, jnp.float32))


@eqx.filter_jit
def _paths(
    attack: Pathed,
    model: AbstractClassifier,
    images: UInt8[Array, "images pixels"],
    labels: Int[Array, " images"],
    ids: Int[Array, " images"],
    eps: Float[Array, ""],
    key: PRNGKeyArray,
) -> Bool[Array, "images points"]:
    """Whether the points reached after 0, 1, ... gradients are wrong and within `eps`."""

    def path(x: Array, y: Array, k: PRNGKeyArray) -> Array:
        if isinstance(attack, AbstractMinimalAttack):
            return attack.path(model, x, y, key=k)[1] <= eps
        return attack.path(model, x, y, eps=eps, key=k)[1]

    return jax.vmap(path)(to_float(images), labels, image_keys(key, ids))
