"""What this machine can reach, measured where the benchmarks are: the rates they are held against.

A data sheet knows nothing of the clock, the neighbours and the number of threads of today.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from robust_mnist.arithmetic import Product, products


Array = jax.Array
_SECONDS = 0.15  # per rate; long enough for a clock of a microsecond and a thread pool to wake up
_ROUNDS = 7
# 2048 x 2048 is the size from which the rate of a product no longer grows, on two cores and on a
# GPU of some TFLOP/s alike; beyond that the device says how much larger it has to be.
_SQUARE = {"cpu": 2048}
_TRIAD = 2**24  # numbers in each of three vectors: beyond any cache


def measure_peaks() -> dict[str, Any]:
    """Rates of the device in use.

    Returns:
        `matmul_float32` and `matmul_bfloat16`, FLOP/s of a large square product (None where the
        device does not multiply bfloat16); `triad`, bytes/s of `a = b + s * c` with the three
        vectors counted once each; `dispatch_s`, seconds of an empty compiled call; `float32_error`,
        the largest error of a float32 product at default precision, relative to the largest value:
        about 1e-7, or 5e-4 where the device rounds to TF32 first.
    """
    side = _SQUARE.get(jax.default_backend(), 8192)
    square = Product(1, side, side, side)
    return {
        "matmul_float32": product_rate(square, "float32"),
        "matmul_bfloat16": _bfloat16(square),
        "triad": _triad(),
        "dispatch_s": _dispatch(),
        "float32_error": _float32_error(),
    }


def own_rate(program: core.ClosedJaxpr, dtype: str = "float32") -> float | None:
    """FLOP/s this device reaches on a program's own matrix products and nothing else.

    Each product is timed alone, on arrays already in place; the slow ones count for as long as
    they take. What remains between this and the program's rate is everything else: gathering,
    activations, updates, dispatch.

    Args:
        program: As `matmul_flops` takes it.
        dtype: Numbers multiplied.

    Returns:
        None where the products are unknown, or there are none, or more than a tenth of their time
        goes to those that take little longer than their call: a program that makes many calls into
        one would seem faster than its products.
    """
    found = products(program)
    if not found:
        return None
    total = sum(product.flops * count for product, count in found.items())
    # A millionth of the work says nothing about the rate, but would cost a compilation.
    large = {p: count for p, count in found.items() if p.flops * count > total / 100}
    alone = {p: p.flops / product_rate(p, dtype) for p in large}
    seconds = sum(alone[p] * count for p, count in large.items())
    calling = sum(alone[p] * count for p, count in large.items() if alone[p] < 4 * _call())
    if calling > seconds / 10:
        return None
    return sum(p.flops * count for p, count in large.items()) / seconds


@functools.cache
def product_rate(product: Product, dtype: str) -> float:
    """FLOP/s of one matrix product, measured once a process."""
    left, right = (
        _noise(product.batch, *shape, dtype=dtype)
        for shape in ((product.rows, product.inner), (product.inner, product.columns))
    )
    call = jax.jit(lambda a, b: jax.lax.dot_general(a, b, (((2,), (1,)), ((0,), (0,)))))
    return product.flops / seconds_per_call(call, left, right)


def seconds_per_call(call: Callable[..., Any], *args: Any) -> float:
    """Seconds of a call in a row of calls: the median over seven rows, the first call left out."""
    jax.block_until_ready(call(*args))  # compile, and let the threads wake up
    repeat = 1
    while True:
        seconds = _row(call, args, repeat)
        if seconds > _SECONDS / _ROUNDS:
            break
        repeat *= 2 if seconds > _SECONDS / _ROUNDS / 8 else 8
    return float(np.median([_row(call, args, repeat) for _ in range(_ROUNDS)])) / repeat


def _row(call: Callable[..., Any], args: tuple[Any, ...], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        out = call(*args)
    jax.block_until_ready(out)
    return time.perf_counter() - start


def _noise(*shape: int, dtype: str) -> Array:
    numbers = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return jnp.asarray(numbers, dtype)


def _bfloat16(square: Product) -> float | None:
    try:
        return product_rate(square, "bfloat16")
    except jax.errors.JaxRuntimeError:  # an old GPU has no such product
        return None


def _triad() -> float:
    b, c = (_noise(_TRIAD, dtype="float32") for _ in range(2))
    return 3 * b.nbytes / seconds_per_call(jax.jit(lambda b, c: b + 3.0 * c), b, c)


def _dispatch() -> float:
    nothing = jax.jit(lambda x: x + 1.0)
    x = jnp.zeros(())
    # One by one: what a caller who needs each result waits for beyond the work itself.
    return seconds_per_call(lambda: jax.block_until_ready(nothing(x)))


@functools.cache
def _call() -> float:
    """Seconds of an empty call in a row of calls that nobody waits for."""
    return seconds_per_call(jax.jit(lambda x: x + 1.0), jnp.zeros(()))


def _float32_error() -> float:
    a, b = (_noise(256, 256, dtype="float32") for _ in range(2))
    exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
    return float(np.max(np.abs(np.asarray(a @ b) - exact)) / np.max(np.abs(exact)))
