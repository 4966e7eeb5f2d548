"""Classifiers: one flattened image in, logits out.

To add a model, write `models/<name>.py` with a class that takes `sizes`, `activation` and `key`,
and name it in `MODELS`.
"""

from robust_mnist.models._base import AbstractClassifier as AbstractClassifier
from robust_mnist.models.mlp import ACTIVATIONS as ACTIVATIONS, MLP as MLP


MODELS: dict[str, type[MLP]] = {
    "mlp": MLP,
}
