import warnings

import foolbox
import torch

from benchmarks.peers_attacks import Prepared, Work, foolbox_attacks, torch_network


def prepare(work: Work) -> Prepared:
    return torch_network.prepare(work, attacks)


def attacks(network: torch_network.Network) -> dict[str, torch_network.Attack]:
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    found = foolbox_attacks.attacks(model, torch.stack)
    kinds = {
        "brendel-bethge1000-linf": foolbox.attacks.LinfinityBrendelBethgeAttack,
        "brendel-bethge1000-l2": foolbox.attacks.L2BrendelBethgeAttack,
    }

    def walk(
        kind: type[foolbox.Attack], images: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        predicted = network(images).argmax(dim=1).numpy()
        starts = images[foolbox_attacks.others(labels.numpy(), predicted)]
        with warnings.catch_warnings(action="ignore"):  # it announces that numba compiles
            attack = kind(steps=1000)
        return attack(model, images, labels, epsilons=None, starting_points=starts)[0]

    for name, kind in kinds.items():
        found[name] = lambda images, labels, kind=kind: walk(kind, images, labels)
    return found
