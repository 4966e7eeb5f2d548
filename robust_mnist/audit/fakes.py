"""Known ways to look robust without being it, each wrapped around a sound network.

None of them is a defence: the images that fool the network inside are there as before, and only
the search for them is led astray. A check that cannot tell such a network from a sound one does
not guard a curve either, which is what `selftest` finds out.

To add one, write a class and name how it is wrapped around a classifier in `FAKES`.
"""

import abc
import zlib
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from robust_mnist.errors import InputError
from robust_mnist.models import MLP, AbstractClassifier
from robust_mnist.models.mlp import ACTIVATIONS


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


class KilledGradient(AbstractFake):
    """The gradient ends at the input: an attack that follows it stays where it starts.

    Attributes:
        model: The network inside.
    """

    model: AbstractClassifier

    @property
    def about(self) -> str:
        return "the input has no gradient"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.model(jax.lax.stop_gradient(x))


class ReversedGradient(AbstractFake):
    """The gradient is finite, of the right size, and points the other way.

    Attributes:
        model: The network inside.
    """

    model: AbstractClassifier

    @property
    def about(self) -> str:
        return "the gradient points the other way"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.model(2 * jax.lax.stop_gradient(x) - x)


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
        phase = 2 * jnp.pi * self.waves * x + jnp.arange(x.size, dtype=x.dtype)
        return self.model(x + self.height * jnp.sin(phase))


class QuantisedInput(AbstractFake):
    """Grey levels are rounded to a few: a staircase, whose slope is 0.

    Reference:
        Buckman et al., "Thermometer encoding: one hot way to resist adversarial examples", ICLR
        2018, and its attack in Athalye, Carlini and Wagner, ICML 2018.

    Attributes:
        model: The network inside.
        levels: Grey levels that are left, at least 2.
    """

    model: AbstractClassifier
    levels: int

    @property
    def about(self) -> str:
        return f"the input is rounded to {self.levels} grey levels"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        return self.model(jnp.round(x * (self.levels - 1)) / (self.levels - 1))


class KWinners(AbstractFake):
    """Only the strongest units of each hidden layer answer: the output jumps wherever they change.

    Reference:
        Xiao, Zhong and Zheng, "Enhancing adversarial defense by k-winners-take-all", ICLR 2020, and
        its attack in Tramer et al., "On adaptive attacks to adversarial example defenses", NeurIPS
        2020.

    Attributes:
        model: The network inside.
        share: Part of the units of a layer that answer, in (0, 1].
    """

    model: MLP
    share: float = eqx.field(static=True)

    @property
    def about(self) -> str:
        return f"{self.share:.0%} of the hidden units answer"

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        for layer in self.model.layers[:-1]:
            x = self._winners(ACTIVATIONS[self.model.activation](layer(x)))
        return self.model.layers[-1](x)

    def _winners(self, units: Float[Array, " units"]) -> Float[Array, " units"]:
        strength = jnp.abs(units)
        least = jax.lax.top_k(strength, max(1, round(self.share * units.size)))[0][-1]
        return jnp.where(strength >= least, units, jnp.zeros_like(units))


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
        still = jax.lax.stop_gradient(logits)
        noise = jax.pure_callback(_draw, still, still, vmap_method="broadcast_all")
        return logits + self.deviation * noise


_generator = np.random.default_rng(zlib.crc32(b"noisy-output"))


def _draw(like: Array) -> np.ndarray:
    return _generator.standard_normal(like.shape).astype(like.dtype)


def _k_winners(share: float) -> Callable[[AbstractClassifier], AbstractFake]:
    def wrap(model: AbstractClassifier) -> AbstractFake:
        if not isinstance(model, MLP):
            raise InputError(f"k-winners needs the layers of an MLP, got {type(model).__name__}")
        return KWinners(model, share)

    return wrap


FAKES: dict[str, Callable[[AbstractClassifier], AbstractFake]] = {
    "logits-x1000": lambda model: ScaledLogits(model, 1000.0),
    "gradient-killed": KilledGradient,
    "gradient-reversed": ReversedGradient,
    "gradient-shattered": lambda model: ShatteredGradient(model, height=0.002, waves=2000.0),
    "input-2-levels": lambda model: QuantisedInput(model, 2),
    "input-8-levels": lambda model: QuantisedInput(model, 8),
    "k-winners": _k_winners(0.2),
    "softmax": lambda model: SoftmaxOutput(model, 1.0),
    "softmax-cold": lambda model: SoftmaxOutput(model, 1e-3),
    "noise": lambda model: NoisyOutput(model, 1.0),
}
