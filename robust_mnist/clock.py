"""Time spent computing, with compilation told apart.

JAX reports when it traces, lowers and compiles; what is left of a block's wall time is the work
itself. The caller waits for the device inside the block.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

import jax


_STAGES = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")
_intervals: list[tuple[float, float]] = []
_compiled: list[float] = []  # when
_running: list["Elapsed"] = []


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event.endswith(_STAGES):
        now = time.perf_counter()
        _intervals.append((now - duration_secs, now))
        if event.endswith(_STAGES[-1]):
            _compiled.append(now)


jax.monitoring.register_event_duration_secs_listener(_listen)


@dataclasses.dataclass
class Elapsed:
    """What a block took, in seconds.

    Attributes:
        seconds: Wall time without compilation.
        compile_seconds: Time in which JAX was tracing, lowering or compiling.
        compilations: Programs that were compiled, or read from a cache of compiled ones.
    """

    seconds: float = 0.0
    compile_seconds: float = 0.0
    compilations: int = 0


@contextlib.contextmanager
def stopwatch() -> Iterator[Elapsed]:
    """Time a block; the values stand when it has ended.

    Stages nest (a traced function calls traced functions), so their intervals are united, not
    added. Blocks may nest too, but not run side by side.
    """
    elapsed = Elapsed()
    if not _running:
        _intervals.clear()
        _compiled.clear()
    _running.append(elapsed)
    start = time.perf_counter()
    try:
        yield elapsed
    finally:
        _running.pop()
    end = time.perf_counter()
    elapsed.compile_seconds = _union(start, end)
    elapsed.seconds = end - start - elapsed.compile_seconds
    elapsed.compilations = sum(at >= start for at in _compiled)


def _union(start: float, end: float) -> float:
    covered, reached = 0.0, start
    for begun, ended in sorted(_intervals):
        fresh = min(ended, end) - max(begun, reached)
        if fresh > 0:
            covered += fresh
            reached = min(ended, end)
    return covered
