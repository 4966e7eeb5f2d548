#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox"]
# ///
"""Every chore of the project is a session: `nox --list` shows them, every workflow runs them.

Arguments after `--` reach the program a session wraps. `--extra cuda12` or `--extra cuda13` among
them installs JAX's wheels for that CUDA.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import nox
from nox.command import CommandFailed


nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"

ROOT = Path(__file__).resolve().parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)


@nox.session(reuse_venv=True)
def report(session: nox.Session) -> None:
    """Train on MNIST, attack the network and write the report into runs/lab.

    On a finished run this only rebuilds what is missing. `-- --publish` copies the small results
    to reports/.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}")
    session.run("robust-mnist", "run", "--out", "runs/lab", *args)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the interpreter that runs nox."""
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}", *group("test"))
    session.run("python", "-m", "pytest", *PARALLEL, *args)


@nox.session(name="tests-all", venv_backend="none", default=False)
def tests_all(session: nox.Session) -> None:
    """Run the tests on every supported Python that is installed, two at least.

    Interpreters are looked for here rather than by nox: a name on PATH may be a shim that starts
    nothing, and whether an absent one is an error should not depend on where the session runs.
    """
    found = find_interpreters(PYTHONS, interpreter_folders(os.environ.get("PATH", "")))
    for version in PYTHONS:
        session.log(f"Python {version}: {found.get(version, 'absent')}")
    if len(found) < 2:
        session.error(f"Two of Python {', '.join(PYTHONS)} have to be installed.")
    failed = []
    for version, python in found.items():
        # Nox as a child, so that a session knows no other way to test than `tests`.
        command = [sys.executable, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py")]
        command += ["--session", "tests", "--force-python", str(python), "--", *session.posargs]
        try:
            session.run(*command, external=True)
        except CommandFailed:
            failed.append(version)
    if failed:
        session.error(f"The tests fail on Python {', '.join(failed)}.")
    session.log(f"The tests pass on Python {', '.join(found)}.")


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """Run the tests on the lowest version of each direct dependency."""
    session.install("uv")  # pip cannot resolve downwards
    session.run("uv", "pip", "install", "--resolution=lowest-direct", "-e", ".", *group("test"))
    session.run("python", "-m", "pytest", *PARALLEL, *session.posargs)


@nox.session(reuse_venv=True, default=False)
def lint(session: nox.Session) -> None:
    """Check style, formatting, the layers and the workflow files."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    workflows = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run(
        "check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml"
    )


@nox.session(reuse_venv=True, default=False)
def typecheck(session: nox.Session) -> None:
    """Check the types of the package and of this file with mypy."""
    session.install("-e", ".", *group("typecheck"))
    session.run("mypy", *session.posargs)


@nox.session(reuse_venv=True, default=False)
def bench(session: nox.Session) -> None:
    """Time the hot paths and save one JSON file in reports/data/bench/<environment key>.

    Choose the accelerator with JAX_PLATFORMS, and its wheel with `-- --extra cuda13`. With
    `-- --quick` the short list is run, and its result kept in runs/bench. Compare results with
    `robust-mnist bench`. Exit code 5: JAX runs on another device than the one asked for.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}", *group("bench"))
    with exit_codes():
        session.run("python", "-m", "pytest", "benchmarks", "--benchmark-only", *args)


@nox.session(name="bench-compare", reuse_venv=True, default=False)
def bench_compare(session: nox.Session) -> None:
    """Tell whether the second of two revisions is slower than the first.

    Arguments are those of `robust-mnist bench compare`, such as `-- main HEAD --quick`.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}", *group("bench"))
    with exit_codes():
        session.run("robust-mnist", "bench", "compare", *args)


@nox.session(name="bench-accelerators", reuse_venv=True, default=False)
def bench_accelerators(session: nox.Session) -> None:
    """Compare the devices on which the benchmarks ran, from their result files.

    Arguments are those of `robust-mnist bench accelerators`: files or folders.
    """
    session.install("-e", ".")
    session.run("robust-mnist", "bench", "accelerators", *session.posargs)


@nox.session(name="bench-plan", venv_backend="none", default=False)
def bench_plan(session: nox.Session) -> None:
    """Print as JSON where the benchmarks are to run, and hand it to the running workflow."""
    legs = json.dumps(bench_legs(os.environ.get("GPU_RUNNER", "").strip()))
    session.log(legs)
    if output := os.environ.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as stream:
            stream.write(f"legs={legs}\n")


@nox.session(name="peers-training", venv_backend="virtualenv", reuse_venv=True, default=False)
def peers_training(session: nox.Session) -> None:
    """Time the lab's training in this and other libraries, into reports/data.

    `-- --epochs N --repeats N --peers torch flax` shortens it. pip installs, as it finds wheels
    in folders and indexes that uv was not told about.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}")
    for requirement in group("peers"):
        try:
            session.install(requirement)
        except CommandFailed:  # the table names who is missing
            session.warn(f"{requirement} cannot be installed here.")
    session.run("python", "-m", "benchmarks.peers_training", *args)


@nox.session(name="peers-attacks", venv_backend="virtualenv", reuse_venv=True, default=False)
def peers_attacks(session: nox.Session) -> None:
    """Compare attacks with those of other libraries, on the same networks, into reports/data.

    `-- --quick` takes two minutes. AUTOATTACK names a checkout of that library, and
    ROBUST_MNIST_NETWORKS a folder of further networks.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}")
    alone = [("--no-deps", name) for name in group("peers-attacks-alone")]
    for words in [*((name,) for name in group("peers-attacks")), *alone]:
        try:
            session.install(*words)
        except CommandFailed:  # the table names who is missing
            session.warn(f"{words[-1]} cannot be installed here.")
    session.run("python", "-m", "benchmarks.peers_attacks", *args)


@nox.session(name="attack-strength", reuse_venv=True, default=False)
def attack_strength(session: nox.Session) -> None:
    """Set the preset thorough beside the parts of AutoAttack, into reports/data.

    ROBUST_MNIST_NETWORKS names a folder of further networks.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}")
    session.run("python", "-m", "benchmarks.attack_strength", *args)


@nox.session(name="audit-rates", reuse_venv=True, default=False)
def audit_rates(session: nox.Session) -> None:
    """Measure how often the trust checks accuse sound networks and notice fakes, into reports/data.

    `-- --quick` takes a few minutes. `-- --seed N` gives other networks and fakes: choose limits on
    one seed and publish those of another.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}")
    session.run("python", "-m", "benchmarks.audit_rates", *args)


@nox.session(default=False)
def oracles(session: nox.Session) -> None:
    """Run what `tests` leaves out: further cases, exact answers and, at hand, published networks.

    ROBUST_MNIST_NETWORKS names the folder of the networks.
    """
    extra, args = split_extra(session.posargs)
    session.install("-e", f".{extra}", *group("test"))
    # Optimised, unlike in `tests`, and with that what else rounding has a say in.
    run = ("python", "-m", "pytest", *PARALLEL)
    session.run(*run, "-m", "long", *args, env={"XLA_FLAGS": ""})
    if not args:
        session.run(*run, *ROUNDED, env={"XLA_FLAGS": ""})


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into dist/, and run the sdist's tests against the wheel."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.install(*group("build"), *group("test"))
    session.run("python", "-m", "build", "--outdir", str(dist))
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.install(str(wheel))
    folder = Path(session.create_tmp()) / "sdist"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.unpack_archive(sdist, folder, filter="data")
    [source] = folder.iterdir()
    shutil.rmtree(source / "robust_mnist")  # or Python would import this instead of the wheel
    with session.chdir(source):
        session.run("python", "-m", "pytest", *PARALLEL, *session.posargs)


# One worker per core; a file stays with one worker, which then makes its fixtures once.
PARALLEL = ("--numprocesses=auto", "--dist=loadfile")

# What stands and falls with the rounding of compiled programs.
ROUNDED = tuple(
    f"tests/test_{name}.py"
    for name in (
        "activation_rounding", "certify", "confirmed_bounds", "contraction", "lipschitz",
        "quadratic", "silent_bugs",
    )
)  # fmt: skip


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


def bench_legs(gpu_runner: str) -> list[dict[str, str]]:
    """Return a leg per device: the CPU always, a GPU where the label of a runner is given."""
    cpu = {"device": "cpu", "runner": "ubuntu-latest", "platforms": "cpu", "extra": ""}
    gpu = {
        "device": "gpu",
        "runner": gpu_runner,
        "platforms": "cuda",
        "extra": "--extra=cuda13",
    }
    return [cpu, gpu] if gpu_runner else [cpu]


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """End with the exit code of a program that failed, where nox has 1 for every failure."""
    try:
        yield
    except CommandFailed as error:
        # Releases of nox before 2026 do not tell it.
        if code := getattr(error, "return_code", None):
            sys.exit(code)
        raise


def split_extra(posargs: Sequence[str]) -> tuple[str, list[str]]:
    """Split `--extra NAME` off: `(["-x", "--extra", "cuda13"])` gives `("[cuda13]", ["-x"])`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--extra")
    options, rest = parser.parse_known_args(posargs)
    return f"[{options.extra}]" if options.extra else "", rest


def interpreter_folders(path: str) -> Iterator[Path]:
    """Yield the folders that may hold a Python: those of PATH, then pyenv's and uv's versions.

    Args:
        path: The value of PATH. A pyenv is recognised by its folder `shims`, which has the folder
            `versions` beside it.
    """
    folders = [Path(folder) for folder in path.split(os.pathsep) if folder]
    yield from folders
    managed = [folder.parent / "versions" for folder in folders if folder.name == "shims"]
    if uv := shutil.which("uv", path=path):
        answer = run([uv, "python", "dir"])
        managed += [Path(line) for line in answer.splitlines()]
    for versions in managed:
        # The newest patch release first; 3.9 sorts before 3.10 only as numbers.
        yield from sorted(versions.glob("*/bin"), key=release, reverse=True)


def find_interpreters(versions: Iterable[str], folders: Iterable[Path]) -> dict[str, Path]:
    """Find an interpreter for each version such as "3.13", the first in the order of the folders.

    A name proves nothing, so an interpreter counts only if it answers `--version` as CPython of
    that version. Versions that are absent are left out of the result.
    """
    searched = list(folders)
    found = {}
    for version in versions:
        candidates = (
            folder / name for folder in searched for name in (f"python{version}", "python3")
        )
        for python in candidates:
            if os.access(python, os.X_OK) and answers(python, version):
                found[version] = python
                break
    return found


def answers(python: Path, version: str) -> bool:
    """Tell whether `python --version` runs and names this version of CPython."""
    return (
        re.fullmatch(rf"Python {re.escape(version)}\.\S+\s*", run([python, "--version"]))
        is not None
    )


def release(folder: Path) -> list[int]:
    """Return the numbers in the name of a versions folder's child, to sort by."""
    return [int(number) for number in re.findall(r"\d+", folder.parent.name)]


def run(command: Sequence[str | Path]) -> str:
    """Return what a command prints, or nothing if it cannot start, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


if __name__ == "__main__":
    nox.main()
