"""Certifiers: proofs that no image in a ball is classified wrongly.

To add one, write `certify/<name>.py` and name an instance in `CERTIFIERS`.
"""

from robust_mnist.certify._base import AbstractCertifier as AbstractCertifier
from robust_mnist.certify.ibp import IBP as IBP


CERTIFIERS: dict[str, AbstractCertifier] = {
    "ibp-linf": IBP(),
}
