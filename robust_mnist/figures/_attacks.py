"""What figures of the attacks themselves share: which runs have any, and on how many images."""

from robust_mnist.figures import _curves, _style
from robust_mnist.records import Alone, Records


NEEDS = (
    "In no norm have enough attacks run on the same images and at the same radii: three, or those "
    "of a preset other than grid."
)
NEEDS_PROBES = f"{NEEDS} Or an older version made this run, which did not look at this."


def compared(records: Records) -> list[Alone]:
    """The attacks of each norm that has enough of them, Linf first."""
    found = (Alone.of(records, norm) for norm in _curves.swept(records))
    return [alone for alone in found if alone is not None and alone.enough]


def probed(records: Records, what: str) -> list[str]:
    """The norms in which a small experiment on the attacks was made, Linf first."""
    return [norm for norm in _style.NORMS if f"{what}/{norm}/accuracy" in records.panels]


def sample(records: Records, compared: list[Alone]) -> str:
    """On how many images the attacks are compared."""
    counts = " or ".join(f"{n:,}" for n in sorted({alone.images for alone in compared}))
    networks = f" · {len(records.seeds)} networks" if len(records.seeds) > 1 else ""
    return f"{counts} {_style.dataset(records)} test images{networks}"


def probe_sample(records: Records, norms: list[str]) -> str:
    """On how many images a small experiment was made."""
    sizes = {records.panels[f"probe/{norm}/places"].size for norm in norms}
    counts = " or ".join(f"{size:,}" for size in sorted(sizes))
    return f"{counts} {_style.dataset(records)} test images · seed {records.seeds[0]}"
