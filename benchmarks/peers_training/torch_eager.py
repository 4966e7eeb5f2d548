import copy
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from benchmarks.peers_training import BATCH, DECAY, DELTA, RATE, SIZES, Fit, Work, to_float


def fit(work: Work, compiled: Callable[[Callable], Callable] = lambda step: step) -> Fit:
    begun = time.perf_counter()
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.seed)
    gpu = torch.cuda.is_available()
    torch.set_default_device("cuda" if gpu else "cpu")
    wait = torch.cuda.synchronize if gpu else lambda: None
    images = torch.tensor(to_float(work.train_images))
    labels = torch.tensor(work.train_labels)
    model = network()
    rule = torch.optim.RMSprop(
        model.parameters(), lr=RATE, alpha=DECAY, eps=DELTA, centered=False, capturable=gpu
    )

    @compiled
    def step(batch: torch.Tensor) -> None:
        x, y = images.index_select(0, batch), labels.index_select(0, batch)
        loss = nn.functional.cross_entropy(model(x), y)
        rule.zero_grad()
        loss.backward()
        rule.step()

    def train(epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            for batch in torch.randperm(len(labels)).split(BATCH):
                step(batch)
        wait()
        return time.perf_counter() - start

    untrained = copy.deepcopy(model.state_dict())
    train(1)
    # Back to the start in place, so that what was compiled for these very tensors stays valid.
    model.load_state_dict(untrained)
    for state in rule.state.values():
        state["step"].zero_()
        state["square_avg"].zero_()
    compile_s = time.perf_counter() - begun
    fit_s = train(work.epochs)
    with torch.no_grad():
        logits = model(torch.tensor(to_float(work.test_images)))
    correct = logits.argmax(dim=1).cpu().numpy() == work.test_labels
    return Fit(fit_s, compile_s, correct, torch.get_num_threads())


def network() -> nn.Sequential:
    layers = []
    for ins, outs in pairwise(SIZES):
        layer = nn.Linear(ins, outs)
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
