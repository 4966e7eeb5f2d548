"""G22: one attack alone comes near to all together."""

import numpy as np
from jaxtyping import Float

from robust_mnist.attacks import ATTACKS, AbstractBallAttack, Noise
from robust_mnist.audit._evidence import Evidence, Finding


def optimality(evidence: Evidence) -> Finding | None:
    """How near the best single attack's curve comes to the curve of all, 1 where they are one.

    The area between the two, over the area that the attack could have left. Attacks that agree are
    likely near the truth; where even the best of them is far from all together, each finds what
    the others miss, and one more would find more. One-step attacks and noise do not take part.
    Needs two others in a norm. A weak attack beside strong ones does no harm and is only named.

    The usual limit: every attack at 0.9 or more (Cinà et al. 2024). Measured: false alarms on 0 of
    8 sound networks, 20 of 58 variants of fakes noticed, by the usual limit 4 and 48;
    reports/data/audit-rates.md.

    Reference:
        Cinà et al., "AttackBench: evaluating gradient-based attacks for adversarial examples",
        2024, whose limit of 0.9 for a weak attack this is.
    """
    best: dict[str, dict[str, float]] = {}
    for norm, methods in evidence.own.items():
        serious = {name: own for name, own in methods.items() if not baseline(name)}
        if len(serious) > 1 and norm in evidence.radii:
            upper = evidence.radii[norm].upper
            best[norm] = {name: nearness(own, upper) for name, own in serious.items()}
    if not best:
        return None
    norm = min(best, key=lambda norm: max(best[norm].values()))
    number = max(best[norm].values())
    weak = sorted(name for by in best.values() for name, value in by.items() if value < 0.9)
    return Finding(
        title="one attack alone comes near to all together",
        verdict="ok" if number >= 0.9 else "look" if number >= 0.5 else "fail",
        number=number,
        threshold="look below 0.9, fail below 0.5",
        meaning=f"Best attack in {norm}. Weak on this network: {', '.join(weak) or 'none'}.",
    )


def baseline(name: str) -> bool:
    """Whether an attack is of one step or noise, which nobody expects to come near."""
    attack = ATTACKS.get(name)
    one_step = isinstance(attack, AbstractBallAttack) and attack.one_step
    return one_step or isinstance(attack, Noise)


def nearness(own: Float[np.ndarray, " images"], best: Float[np.ndarray, " images"]) -> float:
    """How near one attack's sizes come to the smallest known, 1 where they are the same.

    Args:
        own: Sizes that the attack found; infinite where it failed, NaN where it did not run.
        best: The smallest that any attack found, 0 where the clean image is wrong.
    """
    ran = ~np.isnan(own)
    best, own = best[ran], np.maximum(own[ran], best[ran])
    reached = best[np.isfinite(best)]
    if not reached.size or not reached.max() > 0:
        return 1.0  # nothing was broken, by anyone
    largest = reached.max()
    area = lambda size: float(np.mean(np.minimum(size, largest)))
    worst = float(np.mean(best > 0)) * largest
    left = worst - area(best)
    return 1.0 - (area(own) - area(best)) / left if left > 0 else 1.0
