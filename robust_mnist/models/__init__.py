"""Classifiers: one flattened image in, logits out.

To add a model, write `models/<name>.py` with a class that takes `sizes`, `activation` and `key`,
and name it in `MODELS`.
"""

from robust_mnist.models._base import (
    AbstractClassifier as AbstractClassifier,
    AbstractParametrised as AbstractParametrised,
    kept as kept,
)
from robust_mnist.models.mlp import ACTIVATIONS as ACTIVATIONS, MLP as MLP
from robust_mnist.models.orthonormal import Orthonormal as Orthonormal
from robust_mnist.models.stochastic import (
    AbstractStochasticClassifier as AbstractStochasticClassifier,
    Expectation as Expectation,
)
from robust_mnist.plugins import with_plugins


MODELS: dict[str, type[MLP] | type[Orthonormal]] = with_plugins(
    "models",
    {
        "mlp": MLP,
        "orthonormal": Orthonormal,
    },
)
