"""G9: twice the steps change nothing."""

from robust_mnist.audit._evidence import Evidence, Finding, counted


def doubled_steps(evidence: Evidence) -> Finding | None:
    """Images that 80 steps of PGD break and that neither 40 steps nor the run has broken.

    An attack that goes on finding is not at its end, and the curve would fall with a larger budget.
    Add an attack with more steps, or run a larger preset.

    The usual limit: 0.2 % (after Carlini et al. 2019). Measured: false alarms on 0 of 8 sound
    networks, 0 of 58 variants of fakes noticed, by the usual limit 0 and 1;
    reports/data/audit-rates.md.

    Reference:
        Carlini et al., "On evaluating adversarial robustness", 2019.
    """
    probe = evidence.probe
    if probe is None:
        return None
    new = probe.pgd(2.0).broken & ~probe.pgd().broken & ~probe.known
    return counted(
        "twice the steps break nothing new",
        int(new.sum()), probe.count, look=0.002, fail=0.02,
        meaning=f"Twice the steps of PGD broke {new.sum()} more of {probe.where}.",
    )  # fmt: skip
