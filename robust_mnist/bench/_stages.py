"""Compilation ahead of time, each stage on its own clock."""

import collections
import dataclasses
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend import core

from robust_mnist.arithmetic import matmul_flops


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function, and what it took to compile it.

    Attributes:
        call: Takes arrays of exactly the shapes it was compiled for; never compiles again.
        trace_s: Seconds from Python to a jaxpr.
        lower_s: Seconds from the jaxpr to StableHLO.
        compile_s: Seconds XLA took to make machine code of it.
        flops: Floating-point operations of a call's matrix products; None if unknown.
        jaxpr: What JAX traced.
        operations: How often each HLO operation stands in the compiled program.
        memory: Bytes: `argument_bytes`, `output_bytes`, `temporary_bytes`, and `peak_bytes`, their
            sum without what shares memory; empty where the backend does not tell.
    """

    call: Callable[..., Any]
    trace_s: float
    lower_s: float
    compile_s: float
    flops: int | None
    jaxpr: core.ClosedJaxpr
    operations: Mapping[str, int]
    memory: Mapping[str, int]


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
        jaxpr=traced.jaxpr,
        operations=_operations(compiled.as_text() or ""),
        memory=_memory(compiled.memory_analysis()),
    )


def _operations(text: str) -> dict[str, int]:
    # An instruction reads `name = type[shape]{layout} operation(operands), attributes`; the type
    # may be a tuple, with spaces and parentheses of its own.
    found = re.findall(r"^ +(?:ROOT )?%?[\w.-]+ = (?:\(.*?\)|\S+) ([\w-]+)\(", text, re.MULTILINE)
    return dict(sorted(collections.Counter(found).items()))


def _memory(analysis: Any) -> dict[str, int]:
    if analysis is None:
        return {}
    parts = {
        f"{name}_bytes": int(getattr(analysis, f"{short}_size_in_bytes"))
        for name, short in (("argument", "argument"), ("output", "output"), ("temporary", "temp"))
    }
    return parts | {"peak_bytes": sum(parts.values()) - int(analysis.alias_size_in_bytes)}
