"""AutoAttack: four attacks with the settings of their authors, of which one has to succeed."""

from jaxtyping import Array, Float, Int, PRNGKeyArray

from robust_mnist.attacks._base import AbstractBallAttack
from robust_mnist.attacks.apgd import APGD
from robust_mnist.attacks.combine import Within, WorstOf
from robust_mnist.attacks.fab import FABT
from robust_mnist.attacks.losses import TargetedDLR
from robust_mnist.attacks.square import Square
from robust_mnist.attacks.targeted import Targeted
from robust_mnist.models import AbstractClassifier
from robust_mnist.threat import AbstractBall, Linf


class AutoAttack(AbstractBallAttack):
    """The standard version of AutoAttack: APGD, targeted APGD, targeted FAB, Square.

    The authors' program leaves out images that an attack before has broken; which images break is
    the same, as every attack starts at the clean image.

    Reference:
        Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020, section 5; the order and the single runs are those of
        `version="standard"` of the authors' code.

    Attributes:
        ball: Norm that bounds the perturbation, Linf or L2.
    """

    ball: AbstractBall = Linf()

    def __check_init__(self) -> None:
        if self.ball.name not in {"linf", "l2"}:
            raise ValueError(f"AutoAttack acts in linf or l2, got {self.ball.name}")

    @property
    def about(self) -> str:
        return (
            "AutoAttack standard: the worst of APGD, 9 x targeted APGD, 9 x FAB-T and Square in "
            f"{self.ball.title}"
        )

    @property
    def one_step(self) -> bool:
        return False

    @property
    def attacks(self) -> tuple[AbstractBallAttack, ...]:
        """What is run, in the order of the authors."""
        return (
            APGD(self.ball),
            Targeted(APGD(self.ball), targets=9, toward=TargetedDLR),
            Within(FABT(self.ball)),
            Square(self.ball),
        )

    def __call__(
        self,
        model: AbstractClassifier,
        x: Float[Array, " pixels"],
        y: Int[Array, ""],
        *,
        eps: Float[Array, ""],
        key: PRNGKeyArray,
    ) -> Float[Array, " pixels"]:
        return WorstOf(self.attacks)(model, x, y, eps=eps, key=key)
