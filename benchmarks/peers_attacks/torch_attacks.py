import torch
import torchattacks

from benchmarks.peers_attacks import (
    RADII,
    REL_STEP_SIZE,
    STEPS,
    TIMED,
    Prepared,
    Work,
    torch_network,
)
from benchmarks.peers_attacks.torch_network import at_radii


def prepare(work: Work) -> Prepared:
    return torch_network.prepare(work, attacks, shape=(1, 28, 28))


def attacks(network: torch_network.Network) -> dict[str, torch_network.Attack]:
    def pgd(kind: type, images: torch.Tensor, labels: torch.Tensor, eps: float) -> torch.Tensor:
        return kind(network, eps=eps, alpha=REL_STEP_SIZE * eps, steps=STEPS)(images, labels)

    return {
        TIMED: at_radii(RADII["linf"], lambda *args: pgd(torchattacks.PGD, *args)),
        "pgd40-ce-l2": at_radii(RADII["l2"], lambda *args: pgd(torchattacks.PGDL2, *args)),
        "deepfool50-l2": torchattacks.DeepFool(network, steps=50),
        "cw1x1000-l2": torchattacks.CW(network, c=1, steps=1000, lr=0.01),
    }
