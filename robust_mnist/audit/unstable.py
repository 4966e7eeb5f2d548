"""G13: the margin is smooth at the size of the attack."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.sweep import judge_batch


DRAWS = 20


def unstable(evidence: Evidence) -> Finding | None:
    """How much noise of the attacked radius moves the margin, over the spread of clean margins.

    Random noise is nearly at a right angle to the gradient and moves a smooth network little, where
    an attack of the same size halves its accuracy. A margin that noise throws about has no useful
    gradient. Published is the change of the loss relative to itself, which a confident image makes
    large without being unstable, at a fixed radius of 8/255; here both are taken from the run, and
    the limit of 0.1 is kept for a person to look.

    Reference:
        Pintor et al., "Indicators of attack failure", NeurIPS 2022.
    """
    probe = evidence.probe
    if probe is None:
        return None
    clean, _ = judge_batch(probe.model, probe.pixels, probe.part.labels)

    @jax.jit
    def noisy(pixels: Float[Array, "images pixels"], key: PRNGKeyArray) -> Array:
        draw = lambda x, k: probe.ball.sample(k, x.size, jnp.asarray(probe.eps, x.dtype))
        change = jax.vmap(draw)(pixels, jax.random.split(key, len(pixels)))
        return jnp.clip(pixels + change, 0.0, 1.0)

    keys = jax.random.split(jax.random.fold_in(probe.key, 13), DRAWS)
    moved = [
        judge_batch(probe.model, np.asarray(noisy(probe.pixels, key)), probe.part.labels)[0]
        for key in keys
    ]
    number = float(np.median(np.std(moved, axis=0)) / np.std(clean))
    return Finding(
        title="the margin is smooth at the size of the attack",
        verdict="ok" if number <= 0.1 else "look" if number <= 0.5 else "fail",
        number=number,
        threshold="look above 0.1, fail above 0.5 of the spread of clean margins, or not a number",
        meaning=(
            f"Median over {probe.where} of the margin's deviation under {DRAWS} draws of noise."
        ),
    )
