"""What checks look at, from the files of a run."""

from robust_mnist.audit._evidence import Evidence
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import RunFolder


def of_run(folder: RunFolder, models: dict[int, AbstractClassifier], part: Part) -> Evidence:
    """The results of a run's first network.

    Args:
        folder: A run that was attacked.
        models: Its networks by seed, the first one first.
        part: The images that were attacked.

    Raises:
        InputError: A file of the run is damaged, or its wrong images are gone.
    """
    # No check looks at panels, and damaged ones must not stand in the way.
    records = folder.load(panels=False)
    stored = folder.arrays("witnesses")
    if lost := [norm for norm in records.norms if f"witness/{norm}" not in stored]:
        raise InputError(
            f"{folder.path} has lost its wrong images in {', '.join(lost)}; "
            f"robust-mnist sweep --run {folder.path} makes what is missing again"
        )
    first, *others = models
    witness = lambda norm: stored[f"witness/{norm}"][0 if others else ...]
    alone = lambda norm: {name: own[0] for name, own in records.upper_by_method(norm).items()}
    return Evidence(
        model=models[first],
        part=part,
        rows=records.rows[records.rows.seed == first],
        radii={norm: records.radii_of(norm)[0] for norm in records.norms},
        witnesses={norm: witness(norm) for norm in records.norms},
        cells=records.info.get("cells", {}),
        own={norm: alone(norm) for norm in records.norms},
        seeds=len(models),
        siblings=tuple(models[seed] for seed in others),
    )
