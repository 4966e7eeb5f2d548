"""Compilation ahead of time, each stage on its own clock."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from robust_mnist.bench._flops import matmul_flops


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function, and what it took to compile it.

    Attributes:
        call: Takes arrays of exactly the shapes it was compiled for; never compiles again.
        trace_s: Seconds from Python to a jaxpr.
        lower_s: Seconds from the jaxpr to StableHLO.
        compile_s: Seconds XLA took to make machine code of it.
        flops: Floating-point operations of a call's matrix products; None if unknown.
    """

    call: Callable[..., Any]
    trace_s: float
    lower_s: float
    compile_s: float
    flops: int | None


def compile_in_stages(function: Callable[..., Any], *args: Any) -> Program:
    """Compile a function for these arguments without running it.

    With a persistent compilation cache, `compile_s` may be the time of reading a file; switch it
    off to measure.

    Args:
        function: Function of arrays and pytrees of arrays, not yet jitted.
        *args: What it will be called with.
    """
    start = time.perf_counter()
    traced = jax.jit(function).trace(*args)
    at_traced = time.perf_counter()
    lowered = traced.lower()
    at_lowered = time.perf_counter()
    compiled = lowered.compile()
    at_compiled = time.perf_counter()
    return Program(
        call=compiled,
        trace_s=at_traced - start,
        lower_s=at_lowered - at_traced,
        compile_s=at_compiled - at_lowered,
        flops=matmul_flops(traced.jaxpr),
    )
