"""Automatic projected gradient descent in L1, by sparse steps."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks.losses import AbstractLoss, CrossEntropy, words
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L0, L1, cutoff


class _State(eqx.Module):
    z: Float[Array, " pixels"]
    gradient: Float[Array, " pixels"]
    step: Float[Array, ""]
    best: Float[Array, " pixels"]
    best_gradient: Float[Array, " pixels"]
    best_value: Float[Array, ""]
    wrong: Float[Array, " pixels"]
    found: Bool[Array, ""]
    changed: Float[Array, ""]


class APGDL1(AbstractBallAttack):
    """Sparse steps in the L1 ball and the box, sparser as the best image gets sparser.

    At a checkpoint the step is shortened; where the best image has become sparser, it is as long as
    the radius again and the search goes on from that image. All begins in larger balls, where it is
    easier to find a wrong image. The answer is the last wrong image seen in the ball itself, or the
    one of the highest loss there.

    Reference:
        Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
        ICML 2021, algorithm 1 and its multi-eps version, with the numbers of the authors' code.

    Attributes:
        loss: What to ascend.
        steps: Number of gradient steps in all, at least 1 in each ball.
        balls: Radius of each ball, in units of `eps`, and its share of the steps; the last one has
            radius 1 and the rest of the steps.
        fewer: A step moves this many times fewer pixels than the best image has changed, and is
            shortened by the same factor.
        shortest: Length of the shortest step, as a fraction of the radius.
        sparser: The best image counts as sparser where it has changed less than this share of the
            pixels it had at the last checkpoint.
    """

    loss: AbstractLoss = CrossEntropy()
    steps: int = eqx.field(static=True, default=100)
    balls: tuple[tuple[float, float], ...] = eqx.field(
        static=True, default=((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
    )
    fewer: float = eqx.field(static=True, default=1.5)
    shortest: float = eqx.field(static=True, default=0.1)
    sparser: float = eqx.field(static=True, default=0.95)

    def __check_init__(self) -> None:
        if not self.balls or self.balls[-1][0] != 1:
            raise ValueError(f"APGDL1 ends in the ball of radius 1 eps, got balls={self.balls}")
        if min(self.rounds()) < 1:
            raise ValueError(
                f"APGDL1 takes at least one step in each ball, got steps={self.steps}, which makes "
                f"{self.rounds()}"
            )

    @property
    def ball(self) -> L1:
        return L1()

    @property
    def about(self) -> str:
        return f"automatic PGD (APGD) on {words(self.loss)}: {self.pace}, 1 random start"

    @property
    def pace(self) -> str:
        """Number, length and norm of the steps, in words."""
        return f"{self.steps} sparse steps from {self.balls[0][0]:g} eps down in {self.ball.title}"

    @property
    def one_step(self) -> bool:
        return False

    def rounds(self) -> list[int]:
        """Number of steps in each ball."""
        first = [math.ceil(share * self.steps) for _, share in self.balls[:-1]]
        return [*first, self.steps - sum(first)]

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        def score(z: Array) -> tuple[tuple[Array, Array], Array]:
            def value(z: Array) -> tuple[Array, Array]:
                logits = model(z)
                return self.loss(logits, y), metrics.margin(logits, y) <= 0

            return jax.value_and_grad(value, has_aux=True)(z)

        start, found = x + self._draw(key, x.size).astype(x.dtype), []
        for (multiple, _), steps in zip(self.balls, self.rounds(), strict=True):
            radius = multiple * eps
            found.append(self._ascend(score, x, self._feasible(x, start, radius), radius, steps))
            start = found[-1].best
        last = found[-1]
        return jnp.where(last.found, last.wrong, last.best)

    def _ascend(self, score: Any, x: Array, start: Array, eps: Array, steps: int) -> _State:
        """The search in one ball."""

        def advance(state: _State, check: Array) -> tuple[_State, None]:
            move = state.step * self._direction(state.gradient, state.changed)
            z = self._feasible(x, state.z + move, eps)
            (value, wrong), gradient = score(z)
            better = value > state.best_value
            state = _State(
                z=z,
                gradient=gradient,
                step=state.step,
                best=jnp.where(better, z, state.best),
                best_gradient=jnp.where(better, gradient, state.best_gradient),
                best_value=jnp.where(better, value, state.best_value),
                wrong=jnp.where(wrong, z, state.wrong),
                found=state.found | wrong,
                changed=state.changed,
            )
            return jax.tree.map(
                lambda yes, no: jnp.where(check, yes, no), self._check(state, x, eps), state
            ), None

        (value, wrong), gradient = score(start)
        first = _State(
            z=start, gradient=gradient, step=eps, best=start, best_gradient=gradient,
            best_value=value, wrong=start, found=wrong, changed=L0().size(start - x),
        )  # fmt: skip
        window = max(int(0.04 * steps), 1)
        last, _ = jax.lax.scan(advance, first, jnp.arange(1, steps + 1) % window == 0)
        return last

    def _check(self, state: _State, x: Array, eps: Array) -> _State:
        changed = L0().size(state.best - x)
        sparser = changed < self.sparser * state.changed
        shorter = jnp.maximum(state.step / self.fewer, self.shortest * eps)
        return _State(
            z=jnp.where(sparser, state.best, state.z),
            gradient=jnp.where(sparser, state.best_gradient, state.gradient),
            step=jnp.where(sparser, eps, shorter),
            best=state.best,
            best_gradient=state.best_gradient,
            best_value=state.best_value,
            wrong=state.wrong,
            found=state.found,
            changed=changed,
        )

    def _direction(self, gradient: Array, changed: Array) -> Array:
        """Equal parts of a step of size 1, in the pixels of the largest entries of the gradient."""
        size = jnp.abs(gradient)
        moved = jnp.clip(jnp.ceil(changed / self.fewer), 1, size.size)
        least = cutoff(size, jnp.ones_like(size), moved - 1)
        signs = jnp.where(size >= least, jnp.sign(gradient), 0)
        return signs / jnp.maximum(L0().size(signs), 1.0)

    def _feasible(self, x: Array, z: Array, eps: Array) -> Array:
        return jnp.clip(x + self.ball.project_in_box(x, z - x, eps), 0.0, 1.0)

    def _draw(self, key: PRNGKeyArray, pixels: int) -> Float[Array, " pixels"]:
        """What is projected for a start: far outside the ball, so that it is sparse."""
        return jax.random.normal(key, (pixels,))
