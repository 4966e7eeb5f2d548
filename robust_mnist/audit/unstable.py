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
    gradient: attack such a network without gradients. Published is the change of the loss relative
    to itself under noise of 8/255, which fails sound networks: a confident one multiplies a loss
    that is next to nothing, and 8/255 may be far beyond its radius. Here scale and radius are the
    run's own. The right angle depends on the number of pixels, so the number is given as for 784;
    the limit of 0.1 is kept.

    The usual limit: 0.1 of the loss, noise of 8/255, 100 draws (Pintor et al. 2022). Measured:
    false alarms on 0 of 8 sound networks, 35 of 58 variants of fakes noticed, by the usual limit 4
    and 20; reports/data/audit-rates.md.

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
    number *= np.sqrt(probe.pixels.shape[1] / 784)
    return Finding(
        title="the margin is smooth at the size of the attack",
        verdict="ok" if number <= 0.1 else "look" if number <= 0.5 else "fail",
        number=number,
        threshold="look above 0.1, fail above 0.5 of the spread of clean margins, or not a number",
        meaning=(
            f"Median over {probe.where} of the margin's deviation under {DRAWS} draws of noise."
        ),
    )
