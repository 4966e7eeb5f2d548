"""Networks that hide nothing: four recipes, two seeds each."""

import dataclasses

import numpy as np

from robust_mnist import training
from robust_mnist.config import TrainSettings
from robust_mnist.console import Console
from robust_mnist.data import Part, Split
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep import judge_batch


SEEDS = 2
# Fewer passes than the defaults' 500 where training is slow or soon done.
RECIPES: dict[str, TrainSettings] = {
    "lab": TrainSettings(),
    "wide": TrainSettings(sizes=(784, 256, 256, 10), activation="relu", epochs=50),
    "pgd-trained": TrainSettings(objective="adversarial-linf-0.1", epochs=100),
    "interval-trained": TrainSettings(objective="interval-linf-0.1", epochs=300),
}


@dataclasses.dataclass(frozen=True)
class Sound:
    """A network that hides nothing.

    Attributes:
        name: Its recipe and seed.
        model: The network.
        sibling: The one of the other seed.
        accuracy: On all test images.
        part: Images to attack, no other network's.
    """

    name: str
    model: AbstractClassifier
    sibling: AbstractClassifier
    accuracy: float
    part: Part


def trained(split: Split, seed: int, images: int, *, quick: bool, console: Console) -> list[Sound]:
    """The networks of a seed, each with its own `images` of the test images.

    Other seeds have other images, as far as there are. With `quick` the first recipe alone, for a
    tenth of its epochs.
    """
    recipes = dict(list(RECIPES.items())[:1]) if quick else RECIPES
    found: list[Sound] = []
    for name, recipe in recipes.items():
        settings = dataclasses.replace(
            recipe, seed=seed * SEEDS, seeds=SEEDS,
            epochs=recipe.epochs // 10 if quick else recipe.epochs,
        )  # fmt: skip
        done = training.train(settings, split.train, split.valid)
        for number, model in enumerate(done.models):
            start = (seed * len(RECIPES) * SEEDS + len(found)) * images
            places = np.arange(start, start + images) % len(split.test.labels)
            sound = Sound(
                f"{name}-{settings.seed + number}", model, done.models[1 - number],
                _accuracy(model, split.test),
                split.test.take(places),
            )  # fmt: skip
            found.append(sound)
            console.note(f"{sound.name}: {sound.accuracy:.2%} after {done.seconds:.0f} s")
    return found


def _accuracy(model: AbstractClassifier, part: Part) -> float:
    margins, _ = judge_batch(model, to_float(part.images), part.labels)
    return float(np.mean(margins > 0))
