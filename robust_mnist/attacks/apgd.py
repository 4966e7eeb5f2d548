"""Automatic projected gradient descent."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from robust_mnist import metrics
from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks.losses import AbstractLoss, CrossEntropy, words
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


class _State(eqx.Module):
    z: Float[Array, " pixels"]
    before: Float[Array, " pixels"]
    gradient: Float[Array, " pixels"]
    value: Float[Array, ""]
    step: Float[Array, ""]
    best: Float[Array, " pixels"]
    best_gradient: Float[Array, " pixels"]
    best_value: Float[Array, ""]
    wrong: Float[Array, " pixels"]
    found: Bool[Array, ""]
    rises: Int[Array, ""]
    value_at_check: Float[Array, ""]
    halved_at_check: Bool[Array, ""]


class APGD(AbstractBallAttack):
    """PGD with momentum, whose step is halved where progress stalls, at fixed checkpoints.

    The answer is the last wrong image seen, or the one of the highest loss where there is none.
    The loss of the step before the first counts as 0, as in the authors' code.

    Reference:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020, algorithm 1.

    Attributes:
        ball: Norm that bounds the perturbation, Linf or L2.
        loss: What to ascend.
        steps: Number of gradient steps, at least 1; one gradient more is computed.
        rho: A step is halved where at most this share of the steps since the last checkpoint rose.
    """

    ball: AbstractBall = Linf()
    loss: AbstractLoss = CrossEntropy()
    steps: int = eqx.field(static=True, default=100)
    rho: float = eqx.field(static=True, default=0.75)

    def __check_init__(self) -> None:
        if self.ball.name not in {"linf", "l2"}:
            raise ValueError(f"APGD acts in linf or l2, got {self.ball.name}")
        if self.steps < 1:
            raise ValueError(f"APGD takes at least one step, got steps={self.steps}")

    @property
    def about(self) -> str:
        return f"automatic PGD (APGD) on {words(self.loss)}: {self.pace}, 1 random start"

    @property
    def pace(self) -> str:
        """Number, length and norm of the steps, in words."""
        return f"{self.steps} steps from 2 eps down in {self.ball.title}"

    @property
    def one_step(self) -> bool:
        return False

    def windows(self) -> list[int]:
        """Number of steps before each checkpoint since the one before it."""
        window, shrink, floor = (
            max(int(share * self.steps), 1) for share in (0.22, 0.03, 0.06)
        )  # fmt: skip
        lengths: list[int] = []
        while sum(lengths) + window <= self.steps:
            lengths.append(window)
            window = max(window - shrink, floor)
        return lengths

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        return self.path(model, x, y, eps=eps, key=key)[0]

    def path(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, " pixels"], Bool[Array, " points"]]:
        """The answer, and whether the points reached after 0, 1, ... gradients are wrong."""

        def score(z: Array) -> tuple[tuple[Array, Array], Array]:
            def value(z: Array) -> tuple[Array, Array]:
                logits = model(z)
                return self.loss(logits, y), metrics.margin(logits, y) <= 0

            return jax.value_and_grad(value, has_aux=True)(z)

        def feasible(z: Array) -> Array:
            return jnp.clip(x + self.ball.project(z - x, eps), 0.0, 1.0)

        def advance(state: _State, plan: tuple[Array, Array, Array]) -> tuple[_State, Array]:
            share, check, window = plan
            aim = feasible(state.z + state.step * self.ball.steepest(state.gradient))
            momentum = (1.0 - share) * (state.z - state.before)
            z = feasible(state.z + share * (aim - state.z) + momentum)
            (value, wrong), gradient = score(z)
            better = value > state.best_value
            state = _State(
                z=z,
                before=state.z,
                gradient=gradient,
                value=value,
                step=state.step,
                best=jnp.where(better, z, state.best),
                best_gradient=jnp.where(better, gradient, state.best_gradient),
                best_value=jnp.where(better, value, state.best_value),
                wrong=jnp.where(wrong, z, state.wrong),
                found=state.found | wrong,
                rises=state.rises + (value > state.value).astype(jnp.int32),
                value_at_check=state.value_at_check,
                halved_at_check=state.halved_at_check,
            )
            return jax.tree.map(
                lambda yes, no: jnp.where(check, yes, no), self._check(state, window), state
            ), wrong

        draw = self._draw(key, x.size).astype(x.dtype)
        start = jnp.clip(x + eps * draw, 0.0, 1.0)
        (value, wrong), gradient = score(start)
        first = _State(
            z=start, before=start, gradient=gradient, value=jnp.zeros_like(value), step=2 * eps,
            best=start, best_gradient=gradient, best_value=value, wrong=start, found=wrong,
            rises=jnp.zeros((), jnp.int32), value_at_check=value,
            # So that the second reason to halve cannot apply at the first checkpoint.
            halved_at_check=jnp.array(True),
        )  # fmt: skip
        last, reached = jax.lax.scan(advance, first, self._plan(x.dtype))
        return jnp.where(last.found, last.wrong, last.best), jnp.append(wrong, reached)

    def _check(self, state: _State, window: Array) -> _State:
        stalled = state.rises.astype(window.dtype) <= self.rho * window
        idle = ~state.halved_at_check & (state.value_at_check >= state.best_value)
        halve = stalled | idle
        return _State(
            # From the best image with its gradient; the step before is left as it was.
            z=jnp.where(halve, state.best, state.z),
            before=state.before,
            gradient=jnp.where(halve, state.best_gradient, state.gradient),
            value=state.value,
            step=jnp.where(halve, state.step / 2, state.step),
            best=state.best,
            best_gradient=state.best_gradient,
            best_value=state.best_value,
            wrong=state.wrong,
            found=state.found,
            rises=jnp.zeros_like(state.rises),
            value_at_check=state.best_value,
            halved_at_check=halve,
        )

    def _plan(self, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
        """Per step: the share of the new direction, whether to check, and the window checked."""
        share = np.full(self.steps, 0.75)
        share[0] = 1.0
        window = np.zeros(self.steps)
        windows = self.windows()
        window[np.cumsum(windows, dtype=int) - 1] = windows
        return jnp.asarray(share, dtype), jnp.asarray(window > 0), jnp.asarray(window, dtype)

    def _draw(self, key: PRNGKeyArray, pixels: int) -> Float[Array, " pixels"]:
        """A random point of size exactly 1."""
        if self.ball.name == "linf":
            draw = jax.random.uniform(key, (pixels,), minval=-1.0, maxval=1.0)
        else:
            draw = jax.random.normal(key, (pixels,))
        return draw / self.ball.size(draw)
