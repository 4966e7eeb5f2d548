"""What several runs are called and how they are told apart."""

from collections.abc import Sequence

from robust_mnist.figures import _style
from robust_mnist.records import Records


COLORS = (_style.BLUE, _style.ORANGE, _style.GREEN, _style.PINK, _style.RED, _style.SKY)
STYLES = ("-", "--", "-.", ":")


def names(runs: Sequence[Records]) -> list[str]:
    """The names of the runs, numbered where two are called the same."""
    called = [records.name for records in runs]
    return [
        name if called.count(name) == 1 else f"{name} ({index + 1})"
        for index, name in enumerate(called)
    ]


def labels(runs: Sequence[Records]) -> list[str]:
    """The names of the runs as legends show them."""
    return [_style.plain(_style.shorten(name, 28)) for name in names(runs)]


def look(index: int) -> tuple[str, str]:
    """The colour and the line of a run; both differ, for eyes that cannot tell colours apart."""
    return COLORS[index % len(COLORS)], STYLES[index % len(STYLES)]


def counted(runs: Sequence[Records], images: int) -> str:
    """The line under a heading."""
    return f"{images:,} {_style.dataset(runs[0])} test images · {len(runs)} runs"
