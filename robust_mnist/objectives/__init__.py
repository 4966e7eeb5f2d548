"""Training objectives: the loss of one image at a training step.

To add one, write `objectives/<name>.py` and name an instance, with every hyperparameter fixed, in
`OBJECTIVES`. A schedule counts training steps, so that a resumed training goes on where it was.
"""

from robust_mnist.attacks import PGD, CrossEntropy as AttackCrossEntropy
from robust_mnist.objectives._base import AbstractObjective as AbstractObjective
from robust_mnist.objectives.adversarial import Adversarial as Adversarial
from robust_mnist.objectives.cross_entropy import CrossEntropy as CrossEntropy
from robust_mnist.objectives.interval import Interval as Interval
from robust_mnist.plugins import with_plugins
from robust_mnist.threat import Linf


# 7 steps of a quarter of eps, as in Madry et al.'s training on CIFAR-10.
_MADRY = PGD(Linf(), steps=7, rel_step_size=0.25, loss=AttackCrossEntropy())

OBJECTIVES: dict[str, AbstractObjective] = with_plugins(
    "objectives",
    {
        "cross-entropy": CrossEntropy(),
        "adversarial-linf-0.1": Adversarial(_MADRY, eps=0.1),
        # Their radius on MNIST, reached in the first two fifths of a training of 5,000 steps.
        "adversarial-linf-0.3": Adversarial(_MADRY, eps=0.3, ramp=2000),
        # Gowal et al.'s mix at the end; their schedule, 2,000 and 10,000 of 60,000 steps, is cut
        # to what a run of this suite has: 5,000 steps by default.
        "interval-linf-0.1": Interval(eps=0.1, warm_up=500, ramp=2000),
    },
)
