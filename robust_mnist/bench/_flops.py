"""The arithmetic of a program, counted in what JAX traced.

XLA's own `cost_analysis` counts the body of a scan once, however often it runs: 40 steps of PGD
would seem to cost as much as one.
"""

import math
from collections.abc import Mapping
from typing import Any

from jax.extend import core


# What runs the program inside it exactly once.
_ONCE = frozenset(
    {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
)
# What multiplies without saying so in a `dot_general`.
_OPAQUE = frozenset({"conv_general_dilated", "ragged_dot_general", "pallas_call", "ffi_call"})


def matmul_flops(program: core.ClosedJaxpr) -> int | None:
    """Floating-point operations of all matrix products, those in loops as often as they run.

    Element-wise work is left out: between layers of 784 and 50 units it is a hundredth. Nothing is
    assumed about forward and backward passes: a gradient that nobody needs, such as that with
    respect to the training images, is not traced and not counted.

    Args:
        program: As given by `jax.make_jaxpr(f)(*args)` or `jax.jit(f).trace(*args).jaxpr`.

    Returns:
        None where the number depends on the data or is hidden: a `while` loop, branches that
        differ, a convolution, a kernel of its own.
    """
    return _total(program.jaxpr)


def _total(jaxpr: core.Jaxpr) -> int | None:
    counts = [_count(equation) for equation in jaxpr.eqns]
    return _add(counts)


def _count(equation: core.JaxprEqn) -> int | None:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _product(equation)
    if name in _OPAQUE:
        return None
    inner = [_total(jaxpr) for jaxpr in core.jaxprs_in_params(params)]
    if not any(count != 0 for count in inner):
        return 0  # such as the comparison inside a sort
    return _repeat(name, params, inner)


def _repeat(name: str, params: Mapping[str, Any], inner: list[int | None]) -> int | None:
    total = _add(inner)
    if total is None:
        return None
    if name == "scan":
        return int(params["length"]) * total
    if name == "cond":
        return inner[0] if len(set(inner)) == 1 else None
    return total if name in _ONCE else None


def _product(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left: Any = equation.invars[0].aval  # an array, but the type does not say so
    out: Any = equation.outvars[0].aval
    return 2 * math.prod(left.shape[axis] for axis in contracted) * math.prod(out.shape)


def _add(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
