"""Certifiers: proofs that no image in a ball is classified wrongly.

To add one, write `certify/<name>.py` and name an instance in `CERTIFIERS`.

A proof is about the float32 weights in exact arithmetic and is computed in float64. Every bound has
room for two kinds of error, at any scale of the weights:

- Rounding, a share of the magnitudes that are added (`_backward.lowest` derives it).
- Underflow: XLA replaces results below 2e-308 by 0. Each product loses that much at most, for
  which `_intervals.floor` and `_backward.vanished` have room. The square of a number below 1e-154
  underflows; lengths are therefore taken in units of their largest entry (`_norms.length`) or of
  the sum of their entries (`threat.L2.least`).

A bound that overflows is infinite or NaN and may be wrong. It proves nothing all the same: a
certificate has to exceed `rounding`, which is infinite for such a network. `tests/test_scales.py`
holds all bounds to the truth on networks whose layers are scaled by 1e-30 to 1e30.
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
