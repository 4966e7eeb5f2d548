"""Robust accuracy against the work of an attack: gradients, and seconds."""

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_mnist.figures import _attacks, _style, _timings
from robust_mnist.figures._chart import Chart
from robust_mnist.records import Records


# Where dots stand, as far as an attack went.
_MARKED = np.array([1, 2, 5, 10, 20, 40, 100])
_MARKERS = "osD^vPX*"


@_style.styled
def draw(records: Records) -> Figure | None:
    """Draw two panels per norm."""
    norms = _attacks.probed(records, "convergence")
    if not norms:
        return None
    figure = _style.canvas(_style.HEADING + 3.9 * len(norms))
    grid = figure.subplots(len(norms), 2, squeeze=False, sharey="row")
    for (by_work, by_time), norm in zip(grid, norms, strict=True):
        _draw_norm(by_work, by_time, records, norm)
    _style.heading(
        figure,
        "What an attack has found after so much work",
        _style.counted(records, _attacks.probe_sample(records, norms)),
    )
    return figure


def _draw_norm(by_work: Axes, by_time: Axes, records: Records, norm: str) -> None:
    methods, accuracy, seconds = (
        records.panels[f"convergence/{norm}/{name}"] for name in ("methods", "accuracy", "seconds")
    )
    thousands = records.panels[f"probe/{norm}/places"].size / 1000
    markers = _markers(records)
    for index, name in enumerate(map(str, methods)):
        # Nothing has happened after no gradient, and a logarithmic axis has no place for it.
        curve = accuracy[index][1:]
        curve = curve[~np.isnan(curve)]
        work = np.arange(1, curve.size + 1)
        # Every gradient takes as long as the others.
        spent = seconds[index] / curve.size * work / thousands
        for axes, x in ((by_work, work), (by_time, spent)):
            axes.plot(
                x, curve, color=_style.method_color(name), label=name, linewidth=1.4,
                marker=markers[_family(name)], markersize=4.5,
                markevery=list(_MARKED[curve.size >= _MARKED] - 1),
            )  # fmt: skip
    _finish(by_work, by_time, accuracy[:, 1:])
    by_work.set_title(f"{_style.NORMS[norm]}, eps {float(records.panels[f'probe/{norm}/eps']):g}")


def _markers(records: Records) -> dict[str, str]:
    """A marker for each attack, the same in every norm: two may share a colour."""
    norms = _attacks.probed(records, "convergence")
    names = {str(m) for norm in norms for m in records.panels[f"convergence/{norm}/methods"]}
    return dict(zip(sorted(set(map(_family, names))), itertools.cycle(_MARKERS), strict=False))


def _family(name: str) -> str:
    return name.rpartition("-")[0]


def _finish(by_work: Axes, by_time: Axes, accuracy: np.ndarray) -> None:
    by_work.set(xscale="log", xlabel="gradients per image", ylabel="robust accuracy")
    by_work.set_xticks(_MARKED, [str(mark) for mark in _MARKED])
    by_work.minorticks_off()
    by_time.set(xscale="log", xlabel="seconds per 1,000 images")
    _timings.plain_log(by_time.xaxis)
    _style.percent(by_work)
    # From 0 the end of the curves, which matters, could not be told apart.
    by_work.set_ylim(max(0.0, np.nanmin(accuracy) - 0.04), min(1.0, np.nanmax(accuracy) + 0.04))
    _style.legend_below(by_work, columns=3)


CHART = Chart(
    draw=draw,
    title="Convergence of the attacks",
    reading="The share of the images that an attack has not broken yet at one eps, after so many "
    "gradients of each image and after so many seconds; dots stand at 1, 2, 5, 10, 20, 40 and 100 "
    "gradients. A curve that still falls at its end would go on with more steps; one that lies "
    "flat above another is stuck. Lower and further left is a better attack.",
    limits="A few images, so each curve has several points of sampling error, although the images "
    "are the same for all. Seconds are those of this machine and of a single run without "
    "compilation, shared out evenly over the gradients. Attacks without gradients, and those "
    "towards every wrong class, are not shown.",
    needs=_attacks.NEEDS_PROBES,
    command="sweep",
)
