"""G18: answers do not depend on the batch."""

import dataclasses

import numpy as np

from robust_mnist.audit._evidence import Evidence, Finding, counted
from robust_mnist.sweep import CLOSE


def batch_split(evidence: Evidence) -> Finding | None:
    """Images on which PGD decides otherwise when they come in another order and in half batches.

    Draws belong to an image, not to its place in a batch, so that flags agree but for rounding,
    which a long search can enlarge. More than that is randomness that no key controls, or images
    that influence each other; such a result cannot be repeated.

    The usual limit: no image (after AutoAttack and Foolbox). Measured: false alarms on 0 of 8 sound
    networks, 2 of 58 variants of fakes noticed, by the usual limit 0 and 2;
    reports/data/audit-rates.md.
    """
    probe = evidence.probe
    if probe is None:
        return None
    order = np.random.default_rng(0).permutation(probe.count)
    other = dataclasses.replace(probe, part=probe.part.take(order), _kept={})
    again = np.empty_like(probe.pgd().margins)
    again[order] = other.attack(probe.ascent, chunk=-(-probe.count // 2)).margins
    first = probe.pgd().margins
    clear = (np.abs(first) > CLOSE) & (np.abs(again) > CLOSE)
    differ = clear & ((first <= 0) != (again <= 0))
    return counted(
        "answers do not depend on order and batch",
        int(differ.sum()), probe.count, look=0.0, fail=0.05, chance=False,
        meaning=f"{differ.sum()} of {probe.where} were decided otherwise in other batches.",
    )  # fmt: skip
