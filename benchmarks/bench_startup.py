"""Start-up: each time a fresh process, its files in the system's cache already."""

import itertools
import subprocess
import sys
import time

import pytest

from robust_mnist import checkpoint
from robust_mnist.config import COMMANDS
from robust_mnist.records import RunFolder


def bench_help(time_call):
    """What the shortest answer of the command line costs; half a second is the goal."""
    text = time_call(lambda: python("-m", "robust_mnist", "--help"), rounds=7)
    assert "usage: robust-mnist" in text
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("module", "jax"),
    [
        pytest.param("sys", False, id="nothing"),  # what Python itself takes
        pytest.param("robust_mnist", False, id="robust_mnist"),
        pytest.param("robust_mnist.commands.pipeline", True, id="pipeline"),
    ],
)
def bench_import(time_call, module, jax):
    code = f"import {module}, sys; print('jax' in sys.modules)"
    printed = time_call(lambda: python("-c", code), rounds=5)
    assert printed == f"{jax}\n"


def bench_first_record(time_call, tmp_path):
    """From the command to the first record of a training, its programs compiled before.

    The checkpoint that goes with the record tells that it is there; what comes after, the drawing
    of curves first, is not waited for.
    """
    number = itertools.count()

    def train():
        folder = RunFolder(tmp_path / str(next(number)))
        words = ["train", "--epochs", "100000", "--out", str(folder.path), "--quiet"]
        with subprocess.Popen([sys.executable, "-m", "robust_mnist", *words]) as process:
            while not folder.checkpoint.is_file():
                assert process.poll() is None, "training ended before its first record"
                time.sleep(0.005)
            process.kill()
        return folder

    folder = time_call(train, rounds=5)
    assert checkpoint.about(folder.checkpoint)["epoch"] >= 10


def python(*words):
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    return done.stdout
