"""Attacks: searches for a wrong image near a right one.

To add one, write `attacks/<name>.py` and name an instance, with every hyperparameter fixed, in
`ATTACKS`: a name identifies a row in a table for ever. Three kinds share the registry and are told
apart by class: ball attacks search inside a radius, one-step attacks among them have a plain
reading besides, and step attacks take one step of a given length with no ball around it.
"""

from robust_mnist.attacks._base import (
    AbstractAttack as AbstractAttack,
    AbstractBallAttack as AbstractBallAttack,
    AbstractStepAttack as AbstractStepAttack,
)
from robust_mnist.attacks.fgm import FGM as FGM
from robust_mnist.attacks.gradient_step import GradientStep as GradientStep
from robust_mnist.attacks.losses import (
    DLR as DLR,
    AbstractLoss as AbstractLoss,
    CrossEntropy as CrossEntropy,
    Margin as Margin,
    Toward as Toward,
)
from robust_mnist.attacks.pgd import PGD as PGD
from robust_mnist.attacks.targeted import Targeted as Targeted
from robust_mnist.plugins import with_plugins
from robust_mnist.threat import L2, Linf


ATTACKS: dict[str, AbstractAttack] = with_plugins(
    "attacks",
    {
        "gradient-step": GradientStep(),
        "fgsm-linf": FGM(Linf()),
        "fgm-l2": FGM(L2()),
        "pgd40-linf": PGD(Linf(), steps=40, rel_step_size=0.1),
        "pgd40-l2": PGD(L2(), steps=40, rel_step_size=0.1),
        "pgd20-targeted-linf": Targeted(PGD(Linf(), steps=20, rel_step_size=0.1), targets=9),
        "pgd20-targeted-l2": Targeted(PGD(L2(), steps=20, rel_step_size=0.1), targets=9),
    },
)
