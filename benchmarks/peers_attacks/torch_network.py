"""The network in PyTorch, and what every side on PyTorch shares."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.peers_attacks import Count, Prepared, Work


ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class Network(nn.Module):
    """The network that was given, in any shape of images, counting what it is asked."""

    def __init__(self, work: Work, count: Count) -> None:
        super().__init__()
        self.count = count
        layers = []
        for weight, bias in zip(work.weights, work.biases, strict=True):
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
            layers += [layer, ACTIVATIONS[work.activation]()]
        self.layers = nn.Sequential(*layers[:-1])
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.layers(images.flatten(1))
        self.count.forward += len(images)
        if logits.requires_grad:
            logits.register_hook(self.count_backward)
        return logits

    def count_backward(self, slope: torch.Tensor) -> None:
        self.count.backward += len(slope)


@dataclasses.dataclass
class Elapsed:
    seconds: float = 0.0
    compile_seconds: float = 0.0


@contextlib.contextmanager
def stopwatch() -> Iterator[Elapsed]:
    elapsed, start = Elapsed(), time.perf_counter()
    yield elapsed
    elapsed.seconds = time.perf_counter() - start


Attack = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def prepare(
    work: Work, attacks: Callable[[Network], dict[str, Attack]], shape: tuple[int, ...] = (784,)
) -> Prepared:
    """The side whose attacks take images of `shape` and labels, and give images."""
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.seed)
    count = Count()
    images = torch.tensor(work.pixels).reshape(-1, *shape)
    labels = torch.tensor(work.labels)

    def run(attack: Attack, at: slice) -> np.ndarray:
        found = attack(images[at], labels[at]).detach().numpy()
        return found.reshape(*found.shape[: -len(shape)], -1)

    named = attacks(Network(work, count))
    return Prepared(
        {name: lambda at, attack=attack: run(attack, at) for name, attack in named.items()},
        count,
        stopwatch,
        facts={"threads": torch.get_num_threads()},
    )


def at_radii(
    radii: tuple[float, ...], attack: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
) -> Attack:
    """One run at each radius."""
    return lambda images, labels: torch.stack([attack(images, labels, eps) for eps in radii])
