"""G27: rows claim no more than what was run."""

from robust_mnist.attacks import ATTACKS
from robust_mnist.audit._evidence import Evidence, Finding
from robust_mnist.sweep import runs_once


def run_counts(evidence: Evidence) -> Finding | None:
    """Images that the rows of an attack claim beyond the runs that were counted while it ran.

    An attack that is given a radius runs once on each image at each radius; one that finds radii by
    itself runs once on each image. The counts of `run.json` are kept apart from the rows of the
    tables. A row that claims more images counts images on which the attack ran at another radius
    only. The attack then seems to fail at a radius at which it never ran.
    """
    attacked = evidence.rows[(evidence.rows.kind == "attacked") & (evidence.rows.eps > 0)]
    excess: dict[str, int] = {}
    for (norm, method), rows in attacked.groupby(["norm", "method"]):
        name = f"{norm}/{method}"
        runs = evidence.cells.get(name, {}).get("runs")
        if runs is None or method not in ATTACKS:
            continue  # whether an attack of a package that is gone was given radii is unknown
        once = runs_once(str(method))
        claimed = int(rows.images.max() if once else rows.drop_duplicates("eps").images.sum())
        excess[name] = max(claimed * evidence.seeds - int(runs), 0)
    if not excess:
        return None
    name = max(excess, key=lambda name: excess[name])
    return Finding(
        title="tables claim no more images than were attacked",
        verdict="fail" if excess[name] else "ok",
        number=excess[name],
        threshold="fail above 0 images",
        meaning=(
            f"Rows of {name} claim {excess[name]:,} images on which it did not run; sweep again."
            if excess[name]
            else "Each accuracy of an attack is that of the images it ran on at that radius."
        ),
    )
