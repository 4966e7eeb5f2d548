"""The arithmetic of a program, counted in what JAX traced.

XLA's own `cost_analysis` counts the body of a scan once, however often it runs: 40 steps of PGD
would seem to cost as much as one.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jax.extend import core


@dataclasses.dataclass(frozen=True)
class Product:
    """The shape of a matrix product: `batch` times (rows, inner) by (inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiplication and an addition each."""
        return 2 * self.batch * self.rows * self.inner * self.columns

    @property
    def numbers(self) -> int:
        """Numbers read and written, each once."""
        reading = self.rows * self.inner + self.inner * self.columns
        return self.batch * (reading + self.rows * self.columns)


Counts = collections.Counter[Product]

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
    return _summed(program, lambda product: product.flops)


def matmul_numbers(program: core.ClosedJaxpr) -> int | None:
    """Numbers that the matrix products of a program read and write, each once a product.

    As `matmul_flops` otherwise. A program whose arrays stay in a cache moves less memory, one
    that does much between its products moves more.
    """
    return _summed(program, lambda product: product.numbers)


def _summed(program: core.ClosedJaxpr, each: Callable[[Product], int]) -> int | None:
    found = products(program)
    return None if found is None else sum(each(product) * n for product, n in found.items())


def products(program: core.ClosedJaxpr) -> Counts | None:
    """Every shape of matrix product and how often it is computed; None where that is unknown."""
    return _total(program.jaxpr)


def _total(jaxpr: core.Jaxpr) -> Counts | None:
    return _add([_count(equation) for equation in jaxpr.eqns])


def _count(equation: core.JaxprEqn) -> Counts | None:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return Counts([_product(equation)])
    if name in _OPAQUE:
        return None
    inner = [_total(jaxpr) for jaxpr in core.jaxprs_in_params(params)]
    if all(counts is not None and not counts for counts in inner):
        return Counts()  # such as the comparison inside a sort
    return _repeat(name, params, inner)


def _repeat(name: str, params: Mapping[str, Any], inner: list[Counts | None]) -> Counts | None:
    total = _add(inner)
    if total is None:
        return None
    if name == "scan":
        return Counts({product: int(params["length"]) * n for product, n in total.items()})
    if name == "cond":
        return inner[0] if all(counts == inner[0] for counts in inner) else None
    return total if name in _ONCE else None


def _product(equation: core.JaxprEqn) -> Product:
    contracted, batched = equation.params["dimension_numbers"]
    left: Any = equation.invars[0].aval  # arrays, but the type does not say so
    right: Any = equation.invars[1].aval
    free = lambda array, axes: _size(array, set(range(array.ndim)) - {*axes})
    return Product(
        batch=_size(left, batched[0]),
        rows=free(left, (*contracted[0], *batched[0])),
        inner=_size(left, contracted[0]),
        columns=free(right, (*contracted[1], *batched[1])),
    )


def _size(array: Any, axes: Iterable[int]) -> int:
    return math.prod(array.shape[axis] for axis in axes)


def _add(counts: list[Counts | None]) -> Counts | None:
    known = [count for count in counts if count is not None]
    return sum(known, Counts()) if len(known) == len(counts) else None


def passes(program: core.ClosedJaxpr, sizes: tuple[int, int]) -> tuple[float, float]:
    """How often a program runs a network forward and backward, read off its first layer.

    A pass forward multiplies the first weights with pixels; a pass backward ends in a product that
    gives one number per pixel.

    Args:
        program: Of one image.
        sizes: Pixels and width of the first layer, which have to differ.

    Returns:
        Passes forward and backward; NaN where they depend on the data.
    """
    found = products(program)
    if found is None:
        return math.nan, math.nan
    pixels, width = sizes
    cost = 2.0 * pixels * width
    share = lambda chosen: sum(p.flops * n for p, n in found.items() if chosen(p)) / cost
    return share(lambda p: p.inner == pixels), share(
        lambda p: p.inner != pixels and pixels in (p.rows, p.columns)
    )
