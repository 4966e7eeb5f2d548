"""Threat models: which perturbations an attacker may add to one image.

Everything here acts on a single flattened image. To batch, wrap the call in `jax.vmap`. A ball
knows its norm, and how to move best in it without leaving the box [0, 1].
"""

from robust_mnist.threat._base import (
    AbstractBall as AbstractBall,
    room as room,
    to_unit as to_unit,
)
from robust_mnist.threat._budget import cutoff as cutoff
from robust_mnist.threat.l0 import L0 as L0
from robust_mnist.threat.l1 import L1 as L1
from robust_mnist.threat.l2 import L2 as L2
from robust_mnist.threat.linf import Linf as Linf


BALLS: dict[str, AbstractBall] = {
    "linf": Linf(),
    "l2": L2(),
    "l1": L1(),
    "l0": L0(),
}
