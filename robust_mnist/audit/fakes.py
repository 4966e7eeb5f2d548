"""Known ways to look robust without being it, each wrapped around a sound network.

None of them is a defence: the images that fool the network inside are there as before, and only
the search for them is led astray. A check that cannot tell such a network from a sound one does
not guard a curve either, which is what `selftest` finds out.

To add one, write a class and name in `FAKES` how it is wrapped around a classifier, and which check
has to notice it.
"""

import abc
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from robust_mnist.audit._evidence import Verdict
from robust_mnist.models import AbstractClassifier


# What the driver itself objects to is told under this name, beside the checks.
CONTRADICTION = "contradiction"


class AbstractFake(AbstractClassifier):
    """A classifier that seems more robust than it is."""

    @property
    @abc.abstractmethod
    def about(self) -> str:
        """What it does to mislead, in one line with its numbers."""


class ScaledLogits(AbstractFake):
    """Logits times a factor: the decisions are the same, and cross-entropy underflows to 0.

    Reference:
        Carlini and Wagner, "Towards evaluating the robustness of neural networks", 2017, on
        defensive distillation.

    Attributes:
        model: The network inside.
        factor: What its logits are multiplied by.
    """

    model: AbstractClassifier
    factor: float

    @property
    def about(self) -> str:
        return f"logits times {self.factor:g}"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.factor * self.model(x)


class BentGradient(AbstractFake):
    """The answers are the network's, and the gradient is multiplied on its way to some pixels.

    At 0 an attack that follows it stays where it starts; below 0 the gradient is finite, of a
    plausible size, and points the other way.

    Attributes:
        model: The network inside.
        factor: What the gradient is multiplied by, 1 for none.
        share: Share of the pixels at which it is, spread evenly, in (0, 1].
    """

    model: AbstractClassifier
    factor: float
    share: float = 1.0

    @property
    def about(self) -> str:
        where = "" if self.share == 1 else f" at {self.share:.0%} of the pixels"
        what = {0.0: "the input has no gradient", -1.0: "the gradient points the other way"}
        return what.get(self.factor, f"the gradient times {self.factor:g}") + where

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        bent = (0.618 * jnp.arange(x.size, dtype=x.dtype)) % 1 < self.share
        still = jax.lax.stop_gradient(x)
        return self.model(still + jnp.where(bent, self.factor, 1.0) * (x - still))


class ShatteredGradient(AbstractFake):
    """A ripple over the pixels, too low to change an answer and steep enough to hide the slope.

    Reference:
        Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML
        2018.

    Attributes:
        model: The network inside.
        height: How far the ripple moves a pixel at most, in units of pixel intensity.
        waves: Ripples from black to white.
    """

    model: AbstractClassifier
    height: float
    waves: float

    @property
    def about(self) -> str:
        return f"{self.waves:g} ripples of {self.height:g} over every pixel"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        # Pixels are out of step with each other: most are 0, where all would slope alike.
        phase = self.waves * x + 0.618 * jnp.arange(x.size, dtype=x.dtype)
        ripple = 4 * jnp.abs(phase - jnp.round(phase)) - 1  # a triangle between -1 and 1
        return self.model(x + self.height * ripple)


class QuantisedInput(AbstractFake):
    """Grey levels are rounded to a few: a staircase, whose slope is 0.

    Reference:
        Buckman et al., "Thermometer encoding: one hot way to resist adversarial examples", ICLR
        2018, and its attack in Athalye, Carlini and Wagner, ICML 2018.

    Attributes:
        model: The network inside.
        levels: Grey levels that are left, at least 2.
        shift: Added before rounding, in units of a level, between -0.5 and 0.5: with 2 levels, a
            pixel is white from 0.5 - `shift` on.
    """

    model: AbstractClassifier
    levels: int
    shift: float = 0.0

    @property
    def about(self) -> str:
        shift = "" if self.shift == 0 else f", shifted by {self.shift:g} of one"
        return f"the input is rounded to {self.levels} grey levels{shift}"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.model(jnp.round(x * (self.levels - 1) + self.shift) / (self.levels - 1))


class KWinners(AbstractFake):
    """Units tuned to grey levels compete for every pixel: the output jumps where another one wins.

    That is k-winners-take-all with k = 1, in front of the network. Between the layers of a finished
    network it takes away accuracy and hardly any gradient, and would deceive nobody.

    Reference:
        Xiao, Zhong and Zheng, "Enhancing adversarial defense by k-winners-take-all", ICLR 2020, and
        its attack in Tramer et al., "On adaptive attacks to adversarial example defenses", NeurIPS
        2020.

    Attributes:
        model: The network inside.
        units: Units per pixel, at least 2.
    """

    model: AbstractClassifier
    units: int

    @property
    def about(self) -> str:
        return f"of {self.units} units per pixel the strongest answers"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        # The unit tuned nearest is excited most, 1 - (x - tuned)^2; rounding tells which it is.
        tuned = jnp.round(x * (self.units - 1)) / (self.units - 1)
        return self.model(tuned * (1 - (x - tuned) ** 2))


class SoftmaxOutput(AbstractFake):
    """Probabilities in the place of logits: between sure answers there is no slope to follow.

    Attributes:
        model: The network inside.
        temperature: What its logits are divided by first; small ones make every answer sure.
    """

    model: AbstractClassifier
    temperature: float

    @property
    def about(self) -> str:
        cold = "" if self.temperature == 1 else f" at temperature {self.temperature:g}"
        return f"softmax{cold} given as logits"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return jax.nn.softmax(self.model(x) / self.temperature)


class NoisyOutput(AbstractFake):
    """Every answer is drawn anew: an attack steers by noise, and a lucky draw looks like a find.

    The noise comes from the host, because a program of JAX cannot draw without a key.

    Attributes:
        model: The network inside.
        deviation: Standard deviation of the noise on each logit.
    """

    model: AbstractClassifier
    deviation: float

    @property
    def about(self) -> str:
        return f"logits with fresh noise of standard deviation {self.deviation:g}"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        logits = self.model(x)
        # The noise takes no part in the gradient; logits only tell how much of it to draw.
        still = jax.lax.stop_gradient(logits).astype(jnp.float32)
        noise = jax.pure_callback(_draw, still, still, vmap_method="broadcast_all")
        return logits + self.deviation * noise.astype(logits.dtype)


_generator = np.random.default_rng(zlib.crc32(b"noise"))


def _draw(like: Float[Array, "... classes"]) -> Float32[np.ndarray, "... classes"]:
    return _generator.standard_normal(like.shape, dtype=np.float32)


class Planted(NamedTuple):
    """A fake, and what has to be said of it.

    Attributes:
        wrap: Puts the fake around a sound network.
        due: By the name of a check, or `contradiction`, the mildest verdict that counts; one of
            them has to come. What other checks say proves nothing: it may be something else.
    """

    wrap: Callable[[AbstractClassifier], AbstractFake]
    due: Mapping[str, Verdict]


FAKES: dict[str, Planted] = {
    "logits-x1000": Planted(lambda m: ScaledLogits(m, 1000.0), {"G1-input-gradients": "fail"}),
    "gradient-killed": Planted(lambda m: BentGradient(m, 0.0), {"G1-input-gradients": "fail"}),
    "gradient-reversed": Planted(lambda m: BentGradient(m, -1.0), {"G20-planted": "fail"}),
    "gradient-shattered": Planted(
        lambda m: ShatteredGradient(m, height=0.005, waves=400.0), {"G20-planted": "fail"}
    ),
    "input-2-levels": Planted(lambda m: QuantisedInput(m, 2), {"G1-input-gradients": "fail"}),
    "input-8-levels": Planted(lambda m: QuantisedInput(m, 8), {"G1-input-gradients": "fail"}),
    "k-winners": Planted(lambda m: KWinners(m, 16), {"G20-planted": "fail"}),
    "softmax": Planted(lambda m: SoftmaxOutput(m, 1.0), {"G19-logits": "fail"}),
    "softmax-cold": Planted(lambda m: SoftmaxOutput(m, 1e-3), {"G19-logits": "fail"}),
    # Which of the two it is lies with the draws: one that nothing contradicts reaches the checks.
    "noise": Planted(lambda m: NoisyOutput(m, 1.0), {CONTRADICTION: "fail", "G19-logits": "fail"}),
    "noise-faint": Planted(
        lambda m: NoisyOutput(m, 0.01), {CONTRADICTION: "fail", "G19-logits": "fail"}
    ),
}
