"""G26: the curve shows its whole fall."""

from robust_mnist.audit._evidence import Evidence, Finding


def reaches_zero(evidence: Evidence) -> Finding | None:
    """Worst-case accuracy at the largest eps, over the norms.

    With a large enough eps every image can be made wrong. A curve that levels off above zero
    hides either a grid that ends too early or an attack that cannot move.

    The usual limit: nothing stands at the end (after Carlini et al. 2019). Measured: false alarms
    on 0 of 8 sound networks, 41 of 58 variants of fakes noticed, by the usual limit 4 and 52;
    reports/data/audit-rates.md.
    """
    worst = evidence.rows[evidence.rows.kind == "worst"]
    if worst.empty:
        return None
    last = worst.sort_values("eps").groupby("norm").accuracy.last()
    number = float(last.max())
    return Finding(
        title="worst-case accuracy falls to zero",
        verdict="ok" if number <= 0.05 else "look",
        number=number,
        threshold="look above 5 % at the largest eps",
        meaning=f"Highest in {last.idxmax()}; extend --eps until nothing is left standing.",
    )
