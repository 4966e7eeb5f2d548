"""G11: the search has come to its end."""

from robust_mnist.audit._evidence import Evidence, Finding, counted, worst
from robust_mnist.audit._probe import Probe
from robust_mnist.sweep import judge_batch


def unfinished(evidence: Evidence) -> Finding | None:
    """Failed images on which PGD's last quarter still lowered the margin, in any norm.

    The share of its whole way that the lowest margin went in the last ten of 40 steps: above 0.05
    the search was cut short, and failure says nothing. Use more steps or larger ones. The shorter
    run has the same draws, so that its steps are the first of the longer one.

    The usual limit: 0.05 of the way, any image (Pintor et al. 2022). Measured: false alarms on 1 of
    8 sound networks, 16 of 58 variants of fakes noticed, by the usual limit 4 and 28;
    reports/data/audit-rates.md.

    Reference:
        Pintor et al., "Indicators of attack failure", NeurIPS 2022, whose limit per image this is;
        how many images may pass it is not said there.
    """
    return worst(map(_in_norm, evidence.probes.values()))


def _in_norm(probe: Probe) -> Finding:
    short, whole = probe.pgd(0.75), probe.pgd()
    clean, _ = judge_batch(probe.model, probe.pixels, probe.part.labels)
    failed = ~whole.broken & (clean > 0)
    way, late = clean - whole.margins, short.margins - whole.margins
    going = failed & (late > 0.05 * way)
    return counted(
        "PGD had come to its end where it failed",
        int(going.sum()), max(int(failed.sum()), 1), look=0.1, fail=0.5,
        meaning=(
            f"Of {failed.sum()} failures on {probe.where}, {going.sum()} were still moving; more "
            "steps, or larger ones, would tell."
        ),
    )  # fmt: skip
