"""Towards one class after another."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks.losses import Toward
from robust_mnist.attacks.pgd import PGD
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall


class Targeted(AbstractBallAttack):
    """Runs an attack towards the likeliest wrong classes in turn and keeps the smallest margin.

    Attributes:
        attack: The attack whose loss is replaced.
        targets: How many classes to try, likeliest first; 9 for all of ten.
    """

    attack: PGD
    targets: int = eqx.field(static=True, default=9)

    def __check_init__(self) -> None:
        if self.targets < 1:
            raise ValueError(f"Targeted needs at least one target class, got {self.targets}")

    @property
    def about(self) -> str:
        return (
            f"PGD towards each of {self.targets} wrong classes: {self.attack.steps} steps of "
            f"{self.attack.rel_step_size:g} eps in {self.ball.title}, 1 random start each"
        )

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
        logits = model(x)
        count = min(self.targets, logits.size - 1)
        order = jnp.argsort(metrics.other_logits(logits, y), descending=True)[:count]

        def try_one(target: Array) -> tuple[Array, Array]:
            attack = dataclasses.replace(self.attack, loss=Toward(target))
            # Keyed by class, so that the order of the targets does not change the draw.
            z = attack(model, x, y, eps=eps, key=jax.random.fold_in(key, target))
            return z, metrics.margin(model(z), y)

        images, margins = jax.lax.map(try_one, order)
        # NaN margins must not win the minimum.
        return images[jnp.argmin(jnp.where(jnp.isnan(margins), jnp.inf, margins))]
