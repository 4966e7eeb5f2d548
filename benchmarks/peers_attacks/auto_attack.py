import os
import sys

import torch

from benchmarks.peers_attacks import BATCH, RADII, Prepared, Work, torch_network
from benchmarks.peers_attacks.torch_network import Network, at_radii


NORMS = {"linf": "Linf", "l2": "L2"}


def prepare(work: Work) -> Prepared:
    if not os.environ.get("AUTOATTACK"):
        raise ModuleNotFoundError("AUTOATTACK names no checkout; the library is on no registry")
    sys.path.insert(0, os.environ["AUTOATTACK"])
    from autoattack import AutoAttack  # noqa: PLC0415 it is nowhere else

    def attacks(network: Network) -> dict[str, torch_network.Attack]:
        def run(norm: str, x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
            attack = AutoAttack(
                network, norm=norm, eps=eps, seed=work.seed, verbose=False, device="cpu"
            )
            return attack.run_standard_evaluation(x, y, bs=BATCH)

        return {
            f"autoattack-{name}": at_radii(
                RADII[name], lambda x, y, eps, norm=norm: run(norm, x, y, eps)
            )
            for name, norm in NORMS.items()
        }

    return torch_network.prepare(work, attacks, shape=(1, 28, 28))
