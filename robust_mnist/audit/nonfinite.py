"""Finite numbers, and few decisions near a tie."""

from robust_mnist.audit._evidence import Evidence, Finding


def nonfinite(evidence: Evidence) -> Finding | None:
    """Attacked images at which the network gave NaN or infinity.

    Such an image is never counted as broken, so a network that overflows would look robust. The
    images whose margin lies within 1e-4 of a tie, where another device may decide otherwise, are
    named beside it.
    """
    if not evidence.cells:
        return None
    total = lambda name: int(sum(cell.get(name, 0.0) for cell in evidence.cells.values()))
    count, close = total("nonfinite"), total("close")
    return Finding(
        title="no attacked image gives NaN or infinity",
        verdict="ok" if count == 0 else "fail",
        number=count,
        threshold="fail above 0 evaluations",
        meaning=f"{close} of all decisions had a margin within 1e-4 of a tie.",
    )
