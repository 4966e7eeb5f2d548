"""What XLA's activations lose in float64, against 60 digits and more: no more than proofs allow."""

import decimal
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_mnist.certify._intervals import outwards
from robust_mnist.certify._lines import CURVES
from robust_mnist.models import ACTIVATIONS


ONE = Decimal(1)


def _exp(x):
    return x.exp() if x > -800 else Decimal(0)


def _tanh(x):
    small = _exp(-2 * abs(x))
    return ((1 - small) / (1 + small)).copy_sign(x)


def _sigmoid(x):
    small = _exp(-abs(x))
    return (ONE if x > 0 else small) / (1 + small)


def _gelu(x):
    # The form with tanh, which is what the suite calls GELU.
    inner = (2 / Decimal("3.14159265358979323846264338327950288419716939937510582")).sqrt()
    return x / 2 * (1 + _tanh(inner * (x + Decimal("0.044715") * x**3)))


EXACT = {
    "tanh": _tanh,
    "relu": lambda x: max(x, Decimal(0)),
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "elu": lambda x: x if x > 0 else _exp(x) - 1,
    "softplus": lambda x: max(x, Decimal(0)) + (1 + _exp(-abs(x))).ln(),
    "leaky-relu": lambda x: x if x > 0 else x / 100,
    "abs": abs,
}
SLOPES = {
    "tanh": lambda x: 1 - _tanh(x) ** 2,
    "relu": lambda x: Decimal(x > 0),
    "sigmoid": lambda x: _sigmoid(x) * _sigmoid(-x),
    "elu": lambda x: ONE if x > 0 else _exp(x),
    "softplus": _sigmoid,
    "leaky-relu": lambda x: ONE if x > 0 else ONE / 100,
}


def arguments():
    """Of every size and either sign, where formulas change, and where they overflow."""
    rng = np.random.default_rng(0)
    ordinary = rng.normal(size=300) * 10.0 ** rng.uniform(-2, 1.5, 300)
    sizes = 10.0 ** rng.uniform(-320, 308, 120)
    near = np.outer([1e-4, 4e-4, 0.625, 1.0, 7.9, 9.01, 18.7, 19.1, 20.0, 22.0, 36.7, 37.5, 700.0,
                     708.4, 709.8, 745.2], 1 + np.array([-1e-9, 0, 1e-9])).ravel()  # fmt: skip
    ends = [0.0, 5e-324, np.finfo(np.float64).tiny, 1e-16, 1e308, np.finfo(np.float64).max]
    positive = np.concatenate([sizes, near, ends])
    return np.concatenate([ordinary, positive, -positive])


def exact(formula, x):
    """With digits for what cancels: numbers of the size of `x`, or its exponential, and 1."""
    size = abs(Decimal(x))
    digits = 60 + 3 * max(0, -size.adjusted() if size else 0) + int(min(size, 800))
    with decimal.localcontext(prec=min(digits, 1100)) as context:
        context.Emin, context.Emax = -999_999, 999_999
        return formula(Decimal(x))


def lost(function, formula):
    """Arguments, computed values, and how far these are from the exact ones."""
    x = arguments()
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(function)(jnp.asarray(x)))
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    truth = [exact(formula, float(at)) for at in x]
    with decimal.localcontext(prec=1100):
        off = [float(abs(Decimal(float(f)) - t)) for f, t in zip(found, truth, strict=True)]
    return x, found, np.array(off)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_right_to_what_proofs_allow(name):
    """The slack of `rounding` and `clean_margins`, which know the input's size as well."""
    x, found, off = lost(ACTIVATIONS[name], EXACT[name])
    limits = np.finfo(np.float64)
    with np.errstate(over="ignore"):
        assert np.all(off <= 16 * (limits.eps * (np.abs(x) + np.abs(found)) + limits.tiny))


@pytest.mark.parametrize("name", CURVES)
def test_bounded_activations_are_right_to_units_of_their_own_size(name):
    """The slack of intervals and of lines, which is that of the outputs alone."""
    _, found, off = lost(ACTIVATIONS[name], EXACT[name])
    with jax.enable_x64(True):
        low, high = outwards(jnp.asarray(found), jnp.asarray(found))
    inside = np.minimum(found - np.asarray(low), np.asarray(high) - found)
    assert np.all(off <= inside)


@pytest.mark.parametrize("name", CURVES)
def test_slopes_are_right_to_units_in_the_last_place_of_1(name):
    """What Lipschitz bounds and quadratic terms allow for."""
    x, _, off = lost(CURVES[name].slope, SLOPES[name])
    limits = np.finfo(np.float64)
    # Next to a kink, where XLA takes the smallest numbers for 0, there are two.
    told = np.abs(x) >= (limits.tiny if CURVES[name].kinked else 0)
    assert np.all(off[told] <= 16 * limits.eps)
