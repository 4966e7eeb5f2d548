"""Ctrl-C and a request to end: heard at once where Python can, at the next boundary at the latest.

A signal raises KeyboardInterrupt wherever Python happens to be. Inside a callback of a library the
exception is swallowed, and in the middle of an import it becomes another one; so the signal is
noted as well, and every loop asks at its boundaries.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


EXIT_CODE = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclasses.dataclass
class _State:
    installed: bool = False
    asked: bool = False
    deferred: bool = False


_state = _State()


def install() -> None:
    """Take over the signals of this process, which is a command: a second one ends it at once."""
    _state.installed = True
    for number in _SIGNALS:
        signal.signal(number, _take)
    # What a callback swallowed is told by `check`; its traceback would only alarm.
    sys.unraisablehook = _without_interrupts


def asked() -> bool:
    """Whether a signal has come."""
    return _state.asked


def check() -> None:
    """Act on a signal whose exception was lost.

    Raises:
        KeyboardInterrupt: A signal has come, and nobody has said to see to it.
    """
    if _state.asked and not _state.deferred:
        raise KeyboardInterrupt


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """While the block runs, a first signal is noted and nothing else; a second one ends at once.

    Outside a command, as in a notebook, "at once" is what the signal usually does.

    Yields:
        A function that tells whether a signal has come.
    """
    if _state.installed:
        _state.deferred = True
        try:
            yield asked
        finally:
            _state.deferred = False
    elif threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may set handlers
    else:
        with _noted() as come:
            yield come


def leave() -> None:
    """End the process with `EXIT_CODE`, now; libraries that are cut short have nothing to add."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(EXIT_CODE)


def settle() -> None:
    """Let no further signal disturb the end of an interrupted command."""
    if _state.installed:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _take(_number: int, _frame: FrameType | None) -> None:
    if _state.asked:
        # Not through Python's streams: one of them may be in use right now. A progress bar has
        # hidden the cursor.
        shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""
        os.write(2, f"{shown}robust-mnist: ended at once; the same command continues\n".encode())
        os._exit(EXIT_CODE)
    _state.asked = True
    check()


def _without_interrupts(lost: Any) -> None:
    if not (_state.asked and issubclass(lost.exc_type, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)


@contextlib.contextmanager
def _noted() -> Iterator[Callable[[], bool]]:
    come = threading.Event()
    usual = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def note(_number: int, _frame: FrameType | None) -> None:
        come.set()
        restore()

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield come.is_set
    finally:
        restore()
