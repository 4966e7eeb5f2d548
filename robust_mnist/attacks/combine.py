"""Attacks made of attacks."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack, AbstractMinimalAttack
from robust_mnist.models import AbstractClassifier, AbstractStochasticClassifier, Expectation
from robust_mnist.threat import AbstractBall


class Restarts(AbstractBallAttack):
    """Runs an attack from several random starts and keeps the smallest margin.

    Attributes:
        attack: What is repeated.
        restarts: How often, at least 1.
    """

    attack: AbstractBallAttack
    restarts: int = eqx.field(static=True, default=10)

    def __check_init__(self) -> None:
        if self.restarts < 1:
            raise ValueError(f"Restarts needs restarts of at least 1, got {self.restarts}")

    @property
    def about(self) -> str:
        return f"worst of {self.restarts} runs of {self.attack.about}"

    @property
    def ball(self) -> AbstractBall:
        return self.attack.ball

    @property
    def one_step(self) -> bool:
        return False

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        run = lambda k: self.attack(model, x, y, eps=eps, key=k)
        # Folded, not split: the first restarts are the same however many there are.
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(self.restarts))
        return worst(model, jax.lax.map(run, keys), y)


class WorstOf(AbstractBallAttack):
    """Runs several attacks of one norm and keeps the smallest margin.

    Attributes:
        attacks: What is run, at least one.
    """

    attacks: tuple[AbstractBallAttack, ...]

    def __check_init__(self) -> None:
        norms = sorted({attack.ball.name for attack in self.attacks})
        if len(norms) != 1:
            raise ValueError(f"WorstOf takes attacks of one norm, got {norms or 'none'}")

    @property
    def about(self) -> str:
        return "the worst of: " + "; ".join(attack.about for attack in self.attacks)

    @property
    def ball(self) -> AbstractBall:
        return self.attacks[0].ball

    @property
    def one_step(self) -> bool:
        return False

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        found = [attack(model, x, y, eps=eps, key=key) for attack in self.attacks]
        return worst(model, jnp.stack(found), y)


class Transfer(AbstractBallAttack):
    """Attacks other networks, and hopes that the target is fooled as well.

    Attributes:
        attack: What is run on each of them.
        siblings: The networks that are attacked in place of the target, at least one.
    """

    attack: AbstractBallAttack
    siblings: tuple[AbstractClassifier, ...]

    def __check_init__(self) -> None:
        if not self.siblings:
            raise ValueError("Transfer needs another network to attack, got none")

    @property
    def about(self) -> str:
        return f"transferred from {len(self.siblings)} other networks: {self.attack.about}"

    @property
    def ball(self) -> AbstractBall:
        return self.attack.ball

    @property
    def one_step(self) -> bool:
        return False

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        found = [self.attack(sibling, x, y, eps=eps, key=key) for sibling in self.siblings]
        return worst(model, jnp.stack(found), y)


class EOT(AbstractBallAttack):
    """Attacks the expectation of a stochastic classifier (expectation over transformation).

    What it attacks stands in place of the target, and its draws are its own: the target, judged
    afterwards, may be an average as well or a single draw.

    Reference:
        Athalye, Engstrom, Ilyas and Kwok, "Synthesizing robust adversarial examples", ICML 2018.

    Attributes:
        attack: What is run on the expectation.
        model: The stochastic classifier.
        samples: Draws for every image the attack asks about, at least 1.
    """

    attack: AbstractBallAttack
    model: AbstractStochasticClassifier
    samples: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"EOT takes at least one sample, got {self.samples}")

    @property
    def about(self) -> str:
        return f"over the expectation of {self.samples} draws: {self.attack.about}"

    @property
    def ball(self) -> AbstractBall:
        return self.attack.ball

    @property
    def one_step(self) -> bool:
        return self.attack.one_step

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        del model  # what it draws is not the attacker's to know
        draw_key, attack_key = jax.random.split(key)
        expected = Expectation(self.model, draw_key, self.samples)
        return self.attack(expected, x, y, eps=eps, key=attack_key)


class Within(AbstractBallAttack):
    """A minimal attack in a ball: its image where that lies inside, else the clean one.

    Attributes:
        attack: What searches for the closest wrong image.
    """

    attack: AbstractMinimalAttack

    @property
    def about(self) -> str:
        return f"within the ball: {self.attack.about}"

    @property
    def ball(self) -> AbstractBall:
        return self.attack.ball

    @property
    def one_step(self) -> bool:
        return False

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        closest = self.attack(model, x, y, key=key)
        return jnp.where(self.ball.size(closest - x) <= eps, closest, x)


def worst(
    model: AbstractClassifier, images: Float[Array, "images pixels"], y: Int[Array, ""]
) -> Float[Array, " pixels"]:
    """The image of the smallest margin; a NaN does not win."""
    margins = jax.vmap(lambda z: metrics.margin(model(z), y))(images)
    return images[jnp.argmin(jnp.where(jnp.isnan(margins), jnp.inf, margins))]
