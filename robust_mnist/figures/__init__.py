"""Figures of runs: functions from records to matplotlib figures, without JAX and without pyplot.

A figure is one file that defines a `Chart`, and one line in `FIGURES`; one of timings defines a
`TimingChart`, with its line in `TIMING_FIGURES`.
"""

from robust_mnist.figures import (
    agreement,
    class_radii,
    confusion_flow,
    convergence,
    cost_of_robustness,
    digits,
    gallery,
    history,
    inference_time,
    lab_attack,
    optimality,
    overlay_robust_accuracy,
    overlay_training,
    paired_differences,
    peak_share,
    predictions,
    robust_accuracy,
    sandwich,
    speedup,
    step_grid,
    step_size,
    training,
    universal,
)
from robust_mnist.figures._chart import (
    Chart as Chart,
    Overlay as Overlay,
    TimingChart as TimingChart,
)
from robust_mnist.figures._curves import swept as swept
from robust_mnist.figures._images import thumbnail as thumbnail
from robust_mnist.figures._paired import (
    differences as differences,
    shared_grid as shared_grid,
    shared_norms as shared_norms,
)
from robust_mnist.figures._runs import names as names
from robust_mnist.figures._save import save as save, svg as svg
from robust_mnist.figures._style import EPS_LABEL as EPS_LABEL, INK as INK, NORMS as NORMS
from robust_mnist.figures._timings import seconds as seconds
from robust_mnist.figures.live import LiveCurves as LiveCurves
from robust_mnist.figures.robust_accuracy import plot as plot
from robust_mnist.figures.training import training_curves as training_curves


# Of one run, in the order of the page.
FIGURES: dict[str, Chart] = {
    "robust_accuracy": robust_accuracy.CHART,
    "sandwich": sandwich.CHART,
    "step_size": step_size.CHART,
    "training": training.CHART,
    "lab_attack": lab_attack.CHART,
    "gallery": gallery.CHART,
    "confusion_flow": confusion_flow.CHART,
    "class_radii": class_radii.CHART,
    "agreement": agreement.CHART,
    "optimality": optimality.CHART,
    "convergence": convergence.CHART,
    "step_grid": step_grid.CHART,
    "universal": universal.CHART,
    "predictions": predictions.CHART,
    "digits": digits.CHART,
}

# Of several runs.
OVERLAYS: dict[str, Overlay] = {
    "overlay_robust_accuracy": overlay_robust_accuracy.OVERLAY,
    "paired_differences": paired_differences.OVERLAY,
    "overlay_training": overlay_training.OVERLAY,
}

# Of timings on several devices, in the order of the page.
TIMING_FIGURES: dict[str, TimingChart] = {
    "speedup": speedup.CHART,
    "inference_time": inference_time.CHART,
    "peak_share": peak_share.CHART,
    "cost_of_robustness": cost_of_robustness.CHART,
}

# Of timings over time.
HISTORY_FIGURES: dict[str, TimingChart] = {"history": history.CHART}
