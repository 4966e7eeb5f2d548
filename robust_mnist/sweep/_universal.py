"""Universal perturbations: one change for many images, found on some and tried on others."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from robust_mnist import metrics
from robust_mnist.data import Part, Split
from robust_mnist.data.pixels import to_float
from robust_mnist.models import AbstractClassifier
from robust_mnist.sweep._panels import Panels
from robust_mnist.threat import AbstractBall, Linf


CLASSES = 10
# Training images of each class that a perturbation is found on, and the steps that find it.
IMAGES, STEPS, REL_STEP_SIZE = 80, 30, 0.1
_ANY = -1
_LINF = Linf()


def universal_eps(radii: Sequence[float]) -> float:
    """Of the radii of a sweep, in increasing order, the one four fifths up: 0.1 by default in Linf.

    One change for many images has to be larger than most images need by themselves.
    """
    return radii[round(0.8 * (len(radii) - 1))]


def universal_panel(
    model: AbstractClassifier, split: Split, *, eps: float, ball: AbstractBall = _LINF
) -> Panels:
    """Perturbations of each class, of all, and from each class to each other.

    They are found on training images and tried on the test images that are right without them.

    Reference:
        Moosavi-Dezfooli, Fawzi, Fawzi and Frossard, "Universal adversarial perturbations", CVPR
        2017, by projected gradient steps on the mean loss of a set.

    Args:
        model: Classifier under attack.
        split: Where the training and the test images come from.
        eps: Largest size of a perturbation, above 0.
        ball: Norm of that size.

    Returns:
        `universal/eps` and `norm`; `perturbations` of the ten classes and, last, of all; `fooled`,
        the share of test images each of them makes wrong, among the `images` it was tried on; and
        `flow`, the share of each class that the perturbation towards each other class takes there.
        A share is NaN where there was no image to find it on or to try it on.
    """
    images, labels, there = _sample(split.train)
    own, everyone, towards = _find(model, images, labels, jnp.asarray(eps, jnp.float32), ball)
    right, changed, overall, flown = _try(model, split.test, own, everyone, towards)
    truth = split.test.labels
    of_class = [right & (truth == label) & there[label] for label in range(CLASSES)]
    sets = [*of_class, right & there.any()]
    return {
        "universal/eps": np.asarray(eps),
        "universal/norm": np.asarray(ball.name),
        "universal/perturbations": np.concatenate([np.asarray(own), np.asarray(everyone)[None]]),
        "universal/fooled": np.array(
            [_share(changed != truth, of) for of in of_class] + [_share(overall != truth, sets[-1])]
        ),
        "universal/images": np.array([of.sum() for of in sets]),
        "universal/flow": np.array(
            [
                [
                    _share(flown[target] == target, of) if target != label else np.nan
                    for target in range(CLASSES)
                ]
                for label, of in enumerate(of_class)
            ]
        ),
    }


def _share(which: np.ndarray, of: np.ndarray) -> float:
    return float(np.mean(which[of])) if of.any() else np.nan


def _sample(
    part: Part,
) -> tuple[Float[Array, "classes images pixels"], Int[Array, "classes images"], np.ndarray]:
    """The first training images of each class, again where they are few; and which there are."""
    places = [np.flatnonzero(part.labels == label)[:IMAGES] for label in range(CLASSES)]
    there = np.array([place.size > 0 for place in places])
    # A class without any takes the first image: what comes of it is not looked at.
    chosen = np.stack([np.resize(place if place.size else [0], IMAGES) for place in places])
    labels = np.broadcast_to(np.arange(CLASSES, dtype=np.int32)[:, None], chosen.shape)
    return jnp.asarray(to_float(part.images[chosen])), jnp.asarray(labels), there


@eqx.filter_jit
def _find(
    model: AbstractClassifier,
    images: Float[Array, "classes images pixels"],
    labels: Int[Array, "classes images"],
    eps: Float[Array, ""],
    ball: AbstractBall,
) -> tuple[Float[Array, "classes pixels"], Float[Array, " pixels"], Array]:
    """The perturbation of each class, of all, and of each class towards each."""
    one = lambda x, y, target: _perturb(model, x, y, target, eps, ball)
    each = lambda target: jax.vmap(lambda x, y: one(x, y, target))(images, labels)
    whatever = jnp.asarray(_ANY, labels.dtype)
    everyone = one(images.reshape(-1, images.shape[-1]), labels.ravel(), whatever)
    return each(whatever), everyone, jax.lax.map(each, jnp.arange(CLASSES, dtype=labels.dtype))


def _perturb(
    model: AbstractClassifier,
    images: Float[Array, "images pixels"],
    labels: Int[Array, " images"],
    target: Int[Array, ""],
    eps: Float[Array, ""],
    ball: AbstractBall,
) -> Float[Array, " pixels"]:
    """The perturbation that is seen to succeed on most of the images."""

    def score(x: Array, y: Array, delta: Array) -> Array:
        logits = model(jnp.clip(x + delta, 0.0, 1.0))
        goal = jnp.maximum(target, 0)
        return jnp.where(target == _ANY, -metrics.margin(logits, y), metrics.margin(logits, goal))

    def value(delta: Array) -> tuple[Array, Array]:
        scores = jax.vmap(score, in_axes=(0, 0, None))(images, labels, delta)
        # What has succeeded counts no more, or a few images would lead far beyond the boundary.
        return jnp.mean(jnp.minimum(scores, 0.0)), jnp.mean(scores > 0)

    def step(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        delta, best, highest = state
        (_, share), gradient = jax.value_and_grad(value, has_aux=True)(delta)
        better = share >= highest  # of equals the later, which has more in hand
        best, highest = jnp.where(better, delta, best), jnp.where(better, share, highest)
        moved = delta + REL_STEP_SIZE * eps * ball.steepest(gradient)
        return (ball.project(moved, eps), best, highest), None

    none = jnp.zeros(images.shape[1], images.dtype)
    # One step more than are taken, which only scores the last.
    (_, best, _), _ = jax.lax.scan(step, (none, none, jnp.asarray(-1.0)), length=STEPS + 1)
    return best


def _try(
    model: AbstractClassifier, part: Part, own: Array, everyone: Array, towards: Array
) -> tuple[np.ndarray, ...]:
    """Of the test images: which are right, and the classes under each kind of perturbation."""

    @eqx.filter_jit
    def classes(
        model: AbstractClassifier, pixels: Array, labels: Integer[Array, " images"]
    ) -> tuple[Array, ...]:
        with jax.default_matmul_precision("highest"):
            answer = lambda delta: jnp.argmax(
                jax.vmap(model)(jnp.clip(pixels + delta, 0.0, 1.0)), axis=1
            )
            margins = jax.vmap(lambda x, y: metrics.margin(model(x), y))(pixels, labels)
            flown = jax.lax.map(lambda deltas: answer(deltas[labels]), towards)
            return margins > 0, answer(own[labels]), answer(everyone[None]), flown

    pixels, labels = jnp.asarray(to_float(part.images)), jnp.asarray(part.labels, jnp.int32)
    return tuple(np.asarray(array) for array in classes(model, pixels, labels))
