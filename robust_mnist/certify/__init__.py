"""Certifiers: proofs that no image in a ball is classified wrongly.

To add one, write `certify/<name>.py` and name an instance in `CERTIFIERS`.
"""

from robust_mnist.certify._base import AbstractCertifier as AbstractCertifier
from robust_mnist.certify.ibp import IBP as IBP
from robust_mnist.plugins import with_plugins


CERTIFIERS: dict[str, AbstractCertifier] = with_plugins(
    "certifiers",
    {
        "ibp-linf": IBP(),
    },
)
