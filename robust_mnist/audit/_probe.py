"""Some images of a run, attacked again at a radius at which attacks differ."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, PRNGKeyArray, Shaped, UInt8

from robust_mnist.attacks import ATTACKS, PGD, AbstractBallAttack
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Radii
from robust_mnist.sweep import attack_batch, in_chunks, judge_batch, method_key, pull
from robust_mnist.threat import BALLS, AbstractBall


if TYPE_CHECKING:
    import pandas as pd

IMAGES = 200


@dataclasses.dataclass(frozen=True)
class Answers:
    """What an attack gave, pulled into ball and box and evaluated again, as the sweep does it.

    Attributes:
        images: The answers.
        margins: True logit minus the largest other one.
    """

    images: Float32[np.ndarray, "images pixels"]
    margins: Float64[np.ndarray, " images"]

    @property
    def broken(self) -> Bool[np.ndarray, " images"]:
        """Which images are wrong; a NaN is no success."""
        return self.margins <= 0


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """Some images of a run, attacked again at a radius at which attacks differ.

    At most 200 of those that every method ran on, whatever was known of them, at the radius of the
    sweep that leaves half of the right images standing: below it nothing is broken and above it
    everything is, whichever attack is used.

    Attributes:
        model: The network.
        part: The images.
        norm: The norm to attack in.
        eps: The radius.
        grid: All radii of the sweep in this norm, increasing.
        upper: Size of the closest wrong image that the run knows.
        method: The method that found it, or "".
        own: The same for each method alone; NaN where it did not run.
    """

    model: AbstractClassifier
    part: Part
    norm: str
    eps: float
    grid: tuple[float, ...]
    upper: Float[np.ndarray, " images"]
    method: np.ndarray
    own: dict[str, Float[np.ndarray, " images"]]
    _kept: dict[Any, Answers] = dataclasses.field(default_factory=dict)

    @classmethod
    def choose(
        cls,
        model: AbstractClassifier,
        part: Part,
        rows: "pd.DataFrame",
        radii: dict[str, Radii],
        own: dict[str, dict[str, np.ndarray]],
        norm: str,
    ) -> "Probe | None":
        """The images and the radius in a norm; None where it has no PGD or no radii above 0."""
        known = rows[(rows.norm == norm) & (rows.kind == "worst") & (rows.eps > 0)]
        if norm not in radii or known.empty or f"pgd40-{norm}" not in ATTACKS:
            return None
        alone, merged = own.get(norm, {}), radii[norm]
        ran = np.flatnonzero(
            np.all([~np.isnan(upper) for upper in alone.values()], axis=0)
            if alone else np.ones(len(part.labels), bool)
        )  # fmt: skip
        chosen = ran[np.linspace(0, len(ran) - 1, min(IMAGES, len(ran))).astype(int)]
        grid = np.unique(known.eps.to_numpy())
        upper = merged.upper[chosen]
        half = np.sum(upper > 0) / 2
        standing = np.sum(upper[:, None] > grid, axis=0)
        nearest = np.flatnonzero(np.abs(standing - half) == np.abs(standing - half).min())
        # A run that broke next to nothing is asked at its largest radius.
        at = nearest[-1] if standing[nearest[-1]] > half else nearest[0]
        return cls(
            model=model,
            part=part.take(chosen),
            norm=norm,
            eps=float(grid[at]),
            grid=tuple(map(float, grid)),
            upper=upper,
            method=merged.method[chosen],
            own={method: sizes[chosen] for method, sizes in alone.items()},
        )

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.part.labels)

    @property
    def ball(self) -> AbstractBall:
        """The norm as the attacks know it."""
        return BALLS[self.norm]

    @property
    def where(self) -> str:
        """What was attacked, in words."""
        return f"{self.count} images in {self.ball.title} at eps = {self.eps:g}"

    @property
    def known(self) -> Bool[np.ndarray, " images"]:
        """Which images the run knows to be broken at `eps`."""
        return self.upper <= self.eps

    @property
    def pixels(self) -> Float32[np.ndarray, "images pixels"]:
        """The clean images, in [0, 1]."""
        return to_float(self.part.images)

    @functools.cached_property
    def starts(self) -> Float32[np.ndarray, "images pixels"]:
        """A random point of each image's ball and box, where a search may start."""
        keys = jax.random.split(jax.random.fold_in(self.key, 1), self.count)
        return np.asarray(_drawn(self.ball, jnp.asarray(self.pixels), jnp.float32(self.eps), keys))

    @property
    def key(self) -> PRNGKeyArray:
        """Randomness of its own: other draws than those of the sweep."""
        return method_key(jax.random.key(0), "audit")

    def named(self, name: str) -> AbstractBallAttack | None:
        """The ball attack `<name>-<norm>`, if there is one."""
        attack = ATTACKS.get(f"{name}-{self.norm}")
        return attack if isinstance(attack, AbstractBallAttack) else None

    @property
    def ascent(self) -> PGD:
        """PGD of 40 steps, which the norm was chosen to have."""
        attack = self.named("pgd40")
        assert isinstance(attack, PGD)
        return attack

    def pgd(self, share: float = 1.0, *, restart: int = 0, eps: float | None = None) -> Answers:
        """What 40 steps of PGD, or `share` times as many, find; asked again, from memory.

        The draws do not depend on the number of steps, so that the first ones of a long run are
        those of a short one.
        """
        attack = self.ascent
        if share != 1.0:
            attack = dataclasses.replace(attack, steps=max(1, int(attack.steps * share)))
        what = (share, restart, eps)
        if what not in self._kept:
            self._kept[what] = self.attack(attack, restart=restart, eps=eps)
        return self._kept[what]

    def attack(
        self,
        attack: AbstractBallAttack,
        *,
        eps: float | None = None,
        model: AbstractClassifier | None = None,
        restart: int = 0,
        chunk: int | None = None,
    ) -> Answers:
        """Run an attack on the images and decide as the sweep decides.

        Args:
            attack: What is run.
            eps: Radius; by default that of the probe.
            model: Network under attack; by default that of the probe.
            restart: Number of the draw.
            chunk: Images per compiled call; by default all.
        """
        model = self.model if model is None else model
        radius = np.full(self.count, self.eps if eps is None else eps)
        key = jax.random.fold_in(self.key, restart)
        labels, ids = self.part.labels.astype(np.int32), self.part.ids.astype(np.int32)
        (found,) = in_chunks(
            lambda x, y, index, r: _answer(attack, model, x, y, index, r, key),
            chunk or self.count, self.part.images, labels, ids, radius.astype(np.float32),
        )  # fmt: skip
        images = pull(self.norm, self.pixels, found, radius)
        margins, _ = judge_batch(model, images, labels)
        return Answers(images, margins)


@eqx.filter_jit
def _answer(
    attack: AbstractBallAttack,
    model: AbstractClassifier,
    images: UInt8[Array, "images pixels"],
    labels: Int[Array, " images"],
    ids: Int[Array, " images"],
    eps: Float[Array, " images"],
    key: PRNGKeyArray,
) -> tuple[Float[Array, "images pixels"]]:
    return (attack_batch(attack, model, to_float(images), labels, ids=ids, eps=eps, key=key),)


@eqx.filter_jit
def _drawn(
    ball: AbstractBall,
    pixels: Float[Array, "images pixels"],
    eps: Float[Array, ""],
    keys: Shaped[Array, " images"],
) -> Float[Array, "images pixels"]:
    draw = lambda x, key: jnp.clip(x + ball.sample(key, x.size, eps), 0.0, 1.0)
    return jax.vmap(draw)(pixels, keys)


@eqx.filter_jit
def _logits(
    model: AbstractClassifier, pixels: Float[Array, "images pixels"]
) -> Float[Array, "images classes"]:
    with jax.default_matmul_precision("highest"):
        return jax.vmap(model)(pixels)


def logits_of(
    model: AbstractClassifier, pixels: Float32[np.ndarray, "images pixels"]
) -> Float[np.ndarray, "images classes"]:
    """The network's logits at the highest matmul precision."""
    return np.asarray(_logits(model, jnp.asarray(pixels)))
