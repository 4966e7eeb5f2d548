"""G24: one training seed speaks for the others."""

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding


def seeds(evidence: Evidence) -> Finding | None:
    """Spread of accuracy under PGD over the training seeds, in standard errors of one accuracy.

    An interval of one network's curve speaks of the test images alone. Where networks that differ
    in nothing but their seed spread much wider, it says little about the recipe: quote the spread
    over the seeds, and compare recipes with several. Needs a run with several seeds.

    The usual limit: shown, without a limit (nobody's). Measured: false alarms on 0 of 8 sound
    networks, 0 of 58 variants of fakes noticed; reports/data/audit-rates.md.
    """
    probe = evidence.probe
    if probe is None or not evidence.siblings:
        return None
    broken = [probe.pgd().broken]
    broken += [probe.attack(probe.ascent, model=sibling).broken for sibling in evidence.siblings]
    accuracy = 1.0 - np.mean(broken, axis=1)
    mean = accuracy.mean()
    error = np.sqrt(max(mean * (1 - mean), 1 / probe.count) / probe.count)
    number = float(np.std(accuracy, ddof=1) / error)
    return Finding(
        title="one training seed speaks for the others",
        verdict="ok" if number <= 3 else "look",
        number=number,
        threshold="look above 3 standard errors",
        meaning=(
            f"{len(accuracy)} of {evidence.seeds} networks hold {accuracy.min():.1%} to "
            f"{accuracy.max():.1%} of {probe.where}."
        ),
    )
