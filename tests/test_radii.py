import numpy as np
import pytest
from hypothesis import given, strategies as st

from robust_mnist.records import Contradiction, Radii


IMAGES = 4
names = st.sampled_from(["a", "b", "c"])
# A few values only, so that ties are common.
above = st.sampled_from([1.0, 2.0, 3.0, np.inf])
below = st.sampled_from([-np.inf, 0.0, 0.25, 0.5])


@st.composite
def bounds(draw):
    upper = np.array(draw(st.lists(above, min_size=IMAGES, max_size=IMAGES)))
    lower = np.array(draw(st.lists(below, min_size=IMAGES, max_size=IMAGES)))
    reached = np.array(draw(st.lists(st.integers(0, 9), min_size=IMAGES, max_size=IMAGES)))
    attack = Radii.attacked("linf", draw(names), upper, reached)
    proof = Radii.certified("linf", draw(names), lower)
    return attack.merge(proof)


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(a.arrays().values(), b.arrays().values(), strict=True)
    )


@given(bounds(), bounds(), bounds())
def test_merging_is_commutative_associative_and_idempotent(a, b, c):
    assert same(a.merge(b), b.merge(a))
    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert same(a.merge(a), a)


@given(bounds(), bounds())
def test_merging_only_tightens(a, b):
    merged = a.merge(b)
    assert np.all(merged.lower >= a.lower)
    assert np.all(merged.upper <= a.upper)


def test_a_tie_goes_to_the_alphabetically_first_method():
    found = lambda name: Radii.attacked("l2", name, np.array([0.5]), np.array([3]))
    assert found("pgd").merge(found("apgd")).method[0] == "apgd"


def test_a_failed_attack_never_raises_the_lower_bound():
    failed = Radii.attacked("linf", "pgd", np.array([np.inf]), np.array([7]))
    assert failed.lower[0] == -np.inf
    assert failed.method[0] == ""
    assert failed.reached[0] == -1


def test_a_clean_mistake_has_radius_zero_and_a_right_image_more():
    clean = Radii.clean("linf", np.array([True, False]), np.array([3, 5]))
    assert clean.upper.tolist() == [np.inf, 0.0]
    assert clean.lower.tolist() == [0.0, -np.inf]
    assert clean.reached.tolist() == [-1, 5]


@pytest.mark.parametrize("upper", [0.1, 0.05])
def test_a_contradiction_names_image_norm_and_both_methods(upper):
    attack = Radii.attacked("linf", "pgd", np.array([np.inf, upper]), np.array([0, 4]))
    proof = Radii.certified("linf", "ibp", np.array([0.3, 0.1]))
    with pytest.raises(Contradiction, match=r"image 1 in linf: ibp .*0\.1.* pgd"):
        attack.merge(proof)


def test_radii_of_other_norms_do_not_merge():
    radii = [Radii.certified(norm, "x", np.array([0.1])) for norm in ("linf", "l2")]
    with pytest.raises(ValueError, match="one norm"):
        radii[0].merge(radii[1])


def test_curves_are_survival_functions_that_never_rise():
    rng = np.random.default_rng(0)
    attack = Radii.attacked("linf", "pgd", rng.uniform(0.1, 1, 50), np.zeros(50, np.int64))
    radii = attack.merge(Radii.clean("linf", np.arange(50) >= 5, np.zeros(50, np.int64)))
    eps = np.linspace(0, 1, 201)
    curve = radii.attacked_accuracy(eps)
    assert curve[0] == 0.9
    assert curve[-1] == 0.0
    assert np.all(np.diff(curve) <= 0)
    assert radii.certified_accuracy([0.0])[0] == 0.9
    assert np.all(radii.certified_accuracy(eps) <= curve)
