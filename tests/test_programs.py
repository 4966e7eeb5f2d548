"""Compiled programs on disk: a second process compiles nothing."""

import json
import os
import subprocess
import sys

import pytest
from conftest import TINY, TINY_SWEEP


# What JAX counts of its cache on disk while a command runs.
SCRIPT = """
import collections, json, sys
import jax
from robust_mnist import cli

seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event]))
code = cli.main(sys.argv[1:])
hits, misses = (seen[f"/jax/compilation_cache/cache_{name}"] for name in ("hits", "misses"))
print(json.dumps({"code": code, "hits": hits, "misses": misses}), file=sys.stderr)
"""


@pytest.fixture
def run(small_npz, tmp_path):
    """Run a tiny command in a process of its own; what its cache did."""

    def run(out, command=("train", *TINY), **variables):
        words = [*command, "--data", small_npz, "--quiet", "--out"]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *words, tmp_path / out],
            env={**os.environ, "ROBUST_MNIST_CACHE": str(tmp_path / "cache"), **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = json.loads(done.stderr.splitlines()[-1])
        assert found["code"] == 0, done.stderr
        return found

    return run


def test_a_second_run_compiles_nothing(run, tmp_path):
    command = ("run", *TINY, *TINY_SWEEP)
    assert run("first", command)["misses"] > 0
    second = run("second", command)
    assert second["misses"] == 0
    assert second["hits"] > 0
    weights = [tmp_path / name / "model" / "seed-0.safetensors" for name in ("first", "second")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.long
def test_the_cache_can_be_turned_off_or_put_elsewhere(run, tmp_path):
    assert run("off", JAX_ENABLE_COMPILATION_CACHE="false") == {"code": 0, "hits": 0, "misses": 0}
    assert not list((tmp_path / "cache").rglob("*-cache"))
    assert run("elsewhere", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))["code"] == 0
    assert not list((tmp_path / "cache").rglob("*-cache"))


def test_a_cache_that_cannot_be_written_to_stops_nothing(run, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert run("anyway")["misses"] == 0
