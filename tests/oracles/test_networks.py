"""Trained networks from elsewhere, with bounds that other programs found for them.

ROBUST_MNIST_NETWORKS names the folder of their NPZ files; what is not there is skipped by name.
"""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_mnist import checkpoint, cli, load
from robust_mnist.certify import CERTIFIERS
from robust_mnist.certify._backward import hidden_layers, lowest
from robust_mnist.certify._intervals import affine
from robust_mnist.certify.milp import exact_margin
from robust_mnist.data.pixels import to_float
from robust_mnist.models import ACTIVATIONS
from robust_mnist.sweep import certify_batch


PUBLISHED = sorted((Path(__file__).parents[2] / "reports" / "exact").glob("*.npz"))
FOLDER = os.environ.get("ROBUST_MNIST_NETWORKS")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(FOLDER is None, reason="ROBUST_MNIST_NETWORKS names no folder"),
]


@pytest.fixture(scope="module")
def mnist():
    return load("mnist")


def stored(name):
    """A network that lies beside its results, or in the folder."""
    beside = PUBLISHED[0].parent / "networks" / f"{name}.npz"
    path = beside if beside.is_file() else Path(FOLDER) / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path


def foreign(name, activation):
    return checkpoint.read_npz(stored(name), activation)


# auto_LiRPA 0.7.1: mean width of the output intervals of 8 images at Linf 0.01. Its lines for
# S-shaped activations come from a table with a step of 0.01.
WIDTHS = {"tanh": (2.0940, 4.5432, 1e-2), "relu": (2.3668, 4.1079, 1e-4)} | {
    "sigmoid": (0.2348, 0.2912, 1e-2)
}


@pytest.mark.parametrize("activation", WIDTHS)
def test_widths_agree_with_another_program(activation, mnist):
    model = foreign("tanh-784-50-50-10-standard", activation)
    *expected, tolerance = WIDTHS[activation]
    last = model.layers[-1]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model)
        weight, bias = (jnp.asarray(array, jnp.float64) for array in (last.weight, last.bias))
        images = jnp.asarray(to_float(mnist.test_images[:8]), jnp.float64)
        for refine, width in zip((True, False), expected, strict=True):

            def span(x, refine=refine):
                ball, eps = CERTIFIERS["crown-linf"].ball, jnp.asarray(0.01, jnp.float64)
                layers = hidden_layers(wide, ball, x, eps, refine=refine)
                low = lowest(weight, bias, layers, ball, x, eps)
                return -lowest(-weight, -bias, layers, ball, x, eps) - low

            assert float(jnp.mean(jax.vmap(span)(images))) == pytest.approx(width, abs=tolerance)


@pytest.mark.parametrize(
    ("activation", "width"), [("tanh", 13.4205), ("relu", 17.0945), ("sigmoid", 2.3988)]
)
def test_widths_of_intervals_agree_with_another_program(activation, width, mnist):
    """The same images and radius; intervals leave nothing to choose, so that all digits agree."""
    model = foreign("tanh-784-50-50-10-standard", activation)
    ball, curve = CERTIFIERS["ibp-linf"].ball, ACTIVATIONS[activation]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model)
        last = wide.layers[-1]

        @jax.jit
        def span(x):
            layer = hidden_layers(wide, ball, x, jnp.asarray(0.01, x.dtype), refine=False)[-1]
            low, high, _ = affine(last.weight, last.bias, curve(layer.low), curve(layer.high))
            return high - low

        images = jnp.asarray(to_float(mnist.test_images[:8]), jnp.float64)
        found = float(jnp.mean(jnp.stack([span(image) for image in images])))
    assert found == pytest.approx(width, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ibp-linf", (32, 2, 0)),
        ("crown-ibp-linf", (91, 46, 15)),
        ("crown-linf", (95, 83, 43)),
        ("alpha-crown20-linf", (95, 83, 43)),
    ],
)
def test_counts_agree_with_another_program(name, counts, mnist):
    model = foreign("eran-relu-784-50-50-10", "relu")
    images, labels = mnist.test_images[:100], mnist.test_labels[:100]
    prove = lambda eps: certify_batch(CERTIFIERS[name], model, images, labels, eps=eps)
    assert tuple(int(prove(eps).sum()) for eps in (0.01, 0.02, 0.03)) == counts


@pytest.mark.parametrize(
    ("name", "error", "broken"),
    [
        ("salman2019-nor-mlp-b", 0.02, 2869),
        ("salman2019-adv-mlp-b-0.03", 0.03, 1062),
        ("salman2019-lpd-mlp-b-0.1", 0.1, 1784),
    ],
)
def test_certified_error_is_that_of_plain_linear_bounds(name, error, broken, mnist):
    """Of all 10,000 test images; a public table brackets it by other relaxations."""
    model = foreign(name, "relu")
    proven = certify_batch(
        CERTIFIERS["crown-linf"], model, mnist.test_images, mnist.test_labels, eps=error
    )
    assert abs(10_000 - int(proven.sum()) - broken) <= 2


def test_exact_margins_lie_between_the_bound_and_the_clean_margin(mnist):
    model = foreign("relu-784-50-50-10-standard", "relu")
    crown = CERTIFIERS["crown-linf"]
    for image, y in zip(to_float(mnist.test_images[:2]), mnist.test_labels[:2], strict=True):
        logits = np.asarray(model(jnp.asarray(image)))
        exact = exact_margin(model, image, int(y), eps=0.01)
        bound = crown(model, jnp.asarray(image), jnp.asarray(y, jnp.int32), eps=jnp.array(0.01))
        assert bound - 1e-5 <= exact <= logits[y] - np.max(np.delete(logits, y))


@pytest.mark.parametrize("path", PUBLISHED, ids=[path.stem for path in PUBLISHED])
def test_published_verdicts_hold(path, capsys):
    """All wrong images are replayed, and some certificates proven again."""
    network = stored(path.stem.partition("-linf-")[0])
    words = ["verify", str(path), "--model", str(network), "--images", "200", "--budget", "60s"]
    # On a CPU some take longer than this.
    assert cli.main([*words, "--allow-unproven", "--quiet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["refuted"] == 0
    assert told["replayed"] == told["witnesses"] > 0
    assert told["smaller_proven"] == told["smaller"]
    assert told["certificates"] == 200
    assert told["proven"] > 100
