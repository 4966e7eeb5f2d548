"""CROWN: linear bounds carried backwards through the network."""

from jaxtyping import Array, Float, Int

from robust_mnist.certify._backward import (
    hidden_layers,
    intersected,
    lowest,
    margin_rows,
    worst,
)
from robust_mnist.certify._base import AbstractCertifier
from robust_mnist.certify._lines import CURVES
from robust_mnist.models import MLP
from robust_mnist.threat import AbstractBall, Linf


class CROWN(AbstractCertifier):
    """Every activation between two lines, composed backwards from the margins to the pixels.

    The margin to each class is a row of its own, bounded over ball and box. The lines of a layer
    need bounds on its inputs, which come from the same procedure and from intervals, whichever is
    tighter: neither of the two always is, and so it is with the margins. With hidden layers bounded
    by intervals alone it is CROWN-IBP.

    Reference:
        Zhang et al., "Efficient neural network robustness certification with general activation
        functions", NeurIPS 2018; "Towards stable and efficient training of verifiably robust neural
        networks", ICLR 2020, for CROWN-IBP.

    Attributes:
        ball: Norm of the ball.
        refine: Whether hidden layers are bounded backwards as well, rather than by intervals alone.
    """

    ball: AbstractBall = Linf()
    refine: bool = True

    @property
    def about(self) -> str:
        if self.refine:
            return f"linear bounds carried backwards (CROWN) in {self.ball.title}: a proof"
        return f"intervals, then linear bounds backwards (CROWN-IBP) in {self.ball.title}: a proof"

    @property
    def activations(self) -> frozenset[str]:
        return frozenset(CURVES)

    def __call__(
        self, model: MLP, x: Float[Array, " pixels"], y: Int[Array, ""], *, eps: Float[Array, ""]
    ) -> Float[Array, ""]:
        layers = hidden_layers(model, self.ball, x, eps, refine=self.refine)
        rows, offset = margin_rows(model, y)
        margins = lowest(rows, offset, layers, self.ball, x, eps)
        return worst(intersected(margins, rows, offset, layers, model.activation), y)
