"""Certifiers: proofs that no image in a ball is classified wrongly.

To add one, write `certify/<name>.py` and name an instance in `CERTIFIERS`.
"""

from robust_mnist.certify._base import AbstractCertifier as AbstractCertifier
from robust_mnist.certify._domains import AbstractSearch as AbstractSearch, Search as Search
from robust_mnist.certify._lines import CURVES as CURVES
from robust_mnist.certify.alpha_crown import AlphaCROWN as AlphaCROWN
from robust_mnist.certify.contraction import ContractionSearch as ContractionSearch
from robust_mnist.certify.crown import CROWN as CROWN
from robust_mnist.certify.ibp import IBP as IBP
from robust_mnist.certify.lipschitz import (
    GlobalLipschitz as GlobalLipschitz,
    LocalLipschitz as LocalLipschitz,
    rounding as rounding,
)
from robust_mnist.certify.milp import check_small as check_small, exact_margin as exact_margin
from robust_mnist.certify.quadratic import Quadratic as Quadratic
from robust_mnist.certify.smoothing import (
    AbstractSmoothing as AbstractSmoothing,
    Gaussian as Gaussian,
)
from robust_mnist.plugins import with_plugins
from robust_mnist.threat import L1, L2, Linf


CERTIFIERS: dict[str, AbstractCertifier] = with_plugins(
    "certifiers",
    {
        "ibp-linf": IBP(),
        "crown-ibp-linf": CROWN(Linf(), refine=False),
        "crown-linf": CROWN(Linf()),
        "crown-l2": CROWN(L2()),
        "crown-l1": CROWN(L1()),
        "alpha-crown20-linf": AlphaCROWN(Linf(), steps=20),
        "alpha-crown20-l2": AlphaCROWN(L2(), steps=20),
        "alpha-crown20-l1": AlphaCROWN(L1(), steps=20),
        "quadratic100-linf": Quadratic(Linf(), steps=100),
        "quadratic100-l2": Quadratic(L2(), steps=100),
        "lipschitz-global-linf": GlobalLipschitz(Linf()),
        "lipschitz-global-l2": GlobalLipschitz(L2()),
        "lipschitz-local-linf": LocalLipschitz(Linf()),
        "lipschitz-local-l2": LocalLipschitz(L2()),
    },
)

# What branch and bound explores domains with, by norm.
SEARCHES: dict[str, AbstractSearch] = {
    "linf": ContractionSearch(Search(Linf(), steps=20)),
    "l2": ContractionSearch(Search(L2(), steps=20)),
}
