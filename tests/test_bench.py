"""What stands beside a timing: the device, the environment's key, stages, arithmetic."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest


ROOT = Path(__file__).parents[1]
LAB = (784, 50, 50, 10)


# --- the device


def test_the_device_in_use_is_the_one_asked_for():
    from robust_mnist import bench

    kind = bench.device_in_use().platform
    assert [bench.wrong_device(asked) for asked in ("", kind, f"{kind},nonesuch")] == [None] * 3


def test_a_second_choice_is_not_what_was_asked_for():
    from robust_mnist import bench

    complaint = bench.wrong_device(f"nonesuch,{bench.device_in_use().platform}")
    assert complaint.startswith("JAX_PLATFORMS=nonesuch,")


def test_the_device_is_where_arrays_go_and_not_the_first_there_is(monkeypatch):
    from robust_mnist import bench

    monkeypatch.setattr(jax, "devices", lambda _kind=None: ["another device"])
    complaint = bench.wrong_device("gpu")
    assert complaint == (
        f"JAX_PLATFORMS=gpu asks for gpu, but the device in use is {jax.default_backend()}"
    )


@pytest.mark.parametrize("error", [RuntimeError("no\ndriver"), AssertionError()])
def test_devices_that_cannot_be_had_are_one_line(monkeypatch, error):
    from robust_mnist import bench

    def fail(*_):
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    complaint = bench.wrong_device("cuda")
    assert complaint.startswith("JAX_PLATFORMS=cuda asks for a device that JAX cannot use here: ")
    assert complaint.endswith(("no driver", "it found none"))


def test_commands_may_run_on_a_second_choice_that_no_timing_may_use(monkeypatch):
    from robust_mnist import bench

    asked = f"nonesuch,{bench.device_in_use().platform}"
    monkeypatch.setenv("JAX_PLATFORMS", asked)
    bench.check_device()
    assert bench.wrong_device(asked)


@pytest.mark.parametrize(
    ("asked", "begin"),
    [("cuda", "JAX_PLATFORMS=cuda asks for a device that"), ("", "JAX can use no device here: ")],
)
def test_a_jax_that_cannot_start_is_a_wrong_device(monkeypatch, asked, begin):
    from robust_mnist import bench
    from robust_mnist.errors import WrongDevice

    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(jax, "device_put", fail)
    monkeypatch.setenv("JAX_PLATFORMS", asked)
    with pytest.raises(WrongDevice, match=f"^{begin}.*it found none$"):
        bench.check_device()


@pytest.mark.parametrize("asked", ["nonesuch", "cpu"])
def test_benchmarks_end_with_5_on_a_device_that_was_not_asked_for(asked):
    # A worker of these tests is no reason for the benchmarks to switch themselves off.
    environment = {name: v for name, v in os.environ.items() if "XDIST" not in name}
    words = ["-m", "pytest", "benchmarks", "--quick", "--collect-only", "-q"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT, env=environment | {"JAX_PLATFORMS": asked},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if asked == "cpu":
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("::bench_") == 6  # the short list
    else:
        assert done.returncode == 5
        [line] = [line for line in done.stderr.splitlines() if "JAX_PLATFORMS" in line]
        assert "JAX_PLATFORMS=nonesuch asks for" in line


SMALL = """
import jax, jax.numpy as jnp

double = jax.jit(lambda x: 2 * x)
call = lambda: jax.block_until_ready(double(jnp.ones(3)))

def bench_alone(time_call):
    time_call(call, rounds=2, items=lambda out: out.size)

def bench_after_another(time_call):
    time_call(call, rounds=2)

def bench_whole(time_call):
    time_call(call, rounds=2, once=True)

def bench_short(time_compiled):
    time_compiled(lambda x: x @ x, jnp.ones((3, 3)), items=9)

def bench_wrong(time_call):
    time_call(call, rounds=2)
    assert False, "work was left out"
"""


def test_what_is_counted_depends_on_no_other_benchmark_and_what_failed_is_not_kept(tmp_path):
    for name in ("conftest.py", "pytest.toml"):
        shutil.copy(ROOT / "benchmarks" / name, tmp_path)
    (tmp_path / "bench_small.py").write_text(SMALL)
    out = tmp_path / "out.json"
    environment = {name: v for name, v in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", ".", "--benchmark-only", f"--benchmark-json={out}"],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 4 passed" in done.stdout
    found = {b["name"]: b["extra_info"] for b in json.loads(out.read_text())["benchmarks"]}
    assert set(found) == {"bench_alone", "bench_after_another", "bench_whole", "bench_short"}
    counts = [facts["compilations"] for name, facts in found.items() if name != "bench_short"]
    assert counts[0] > 0
    assert counts == counts[:1] * 3
    assert found["bench_alone"]["items"] == 3
    assert 0 < found["bench_short"]["amortised_s"] < 0.02
    assert found["bench_short"]["bytes"] == 4 * 3 * 9


# --- the environment and its key


KEY = "cpu-2021332432"


def test_the_environment_is_json_and_hides_the_host():
    from robust_mnist import bench

    about = bench.environment()
    values = json.loads(json.dumps(about)).values()
    assert platform.node() not in values
    assert about["platform"] == jax.default_backend()
    assert about["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize(
    ("variables", "threads"),
    [({"NPROC": "3"}, 3), ({"NPROC": "3", "PJRT_NPROC": "5"}, 5), ({"NPROC": "0"}, None)],
)
def test_threads_are_those_that_xla_will_start(monkeypatch, variables, threads):
    from robust_mnist import bench

    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.delenv(name, raising=False)
    usual = bench.environment()["threads"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert bench.environment()["threads"] == (threads or usual)


ABOUT = {
    "platform": "cpu",
    "device_kind": "A CPU",
    "device_count": 1,
    "cpu": "A CPU",
    "threads": 2,
    "python": "3.11.7",
    "system": "Linux",
    "machine": "x86_64",
    "versions": {"jax": "0.10.2", "jaxlib": "0.10.2", "equinox": "0.13.8", "numpy": "2.4.6"},
    "plugin": "",
    "xla_flags": "",
    "matmul_precision": "default",
    "x64": False,
    "commit": "0123456789ab",
}


def test_the_key_is_a_short_name_for_a_folder_and_stays_the_same():
    from robust_mnist import bench

    # Written down: a key that changes would part new results from all older ones.
    assert bench.environment_key(ABOUT) == KEY
    assert bench.environment_key(dict(reversed(ABOUT.items()))) == KEY
    assert set(ABOUT) == set(bench.environment())


def changed(name, value):
    """The environment with one fact, or the version of one library, replaced."""
    if name in ABOUT:
        return ABOUT | {name: value}
    return ABOUT | {"versions": ABOUT["versions"] | {name: value}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device_kind", "Another CPU"),
        ("device_count", 2),
        ("threads", 1),
        ("plugin", "jax-cuda13-pjrt-0.12.0"),
        ("xla_flags", "--xla_cpu_enable_fast_math=true"),
        ("matmul_precision", "highest"),
        ("x64", True),
        ("jax", "0.12.0"),
        ("jaxlib", "0.12.0"),
    ],
)
def test_the_key_tells_apart_what_cannot_be_compared(name, value):
    from robust_mnist import bench

    assert bench.environment_key(changed(name, value)) != KEY


@pytest.mark.parametrize(
    ("name", "value"), [("commit", "ba9876543210+"), ("python", "3.12.1"), ("numpy", "2.5.5")]
)
def test_the_key_leaves_out_what_is_to_be_compared(name, value):
    from robust_mnist import bench

    assert bench.environment_key(changed(name, value)) == KEY


# --- arithmetic


def flops_of(function, *args):
    """What is counted for arguments of these shapes; nothing is computed."""
    from robust_mnist import bench

    return bench.matmul_flops(jax.jit(function).trace(*args).jaxpr)


def forward_flops(sizes):
    return 2 * sum(ins * outs for ins, outs in pairwise(sizes))


def forward(model, images):
    return jax.vmap(model)(images)


def network_and_images(count):
    from robust_mnist.models import MLP

    return MLP(LAB, key=jax.random.key(0)), jnp.zeros((count, LAB[0]))


def test_a_forward_pass_is_two_operations_a_weight():
    args = jax.eval_shape(lambda: network_and_images(64))
    assert flops_of(forward, *args) == 64 * forward_flops(LAB)


def test_the_count_agrees_with_xla_where_nothing_loops():
    args = jax.eval_shape(lambda: network_and_images(1000))
    xla = jax.jit(forward).lower(*args).compile().cost_analysis()["flops"]
    # XLA counts the additions of the biases and the tanh besides.
    assert flops_of(forward, *args) == pytest.approx(xla, rel=0.01)


@pytest.mark.parametrize("shared", [False, True])
def test_training_is_counted_step_by_step_and_not_back_to_the_images(shared):
    from robust_mnist import training
    from robust_mnist.config import TrainSettings

    sizes, networks, epochs, batch, images = (784, 8, 6, 10), 3, 4, 20, 60
    settings = TrainSettings(sizes=sizes, seeds=networks, batch_size=batch, shared_batches=shared)

    def arguments():
        keys = jax.vmap(jax.random.key)(jnp.arange(networks))
        part = jnp.zeros((images, 784), jnp.uint8), jnp.zeros(images, jnp.int32)
        return training.initialise(settings), keys, jnp.int32(0), training.Images(*part, *part)

    count = flops_of(training.advance(settings, epochs), *jax.eval_shape(arguments))
    # Forward, back to the weights, back to the hidden layers; then both parts are measured.
    step = 3 * forward_flops(sizes) - 2 * sizes[0] * sizes[1]
    measured = 2 * images * forward_flops(sizes)
    assert count == networks * (epochs * images * step + measured)


def test_every_step_of_an_attack_counts():
    from robust_mnist.attacks import PGD

    def attack(model, images):
        eps, key = jnp.asarray(0.1), jax.random.key(1)
        return PGD(steps=7)(model, images[0], jnp.asarray(3), eps=eps, key=key)

    # Each step goes forward and back to the image; the clean image and the last one only forward.
    args = jax.eval_shape(lambda: network_and_images(1))
    assert flops_of(attack, *args) == (2 * 7 + 2) * forward_flops(LAB)


def square(x):
    return x @ x


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (jnp.sort, 0),
        (lambda x: jax.lax.fori_loop(0, 5, lambda _, y: square(y), x), 5 * 54),
        (lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 9, square, x), None),
        (lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 9, lambda y: y + 1, x), 0),
        (lambda x: jax.lax.cond(x[0, 0] > 0, square, square, x), 54),
        (lambda x: jax.lax.cond(x[0, 0] > 0, square, lambda y: y, x), None),
        (lambda x: square(x) + jnp.convolve(x[0], x[0], mode="same")[None], None),
        (lambda x: jax.checkpoint(square)(x) + jax.jit(square)(x), 2 * 54),
    ],
    ids=["sort", "loop", "while", "idle while", "cond", "uneven cond", "convolution", "nested"],
)
def test_what_only_the_data_or_xla_know_has_no_count(function, expected):
    assert flops_of(function, jax.ShapeDtypeStruct((3, 3), jnp.float32)) == expected


def test_products_are_told_apart_by_shape_and_counted_in_loops():
    from robust_mnist import bench

    def program(x, w, many):
        step = lambda c, _: (jnp.tanh(c @ w.T @ w), None)
        x = jax.lax.scan(step, x, length=5)[0]
        return jnp.einsum("nij,nkj->nik", many, many), x

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 3), (7, 3), (4, 6, 5))]
    found = bench.products(jax.make_jaxpr(program)(*shapes))
    by_hand = {(1, 2, 3, 7): 5, (1, 2, 7, 3): 5, (4, 6, 5, 6): 1}
    numbers = 5 * (2 * 3 + 7 * 3 + 2 * 7) * 2 + 4 * (2 * 6 * 5 + 6 * 6)
    assert bench.matmul_numbers(jax.make_jaxpr(program)(*shapes)) == numbers
    assert {(p.batch, p.rows, p.inner, p.columns): n for p, n in found.items()} == by_hand


# --- what the machine can do


def test_a_row_of_calls_is_timed_by_the_call():
    from robust_mnist.bench._peaks import seconds_per_call

    assert seconds_per_call(time.sleep, 0.02) == pytest.approx(0.02, rel=0.25)


def test_peaks_are_those_of_this_machine(monkeypatch):
    from robust_mnist.bench import _peaks

    monkeypatch.setattr(_peaks, "_SQUARE", {jax.default_backend(): 256})
    monkeypatch.setattr(_peaks, "_TRIAD", 2**18)
    peaks = _peaks.measure_peaks()
    assert set(peaks) == {
        "matmul_float32", "matmul_bfloat16", "triad", "dispatch_s", "float32_error"
    }  # fmt: skip
    # From a slow phone to a fast accelerator.
    assert 1e8 < peaks["matmul_float32"] < 1e15
    assert 1e8 < peaks["triad"] < 1e14
    assert 1e-7 < peaks["dispatch_s"] < 1e-1
    assert 0 < peaks["float32_error"] < 1e-2
    json.dumps(peaks, allow_nan=False)


def test_own_rate_is_that_of_the_products_weighted_by_their_time(monkeypatch):
    from robust_mnist.bench import _peaks

    # The small product at a tenth of the rate of the large one.
    rate = lambda product, _dtype: 1e3 if product.inner == 100 else 1e2
    monkeypatch.setattr(_peaks, "product_rate", rate)
    x, v, w = jnp.ones((10, 100)), jnp.ones((100, 20)), jnp.ones((20, 5))
    # 40,000 operations in 40 s and 2,000 in 20 s.
    rate = _peaks.own_rate(jax.make_jaxpr(lambda x, v, w: x @ v @ w)(x, v, w))
    assert rate == pytest.approx(42_000 / 60)
    assert _peaks.own_rate(jax.make_jaxpr(jnp.tanh)(x)) is None
    # The small one takes no longer than its call, and a third of the time.
    monkeypatch.setattr(_peaks, "_call", lambda: 6.0)
    assert _peaks.own_rate(jax.make_jaxpr(lambda x, v, w: x @ v @ w)(x, v, w)) is None


# --- stages


def test_a_program_is_compiled_once_and_gives_the_same_result():
    from robust_mnist import bench
    from robust_mnist.clock import stopwatch

    x = jnp.arange(9.0).reshape(3, 3)
    program = bench.compile_in_stages(square, x)
    with stopwatch() as elapsed:
        out = jax.block_until_ready(program.call(x))
    assert elapsed.compile_seconds == 0
    assert out.tolist() == square(x).tolist()
    assert min(program.trace_s, program.lower_s, program.compile_s) > 0
    assert program.flops == 54
    assert program.operations["parameter"] >= 1
    assert program.memory["argument_bytes"] == program.memory["output_bytes"] == 36
    assert program.memory["peak_bytes"] >= 72


def test_a_block_within_another_takes_nothing_from_it():
    from robust_mnist.clock import stopwatch

    zero = jnp.zeros(())
    compiled = lambda: jax.jit(lambda x: x + 1.0)(zero)
    with stopwatch() as outer:
        compiled()
        with stopwatch() as inner:
            compiled()
    assert (outer.compilations, inner.compilations) == (2, 1)
    assert outer.compile_seconds > inner.compile_seconds > 0
    with stopwatch() as later:
        pass
    assert (later.compilations, later.compile_seconds) == (0, 0)


def test_operations_are_counted_wherever_they_stand():
    from robust_mnist.bench._stages import _operations

    text = """HloModule jit_f, entry_computation_layout={(f32[3]{0})->f32[3]{0}}

%body (p.1: (f32[3], s32[])) -> (f32[3], s32[]) {
  %p.1 = (f32[3]{0}, s32[]) parameter(0)
  ROOT %tuple.2 = (f32[3]{0}, s32[]) tuple(%a, %b)
}

ENTRY %main {
  x = f32[3]{0} parameter(0), metadata={op_name="dot(x)"}
  %loop = (f32[3]{0}, s32[]) while(%x), condition=%c, body=%body
  ROOT %add.1 = f32[3]{0} add(%x, %x)
}
"""
    assert _operations(text) == {"add": 1, "parameter": 2, "tuple": 1, "while": 1}
