"""Training objectives: the loss of one image at a training step.

To add one, write `objectives/<name>.py` and name an instance in `OBJECTIVES`.
"""

from robust_mnist.objectives._base import AbstractObjective as AbstractObjective
from robust_mnist.objectives.cross_entropy import CrossEntropy as CrossEntropy
from robust_mnist.plugins import with_plugins


OBJECTIVES: dict[str, AbstractObjective] = with_plugins(
    "objectives",
    {
        "cross-entropy": CrossEntropy(),
    },
)
