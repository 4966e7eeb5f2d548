"""Towards one class after another."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks.apgd import APGD
from robust_mnist.attacks.apgd_l1 import APGDL1
from robust_mnist.attacks.losses import AbstractLoss, Toward
from robust_mnist.attacks.pgd import PGD
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall


class Targeted(AbstractBallAttack):
    """Runs an attack towards the likeliest wrong classes in turn and keeps the smallest margin.

    Attributes:
        attack: The attack whose loss is replaced.
        targets: How many classes to try, likeliest first; 9 for all of ten.
        toward: Makes the loss that leads to a class.
    """

    attack: PGD | APGD | APGDL1
    targets: int = eqx.field(static=True, default=9)
    toward: Callable[[Int[Array, ""]], AbstractLoss] = eqx.field(static=True, default=Toward)

    def __check_init__(self) -> None:
        if self.targets < 1:
            raise ValueError(f"Targeted needs at least one target class, got {self.targets}")

    @property
    def about(self) -> str:
        name = type(self.attack).__name__
        towards = f"{name} towards each of {self.targets} wrong classes"
        return f"{towards}: {self.attack.pace}, 1 random start each"

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
            attack = dataclasses.replace(self.attack, loss=self.toward(target))
            # Keyed by class, so that the order of the targets does not change the draw.
            z = attack(model, x, y, eps=eps, key=jax.random.fold_in(key, target))
            return z, metrics.margin(model(z), y)

        images, margins = jax.lax.map(try_one, order)
        # NaN margins must not win the minimum.
        return images[jnp.argmin(jnp.where(jnp.isnan(margins), jnp.inf, margins))]
