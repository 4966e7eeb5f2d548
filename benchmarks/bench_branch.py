"""Branch and bound: domains per second, end to end, on images that nothing cheaper decides."""

import itertools

import jax
import numpy as np
import pytest

from robust_mnist.attacks import ATTACKS
from robust_mnist.certify import CERTIFIERS, SEARCHES, Search
from robust_mnist.data import Part
from robust_mnist.sweep import BranchAndBound, Budget, break_batch, certify_batch, method_key


IMAGES, STEPS, FEW = 2000, 20, 40
# Where a few of a hundred images are left to it.
EPS = {"linf": 0.02, "l2": 0.3}


@pytest.mark.parametrize(
    ("norm", "search"),
    [
        pytest.param(norm, search, id=f"{search.name}-{norm}")
        for norm, contracting in SEARCHES.items()
        for search in (contracting, Search(contracting.ball))
    ],
)
def bench_branch(time_call, network, mnist, norm, search):
    part = left_open(network, mnist, norm)
    if not isinstance(search, Search):
        # Of a step with so few domains none would decide any of more images.
        part = part.take(np.arange(FEW))

    explored = set()

    def work():
        done = BranchAndBound(search, network, part, EPS[norm])
        for _ in itertools.islice(done.run(Budget()), STEPS):
            pass
        explored.add(done.explored)
        return done

    done = time_call(work, items=lambda done: done.explored, rounds=3)

    # It does the same every time, and what it settles it cannot settle both ways.
    assert explored == {done.explored}
    assert done.certified.any()
    assert not done.certified[list(done.found)].any()


def left_open(network, mnist, norm):
    """What CROWN does not certify and PGD does not break."""
    images, labels = mnist.test_images[:IMAGES], mnist.test_labels[:IMAGES]
    eps, name = EPS[norm], f"pgd40-{norm}"
    proven = certify_batch(CERTIFIERS[f"crown-{norm}"], network, images, labels, eps=eps)
    attacked = break_batch(
        ATTACKS[name], network, images, labels, ids=np.arange(IMAGES), eps=eps,
        key=method_key(jax.random.key(0), name),
    )  # fmt: skip
    places = np.flatnonzero(~proven & ~attacked.broken)
    return Part(images[places], labels[places], places)
