"""Mistakes in Python are told as plainly as those on the command line."""

import subprocess
import sys

import pytest


# Without the hook that checks types in all other tests: users have none.
SCRIPT = """
import jax
import jax.numpy as jnp
import numpy as np
import robust_mnist as rm
from robust_mnist.models import AbstractClassifier

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
said(lambda: radii(eps=8))
said(lambda: radii(eps=()))
said(lambda: radii(norm="l1", methods="quick", eps=()))
said(lambda: radii(methods="quick", eps=[0.0]))
said(lambda: radii(methods=[]))
said(lambda: radii(methods="quik"))
said(lambda: radii(methods=["pgd40-linf", "quick"]))
said(lambda: radii(methods="pgd"))
said(lambda: rm.radii(model, part.images, **good))
said(lambda: part.take(200))
none = type(part)(part.images[:0], part.labels[:0], part.ids[:0])
said(lambda: rm.radii(model, none, **good))
said(lambda: radii(eps=1, methods="fgsm-linf"))

class Spoilt(AbstractClassifier):
    net: rm.MLP
    spoil: object
    def __call__(self, x):
        return self.spoil(self.net(x))

of = lambda spoil: rm.radii(Spoilt(model, spoil), part, **good)
for spoil in (
    lambda z: z[None], lambda z: z[:4], lambda z: z.sum(), lambda z: (z, z), lambda z: z > 0,
    lambda z: z / 0, jax.nn.softmax, lambda z: jax.nn.softmax(z * 1e4),
):
    said(lambda: of(spoil))
said(lambda: rm.radii(rm.MLP((64, 10), "tanh", key=jax.random.key(0)), part, **good))
# Fitted to one-hot classes, a linear model adds up to 1 and stays in [0, 1] on black images.
black = type(part)(0 * part.images, part.labels, part.ids)
linear = rm.MLP((784, 10), "tanh", key=jax.random.key(0))
mean = lambda z: z - z.mean() + 0.1
said(lambda: rm.radii(Spoilt(linear, mean), black, **good))
said(lambda: of(jax.nn.log_softmax))
draws = np.random.default_rng(0)
def restless(z):
    like = jax.ShapeDtypeStruct(z.shape, z.dtype)
    draw = lambda z: z + draws.normal(size=z.shape).astype(z.dtype)
    return jax.pure_callback(draw, like, z, vmap_method="broadcast_all")
said(lambda: of(restless))
for change in (
    {"epochs": "20"}, {"epochs": 2.5}, {"sizes": 784}, {"data": "mnist"}, {"precision": "bf17"},
):
    said(lambda: rm.TrainSettings(**change))
split = rm.split(dataset, "lab")
said(lambda: rm.train(rm.TrainSettings(activation="rleu"), split.train, split.valid))
"""

EXPECTED = [
    "fgsm-linf acts in linf, but norm is l2; give norm linf",
    "unknown method 'fgsm': closest are fgsm-linf, .*; `robust-mnist methods` lists all",
    "gradient-step has no ball",
    "unknown norm 'l3': choose from linf, l2",
    r"key must be a key of JAX such as jax.random.key\(0\), got 0",
    "eps must be finite and at least 0, got -1",
    "accepted",
    "True",
    "eps in linf must be at most 1, .* got 8; .*: 8/255 = 0.0314$",
    "eps must name a radius unless methods is one of quick, standard, thorough, got none",
    "quick knows the norms linf, l2, got l1; name methods",
    "eps must name a radius above 0 for a preset, got 0",
    "methods must name an attack, a certifier or one of quick, standard, thorough, got none",
    "unknown preset 'quik'; did you mean 'quick'?",
    "a preset is no method among others; give methods='quick' alone",
    "unknown method 'pgd': closest are",
    "part must be a Part, such as .*, got ndarray; its take",
    "take needs the places of images, such as .*, got 200",
    "part must hold at least one image, got none",
    "accepted",
    r"the model must map an image of 784 pixels to at least 10 logits, got .*shape \(1, 10\); it",
    r"the model must map .*, got an output of shape \(4,\); it is called on one image at a time",
    r"the model must map .*, got an output of shape \(\); it is called on one image at a time",
    "the model must map .*, got tuple; give floats",
    "the model must map .*, got bool; give floats",
    "the model must give finite logits, got NaN or infinity on the clean image [0-9]+; mend its",
    "the model must give logits, got outputs in .* add up to 1, .*; give what goes into",
    "the model must give logits, got outputs in .* add up to 1, .*; give what goes into",
    "the model must map an image of 784 pixels to at least 10 logits, got TypeError: .*; mend it",
    "accepted",
    "accepted",
    "the model must give the same logits when it is asked again, got .* and then .*; fix its draws",
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
