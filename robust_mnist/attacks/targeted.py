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


def likeliest(
    model: AbstractClassifier, x: Float[Array, " pixels"], y: Int[Array, ""], ball: AbstractBall
) -> Int[Array, " classes"]:
    """Classes by their logits at `x`, the true one last."""
    del ball
    return jnp.argsort(metrics.other_logits(model(x), y), descending=True)


def nearest(
    model: AbstractClassifier, x: Float[Array, " pixels"], y: Int[Array, ""], ball: AbstractBall
) -> Int[Array, " classes"]:
    """Classes by how near in `ball` a linearised model puts them; the true one last.

    That is the lead of the true class over the norm of its gradient, the norm dual to the ball's.
    Ten classes cost ten passes backward.

    Reference:
        Melamed, Yehudai and Shamir, "MALT powers up adversarial attacks", NeurIPS 2024.
    """
    logits, slopes = model(x), jax.jacrev(model)(x)
    leads = logits[y] - metrics.other_logits(logits, y)
    steepest = lambda slope: jnp.sum(slope * ball.steepest(slope))
    sizes = jax.vmap(steepest)(slopes - slopes[y][None])
    return jnp.argsort(leads / jnp.maximum(sizes, jnp.finfo(sizes.dtype).tiny))


class Targeted(AbstractBallAttack):
    """Runs an attack towards one wrong class after another and keeps the smallest margin.

    Attributes:
        attack: The attack whose loss is replaced.
        targets: How many classes to try; 9 for all of ten.
        toward: Makes the loss that leads to a class.
        order: Which classes come first, `likeliest` or `nearest`; of no account when all are tried.
    """

    attack: PGD | APGD | APGDL1
    targets: int = eqx.field(static=True, default=9)
    toward: Callable[[Int[Array, ""]], AbstractLoss] = eqx.field(static=True, default=Toward)
    order: Callable[..., Int[Array, " classes"]] = eqx.field(static=True, default=likeliest)

    def __check_init__(self) -> None:
        if self.targets < 1:
            raise ValueError(f"Targeted needs at least one target class, got {self.targets}")

    @property
    def about(self) -> str:
        name = type(self.attack).__name__
        which = "" if self.order is likeliest else f"{self.order.__name__} "
        towards = f"{name} towards each of {self.targets} {which}wrong classes"
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
        order = self.order(model, x, y, self.ball)
        order = order[: min(self.targets, order.size - 1)]

        def try_one(target: Array) -> tuple[Array, Array]:
            attack = dataclasses.replace(self.attack, loss=self.toward(target))
            # Keyed by class, so that the order of the targets does not change the draw.
            z = attack(model, x, y, eps=eps, key=jax.random.fold_in(key, target))
            return z, metrics.margin(model(z), y)

        images, margins = jax.lax.map(try_one, order)
        # NaN margins must not win the minimum.
        return images[jnp.argmin(jnp.where(jnp.isnan(margins), jnp.inf, margins))]
