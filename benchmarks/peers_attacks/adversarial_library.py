import math
import sys
import types

from benchmarks.peers_attacks import (
    RADII,
    REL_STEP_SIZE,
    STEPS,
    TIMED,
    Prepared,
    Work,
    torch_network,
)
from benchmarks.peers_attacks.torch_network import Network, at_radii


# Imported by adv_lib for plots and a perceptual distance, of which nothing is used here; one of
# them cannot be built any more, the other would bring a torch of several GB.
for _name in ("visdom", "torchvision", "torchvision.models"):
    sys.modules.setdefault(_name, types.ModuleType(_name))
sys.modules["torchvision"].models = sys.modules["torchvision.models"]

from adv_lib import attacks as adv  # noqa: E402


NORMS = {"linf": math.inf, "l2": 2}


def prepare(work: Work) -> Prepared:
    return torch_network.prepare(work, attacks)


def attacks(network: Network) -> dict[str, torch_network.Attack]:
    def pgd(loss: str) -> torch_network.Attack:
        settings = {"steps": STEPS, "relative_step_size": REL_STEP_SIZE, "loss_function": loss}
        return at_radii(
            RADII["linf"], lambda x, y, eps: adv.pgd_linf(network, x, y, eps, **settings)
        )

    found = {
        TIMED: pgd("ce"),
        "pgd40-linf": pgd("dl"),
        "ddn100-l2": lambda x, y: adv.ddn(network, x, y, steps=100, levels=None),
        "cw5x200-l2": lambda x, y: adv.carlini_wagner_l2(
            network, x, y,
            learning_rate=0.05, initial_const=0.1, binary_search_steps=5, max_iterations=200,
        ),
    }  # fmt: skip
    for name, norm in NORMS.items():
        found |= of_norm(network, name, norm)
    return found


def of_norm(network: Network, name: str, norm: float) -> dict[str, torch_network.Attack]:
    length = 10.0 if name == "linf" else 1.0  # of a step of FMN, as its users set it
    return {
        f"apgd100-targeted-{name}": at_radii(
            RADII[name], lambda x, y, eps: adv.apgd_targeted(network, x, y, eps, norm)
        ),
        f"deepfool50-{name}": lambda x, y: adv.df(network, x, y, steps=50, norm=norm),
        f"fmn100-{name}": lambda x, y: adv.fmn(network, x, y, norm, steps=100, α_init=length),
        f"fab100-{name}": lambda x, y: adv.fab(network, x, y, norm, n_iter=100),
    }
