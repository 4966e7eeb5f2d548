"""Boundary attack: a random walk along the decision boundary, by the class alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from robust_mnist.attacks import _decision
from robust_mnist.attacks._base import AbstractMinimalAttack
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import L2, AbstractBall


# Of the last so many checks the share of wrong images is kept: on the sphere, and after the step.
_SPHERE_CHECKS, _STEP_CHECKS = 100, 30
# Outside of these shares the steps become longer or shorter.
_SPHERE_RANGE, _STEP_RANGE = (0.2, 0.5), (0.1, 0.25)
# How often the distance of the start is halved: no finer than a thousandth, as a walk begins there.
_HALVINGS = 10


class _Steps(eqx.Module):
    """Lengths of the two steps over the distance, and how their last checks ended: -1 is unknown.

    Attributes:
        sphere: Of the step to any side.
        source: Of the step towards the image.
        on_sphere: 1 where an image on the sphere was wrong, else 0.
        after_step: 1 where an image after both steps was wrong, else 0.
    """

    sphere: Float[Array, ""]
    source: Float[Array, ""]
    on_sphere: Float[Array, " sphere_checks"]
    after_step: Float[Array, " step_checks"]


class Boundary(AbstractMinimalAttack):
    """Step to a random side, keeping the distance, then towards the image; stay where it is right.

    The lengths of both steps follow the shares of wrong images among the last checks.

    Reference:
        Brendel, Rauber and Bethge, "Decision-based adversarial attacks: reliable attacks against
        black-box machine learning models", ICLR 2018, figure 2, with the numbers of the authors'
        Foolbox 3, from another start.

    Attributes:
        steps: Number of steps, a multiple of `every`; each asks for one class.
        sphere: First length of the step to the side, as a share of the distance.
        source: First length of the step towards the image, as a share of the distance.
        converged: The walk ends where `source` is below this.
        adaptation: Factor by which a step becomes longer or shorter.
        every: Steps between two checks, each of which asks for one more class.
    """

    steps: int = eqx.field(static=True, default=25_000)
    sphere: float = eqx.field(static=True, default=0.01)
    source: float = eqx.field(static=True, default=0.01)
    converged: float = eqx.field(static=True, default=1e-7)
    adaptation: float = eqx.field(static=True, default=1.5)
    every: int = eqx.field(static=True, default=10)

    def __check_init__(self) -> None:
        if self.steps < 1 or self.every < 1 or self.steps % self.every:
            raise ValueError(
                "Boundary takes a multiple of `every` steps, at least one, got "
                f"steps={self.steps} and every={self.every}"
            )

    @property
    def ball(self) -> AbstractBall:
        return L2()

    @property
    def about(self) -> str:
        return f"Boundary attack, which asks for classes alone: {self.steps} steps in L2"

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        is_wrong = _decision.decision(model, y)

        def turn(state: tuple[Array, _Steps], number: Array) -> tuple[tuple[Array, _Steps], None]:
            z, steps = state
            keys = jax.random.split(jax.random.fold_in(key, number), self.every)

            def walk(
                walked: tuple[Array, Bool[Array, ""], Array], key: PRNGKeyArray
            ) -> tuple[tuple[Array, Bool[Array, ""], Array], None]:
                z, *_ = walked
                on_sphere, after = self._propose(x, z, key, steps)
                wrong = is_wrong(after)
                closer = self.ball.size(after - x) < self.ball.size(z - x)
                take = wrong & closer & (steps.source >= self.converged)
                return (jnp.where(take, after, z), wrong, on_sphere), None

            # Of the last step alone it is checked how it ended.
            (z, wrong, on_sphere), _ = jax.lax.scan(walk, (z, jnp.array(False), z), keys)
            return (z, self._adapt(steps, number, is_wrong(on_sphere), wrong)), None

        seen = _decision.start(is_wrong, self.ball, x, jax.random.fold_in(key, 0))
        first = _decision.pull(is_wrong, self.ball, x, seen.image, _HALVINGS)
        steps = _Steps(
            jnp.asarray(self.sphere, x.dtype), jnp.asarray(self.source, x.dtype),
            jnp.full(_SPHERE_CHECKS, -1, x.dtype), jnp.full(_STEP_CHECKS, -1, x.dtype),
        )  # fmt: skip
        numbers = jnp.arange(1, self.steps // self.every + 1)
        (z, _), _ = jax.lax.scan(turn, (first, steps), numbers)
        return z

    def _propose(self, x: Array, z: Array, key: PRNGKeyArray, steps: _Steps) -> tuple[Array, Array]:
        """The image at the side, on the sphere around `x`, and the same after the step to `x`."""
        home, size = x - z, jnp.linalg.norm
        distance = size(home)
        side = jax.random.normal(key, x.shape, x.dtype)
        side = side - jnp.sum(side * home) * home / jnp.maximum(distance, 1e-12) ** 2
        side = side * steps.sphere * distance / size(side)
        on_sphere = jnp.clip(x + (side - home) / jnp.sqrt(steps.sphere**2 + 1), 0.0, 1.0)
        left = size(x - on_sphere)
        # The box has moved the image off the sphere: that is part of the step.
        length = jnp.maximum(steps.source * distance + left - distance, 0.0)
        after = on_sphere + length * (x - on_sphere) / jnp.maximum(left, 1e-12)
        return on_sphere, jnp.clip(after, 0.0, 1.0)

    def _adapt(self, steps: _Steps, number: Array, on_sphere: Array, wrong: Array) -> _Steps:
        note = lambda checks, result: checks.at[number % checks.size].set(
            result.astype(checks.dtype)
        )
        spheres, afters = note(steps.on_sphere, on_sphere), note(steps.after_step, wrong)
        both, spheres = self._factor(spheres, _SPHERE_RANGE)
        source, afters = self._factor(afters, _STEP_RANGE)
        return _Steps(steps.sphere * both, steps.source * both * source, spheres, afters)

    def _factor(self, checks: Array, usual: tuple[float, float]) -> tuple[Array, Array]:
        """By what a step changes, and the checks, which are forgotten where it does."""
        share, full = jnp.mean(checks), jnp.all(checks >= 0)
        longer, shorter = full & (share > usual[1]), full & (share < usual[0])
        factor = jnp.where(longer, self.adaptation, jnp.where(shorter, 1 / self.adaptation, 1.0))
        return factor, jnp.where(longer | shorter, -1.0, checks)
