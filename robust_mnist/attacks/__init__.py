"""Attacks: searches for a wrong image near a right one.

To add one, write `attacks/<name>.py` and name an instance, with every hyperparameter fixed, in
`ATTACKS`: a name identifies a row in a table for ever. Three kinds share the registry and are told
apart by class: ball attacks search inside a radius, one-step attacks among them have a plain
reading besides; minimal attacks search for the closest wrong image, so that one run gives a whole
curve; step attacks take one step of a given length with no ball around it.
"""

from robust_mnist.attacks._base import (
    AbstractAttack as AbstractAttack,
    AbstractBallAttack as AbstractBallAttack,
    AbstractMinimalAttack as AbstractMinimalAttack,
    AbstractStepAttack as AbstractStepAttack,
)
from robust_mnist.attacks.apgd import APGD as APGD
from robust_mnist.attacks.apgd_l1 import APGDL1 as APGDL1
from robust_mnist.attacks.auto_attack import AutoAttack as AutoAttack
from robust_mnist.attacks.boundary import Boundary as Boundary
from robust_mnist.attacks.carlini_wagner import CarliniWagner as CarliniWagner
from robust_mnist.attacks.combine import (
    EOT as EOT,
    Restarts as Restarts,
    Transfer as Transfer,
    Within as Within,
    WorstOf as WorstOf,
)
from robust_mnist.attacks.ddn import DDN as DDN
from robust_mnist.attacks.deepfool import DeepFool as DeepFool
from robust_mnist.attacks.ead import EAD as EAD
from robust_mnist.attacks.fab import FABT as FABT
from robust_mnist.attacks.fgm import FGM as FGM
from robust_mnist.attacks.fmn import FMN as FMN
from robust_mnist.attacks.gradient_step import GradientStep as GradientStep
from robust_mnist.attacks.hop_skip_jump import HopSkipJump as HopSkipJump
from robust_mnist.attacks.jsma import JSMA as JSMA
from robust_mnist.attacks.linear_region import LinearRegion as LinearRegion
from robust_mnist.attacks.losses import (
    DLR as DLR,
    AbstractLoss as AbstractLoss,
    CrossEntropy as CrossEntropy,
    Margin as Margin,
    RescaledCrossEntropy as RescaledCrossEntropy,
    TargetedDLR as TargetedDLR,
    Toward as Toward,
)
from robust_mnist.attacks.mifgsm import MIFGSM as MIFGSM
from robust_mnist.attacks.noise import Noise as Noise
from robust_mnist.attacks.pgd import PGD as PGD
from robust_mnist.attacks.spatial_grid import SpatialGrid as SpatialGrid
from robust_mnist.attacks.square import Square as Square
from robust_mnist.attacks.targeted import (
    Targeted as Targeted,
    likeliest as likeliest,
    nearest as nearest,
)
from robust_mnist.plugins import with_plugins
from robust_mnist.threat import L0, L1, L2, Linf


ATTACKS: dict[str, AbstractAttack] = with_plugins(
    "attacks",
    {
        # Baselines
        "gradient-step": GradientStep(),
        "spatial-grid": SpatialGrid(),
        "fgsm-linf": FGM(Linf()),
        "fgm-l2": FGM(L2()),
        "fgm-l1": FGM(L1()),
        "noise100-uniform-linf": Noise(Linf(), "uniform"),
        "noise100-corners-linf": Noise(Linf(), "corners"),
        "noise100-gaussian-l2": Noise(L2(), "gaussian"),
        "bim10-linf": PGD(
            Linf(), steps=10, rel_step_size=0.2, loss=CrossEntropy(), random_start=False
        ),
        "mifgsm10-linf": MIFGSM(),
        # Gradient ascent in a ball
        "pgd40-linf": PGD(Linf(), steps=40, rel_step_size=0.1),
        "pgd40-l2": PGD(L2(), steps=40, rel_step_size=0.1),
        "pgd40-ce-linf": PGD(Linf(), steps=40, rel_step_size=0.1, loss=CrossEntropy()),
        "pgd40-l1": PGD(L1(), steps=40, rel_step_size=0.1),
        "pgd10x40-linf": Restarts(PGD(Linf(), steps=40, rel_step_size=0.1), restarts=10),
        "pgd10x40-l2": Restarts(PGD(L2(), steps=40, rel_step_size=0.1), restarts=10),
        "pgd20-targeted-linf": Targeted(PGD(Linf(), steps=20, rel_step_size=0.1), targets=9),
        "pgd20-targeted-l2": Targeted(PGD(L2(), steps=20, rel_step_size=0.1), targets=9),
        "pgd20-targeted4-linf": Targeted(PGD(Linf(), steps=20, rel_step_size=0.1), targets=4),
        "apgd100-ce-linf": APGD(Linf()),
        "apgd100-ce-l2": APGD(L2()),
        "apgd100-dlr-linf": APGD(Linf(), loss=DLR()),
        "apgd100-dlr-l2": APGD(L2(), loss=DLR()),
        "apgd100-targeted-linf": Targeted(APGD(Linf()), targets=9, toward=TargetedDLR),
        "apgd100-targeted-l2": Targeted(APGD(L2()), targets=9, toward=TargetedDLR),
        "apgd100-targeted4-linf": Targeted(APGD(Linf()), targets=4, toward=TargetedDLR),
        "apgd100-targeted4-l2": Targeted(APGD(L2()), targets=4, toward=TargetedDLR),
        "apgd100-ce-l1": APGDL1(),
        "apgd100-targeted-l1": Targeted(APGDL1(), targets=5, toward=TargetedDLR),
        # Without gradients
        "square1000-linf": Square(Linf(), queries=1000, rescale=True),
        "square1000-l2": Square(L2(), queries=1000, rescale=True),
        "square5000-linf": Square(Linf()),
        "square5000-l2": Square(L2()),
        "hopskipjump64-linf": HopSkipJump(Linf()),
        "hopskipjump64-l2": HopSkipJump(L2()),
        "boundary25000-l2": Boundary(),
        # Several in one
        "autoattack-standard-linf": AutoAttack(Linf()),
        "autoattack-standard-l2": AutoAttack(L2()),
        # The closest wrong image
        "deepfool50-linf": DeepFool(Linf()),
        "deepfool50-l2": DeepFool(L2()),
        "ddn100-l2": DDN(),
        "ddn100-margin-l2": DDN(loss=Margin()),
        "fmn100-linf": FMN(Linf(), alpha=10.0),
        "fmn100-l2": FMN(L2()),
        "fmn100-l1": FMN(L1()),
        "fmn100-l0": FMN(L0()),
        "fab10-targeted-linf": FABT(Linf(), steps=10),
        "fab10-targeted-l2": FABT(L2(), steps=10),
        "fab30-targeted-l2": FABT(L2(), steps=30),
        "fab100-targeted-linf": FABT(Linf()),
        "fab100-targeted-l2": FABT(L2()),
        "fab100-targeted-l1": FABT(L1()),
        "cw3x100-l2": CarliniWagner(searches=3, steps=100, learning_rate=0.05, init_weight=0.1),
        "cw5x200-l2": CarliniWagner(searches=5, steps=200, learning_rate=0.05, init_weight=0.1),
        "ead5x200-l1": EAD(searches=5, steps=200, learning_rate=0.05, init_weight=0.1, rule="l1"),
        "jsma-l0": JSMA(),
        "linear-region100-linf": LinearRegion(Linf()),
        "linear-region100-l2": LinearRegion(L2()),
    },
)
