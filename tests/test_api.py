"""Mistakes in Python are told as plainly as those on the command line."""

import subprocess
import sys

import pytest


# Without the hook that checks types in all other tests: users have none.
SCRIPT = """
import jax
import numpy as np
import robust_mnist as rm

def said(call):
    try:
        call()
    except rm.InputError as error:
        print(error)
    else:
        print("accepted")

model = rm.MLP((784, 4, 10), "tanh", key=jax.random.key(0))
dataset = rm.load("mnist")
part = rm.split(dataset, "lab").test
part = type(part)(part.images[:8], part.labels[:8], part.ids[:8])
good = {"norm": "linf", "methods": ["fgsm-linf"], "eps": [0.01], "key": jax.random.key(0)}
radii = lambda **change: rm.radii(model, part, **(good | change))

for change in (
    {"norm": "l2"}, {"methods": ["fgsm"]}, {"methods": ["gradient-step"]}, {"norm": "l3"},
    {"key": 0}, {"eps": [-1.0]}, {"methods": "fgsm-linf", "eps": 0.01},
):
    said(lambda: radii(**change))
one, several = radii(methods="fgsm-linf", eps=0.01), radii()
print(np.array_equal(one.upper, several.upper))
for change in (
    {"epochs": "20"}, {"epochs": 2.5}, {"sizes": 784}, {"data": "mnist"}, {"precision": "bf17"},
):
    said(lambda: rm.TrainSettings(**change))
split = rm.split(dataset, "lab")
said(lambda: rm.train(rm.TrainSettings(activation="rleu"), split.train, split.valid))
"""

EXPECTED = [
    "fgsm-linf acts in linf, but norm is l2; give norm='linf'",
    "unknown method 'fgsm': closest are fgsm-linf, .*; `robust-mnist methods` lists all",
    "gradient-step has no ball",
    "unknown norm 'l3': choose from linf, l2",
    r"key must be a key of JAX such as jax.random.key\(0\), got 0",
    "eps must be finite and at least 0, got -1",
    "accepted",
    "True",
    r"--epochs \(epochs\) takes a whole number, got '20'",
    r"--epochs \(epochs\) takes a whole number, got 2.5",
    r"--sizes \(sizes\) takes a tuple, even of a single value, got 784",
    r"--data \(data\) takes a tuple, even of a single value, got 'mnist'",
    r"--precision \(precision\) takes float32 or bf16, got 'bf17'",
    "unknown activation 'rleu'.*did you mean 'relu'",
]


@pytest.fixture(scope="module")
def answers():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_wrong_arguments_name_the_rule_the_value_and_the_way_out(answers):
    import re

    assert len(answers) == len(EXPECTED)
    for said, expected in zip(answers, EXPECTED, strict=True):
        assert re.match(expected, said), (expected, said)
