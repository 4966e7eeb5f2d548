import functools

import torch

from benchmarks.peers_training import Fit, Work, torch_eager


def fit(work: Work) -> Fit:
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"  # CUDA graphs
    return torch_eager.fit(work, functools.partial(torch.compile, mode=mode))
