"""Measure code in fresh processes, one at a time on the machine."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from robust_mnist.console import Console
from robust_mnist.errors import InputError, NotComparable, WrongDevice
from robust_mnist.files import writing
from robust_mnist.gate._sides import Code, content_hash
from robust_mnist.records import Timings, read_timings


if sys.platform != "win32":
    import fcntl

WRONG_DEVICE = WrongDevice.exit_code
_LAST_LINES = 20
# Ten times what a launch takes on two cores: what takes longer hangs, and a gate must not.
_LIMIT_S, _QUICK_LIMIT_S = 6 * 3600, 300
# As an error, which our benchmarks make of all warnings, it would hide why no benchmark ran.
_NO_ERROR = "default:Not saving anything"
# In a process of its own: this one has no need of JAX, nor of the memory it would take on a GPU.
_PROBE = """
import os, sys
from robust_mnist import bench
if complaint := bench.wrong_device(os.environ.get("JAX_PLATFORMS", "")):
    sys.stderr.write(complaint)
    sys.exit(5)
print(bench.environment_key(bench.environment()))
"""
_WHERE = "import robust_mnist; print(robust_mnist.__file__)"


class LaunchFailed(RuntimeError):  # noqa: N818 what failed is the code that was measured
    """A launch gave no result; what it printed last is on stderr."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Launch(NamedTuple):
    """A launch to make.

    Attributes:
        code: What is measured.
        tree: Where the code lies.
        out: File that will hold the result.
    """

    code: Code
    tree: Path
    out: Path


def environment_key() -> str:
    """The environment key of a process that measures here.

    Raises:
        LaunchFailed: JAX cannot start, or not on the device that `JAX_PLATFORMS` asks for.
    """
    package = Path(__file__).resolve().parents[2]
    environment = _environment(package) | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    # -P: the folder this runs in may hold another robust_mnist.
    done = _run(["-P", "-c", _PROBE], package, environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        code = WRONG_DEVICE if done.returncode == WRONG_DEVICE else 1
        raise LaunchFailed(f"no benchmark can run here: {lines[-1]}", code)
    return done.stdout.split()[-1]


def measure(launches: Sequence[Launch], *, quick: bool, title: str, console: Console) -> None:
    """Make launches in the given order; each file is written as soon as its launch has ended.

    Raises:
        LaunchFailed: A launch failed. Its exit code is 1, or 5 for the wrong device.
        InputError: The code changed while it was measured.
        NotComparable: The code writes results that this version cannot read.
    """
    with _alone_on_this_machine(console), console.progress(title, len(launches)) as update:
        # By folder, not by code: two sides may be the same commit in two worktrees.
        for code, tree in {launch.tree: (launch.code, launch.tree) for launch in launches}.values():
            _prepare(code, tree)
        for done, launch in enumerate(launches):
            update(done, launch.out.stem)
            _measure(launch, quick=quick)
        update(len(launches), "")


def _measure(launch: Launch, *, quick: bool) -> None:
    code, tree, out = launch
    with writing(out.resolve()) as temporary:
        words = ["-m", "pytest", "benchmarks", "--benchmark-only", "-q", "-W", _NO_ERROR]
        words += [f"--benchmark-json={temporary}", *(["--quick"] if quick else [])]
        done = _run(words, tree, _environment(tree))
        if done.returncode:
            _fail(code, done)
        timings = _read(temporary, code)
        measured = str(timings.machine.get("commit", "")).rstrip("+")
        # Where git is too slow to answer, a version stands in its place.
        known = code.folder is None and re.fullmatch("[0-9a-f]{7,}", measured)
        if known and not code.state.startswith(measured):
            raise LaunchFailed(f"a launch of {code.name} measured {measured}, not {code.state}")
        if code.folder is not None and content_hash(code.folder) != code.state:
            raise InputError(
                f"{code.name} changed while it was measured; the same command starts anew with "
                "the new content"
            )


def _read(path: Path, code: Code) -> Timings:
    try:
        return read_timings(path)[0]
    except InputError as error:
        reason = str(error).replace(str(path), "its result file")
        raise NotComparable(f"{code.name} cannot be compared by this version: {reason}") from error


def _fail(code: Code, done: subprocess.CompletedProcess[str]) -> None:
    lines = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
    sys.stderr.write("\n".join([f"the end of what a launch of {code.name} printed:", *lines, ""]))
    if done.returncode == WRONG_DEVICE:
        # pytest itself ends so when it finds no test at all.
        raise LaunchFailed(f"{code.name}: wrong device, or no benchmark", WRONG_DEVICE)
    raise LaunchFailed(f"a launch of {code.name} failed with exit code {done.returncode}")


def _prepare(code: Code, tree: Path) -> None:
    """Compile to bytecode, so that the first launch is no different, and see what is imported."""
    environment = _environment(tree)
    _run(["-m", "compileall", "-q", "robust_mnist", "benchmarks"], tree, environment)
    done = _run(["-c", _WHERE], tree, environment)
    found = Path(done.stdout.strip() or "nothing")
    if not found.resolve().is_relative_to(tree):
        sys.stderr.write(done.stderr)
        raise LaunchFailed(f"a launch of {code.name} would import {found}, not its own code")


def _environment(tree: Path) -> dict[str, str]:
    paths = [str(tree), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _run(
    words: Sequence[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    limit = _QUICK_LIMIT_S if "--quick" in words else _LIMIT_S
    try:
        return subprocess.run(
            [sys.executable, *words],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=limit,
            check=False, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LaunchFailed(f"a launch was ended after {limit} s; does it hang?") from error


@contextlib.contextmanager
def _alone_on_this_machine(console: Console) -> Iterator[None]:
    """Wait until no other comparison runs: two at once would time each other."""
    if sys.platform == "win32":  # has no flock; there, whoever starts two is warned by the noise
        yield
        return
    path = Path(tempfile.gettempdir()) / "robust-mnist-bench.lock"
    with _open(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.note(f"process {os.getpid()} waits: other benchmarks hold {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing the file frees the lock, and so does the end of the process


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    # For reading only and never truncated: the file may belong to somebody else.
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)
