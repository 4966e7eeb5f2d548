"""What every benchmark shares: the right device, real images, and a clock that waits for both.

A benchmark checks its result after the clock has stopped, so that work left out is no speed-up.

What a result file says of a benchmark, in `extra_info`, each where it applies:

- `items`, `bytes`, `flops` and the same `_per_s`: what a call does, and the rate of the median
  round. Arithmetic is that of the matrix products, and bytes are what they read and write, each
  operand and result once: above the machine's triad where caches hold them. Of what multiplies
  nothing they are arguments and results.
- `peak_share`: of the rate of a large square product on this machine; `own_peak_share`: of the
  rate of the benchmark's own products, each alone; none where calling one takes most of its time.
- `trace_s`, `lower_s`, `compile_s`, `first_call_s`: what the first result takes. `compilations`:
  how many programs are compiled for it, none of them left over from another benchmark.
- `operations`, `argument_bytes`, `output_bytes`, `temporary_bytes`, `peak_bytes`: the compiled
  program.
- `image_evaluations`: the cost of an attack in forward passes of one image.
- `amortised_s`: a call in a row of calls that nobody waits for, where a round waits for each;
  for calls of at most 20 ms, since of longer ones both are the same.
- `logits`, `flags`, `near_zero`, `robust_accuracy`, `eps`, `accuracy`: what came out, of the same
  network on every machine.
"""

import datetime as dt
import os
from pathlib import Path

import jax
import pytest

from robust_mnist import checkpoint, data
from robust_mnist.bench import (
    compile_in_stages,
    environment,
    environment_key,
    matmul_numbers,
    measure_peaks,
    own_rate,
    seconds_per_call,
    wrong_device,
)
from robust_mnist.clock import stopwatch
from robust_mnist.config import BENCH_FOLDER
from robust_mnist.records import COUNTING, TIMINGS_SCHEMA


HERE = Path(__file__).parent
WRONG_DEVICE = 5
# What `--quick` runs, one of each topic, and in at most how many rounds.
QUICK = (
    "bench_training.py::bench_training[1-network]",
    "bench_inference.py::bench_inference[1024]",
    "bench_attacks.py::bench_ball_attack[pgd40-linf]",
    "bench_attacks.py::bench_break[pgd40-linf]",
    "bench_certifiers.py::bench_certifier[ibp-linf]",
    "bench_startup.py::bench_help",
)
# Launches differ by far more than the rounds of one do, so short ones, and more of them, say more.
QUICK_ROUNDS = 3
SHORT_S = 0.02
FAILED = pytest.StashKey[set[str]]()
LOAD = pytest.StashKey[list[float]]()
PEAKS = pytest.StashKey[dict]()
RATES = pytest.StashKey[dict[str, dict]]()


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="run the short list, in fewer rounds")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if complaint := wrong_device(os.environ.get("JAX_PLATFORMS", "")):
        pytest.exit(complaint, returncode=WRONG_DEVICE)
    # Read back from a cache, a program would seem to compile in no time.
    jax.config.update("jax_enable_compilation_cache", False)
    # Before the benchmarks are a load of their own; Windows has none to tell.
    config.stash[LOAD] = list(os.getloadavg()) if hasattr(os, "getloadavg") else []
    config.stash[RATES], config.stash[FAILED] = {}, set()
    off = config.option.benchmark_disable or config.option.collectonly
    config.stash[PEAKS] = {} if off else measure_peaks()
    if config.option.benchmark_json is None and not off:
        # Results worth keeping go where the history is; the short list is for the moment.
        folder = Path("runs/bench" if config.option.quick else BENCH_FOLDER)
        now = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}.json"
        config.option.benchmark_json = HERE.parent / folder / environment_key(environment()) / now


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.failed:
        item.config.stash[FAILED].add(item.nodeid)
    return report


def pytest_benchmark_update_json(config, output_json):
    # What failed its check was timed before; work left out is no speed-up.
    output_json["benchmarks"] = [
        benchmark
        for benchmark in output_json["benchmarks"]
        if benchmark["fullname"] not in config.stash[FAILED]
    ]
    # The folder is made when there is something to put into it.
    config.option.benchmark_json.parent.mkdir(parents=True, exist_ok=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if not config.getoption("--quick"):
        return
    names = {item: f"{item.path.name}::{item.name}" for item in items}
    files = {item.path.name for item in items}
    # A name that no longer exists would shorten the list in silence.
    if lost := {n for n in QUICK if n.partition("::")[0] in files} - set(names.values()):
        raise pytest.UsageError(f"--quick names benchmarks that do not exist: {sorted(lost)}")
    config.hook.pytest_deselected(items=[item for item in items if names[item] not in QUICK])
    items[:] = [item for item in items if names[item] in QUICK]


def pytest_benchmark_update_machine_info(config, machine_info):
    # The host's name, and the kernel's, which says no more than whose image the machine runs.
    for private in ("node", "release"):
        machine_info.pop(private)
    about = environment()
    machine_info.update(
        about,
        schema=TIMINGS_SCHEMA,
        counting=COUNTING,
        key=environment_key(about),
        quick=config.option.quick,
        load_average=config.stash[LOAD],
        peaks=config.stash[PEAKS],
    )


def pytest_benchmark_update_commit_info(commit_info):
    commit_info["project"] = "robust-mnist"  # otherwise the name of the folder it lies in


def pytest_terminal_summary(terminalreporter, config):
    rates = config.stash[RATES]
    if not rates:
        return
    width = max(map(len, rates))
    terminalreporter.section("throughput")
    peaks = config.stash[PEAKS]
    bfloat16 = peaks["matmul_bfloat16"]
    terminalreporter.write_line(
        f"this machine: {peaks['matmul_float32'] / 1e9:,.1f} GFLOP/s in float32, "
        + (f"{bfloat16 / 1e9:,.1f} in bfloat16, " if bfloat16 else "")
        + f"{peaks['triad'] / 1e9:,.1f} GB/s, {peaks['dispatch_s'] * 1e6:.1f} us to dispatch; "
        "shares are of the rate of a benchmark's own products, then of a large square one\n"
    )
    for name, facts in rates.items():
        flops = f"{facts['flops_per_s'] / 1e9:10,.1f} GFLOP/s" if "flops_per_s" in facts else ""
        if "own_peak_share" in facts:
            shares = (facts["own_peak_share"], facts["peak_share"])
            flops += "".join(f" {share:4.0%}" if share else "    -" for share in shares)
        compiled = f"{facts['compile_s']:6.2f} s compiling" if "compile_s" in facts else ""
        line = f"{name:{width}}  {facts['items_per_s']:14,.0f} items/s {flops:28} {compiled}"
        terminalreporter.write_line(line.rstrip())


@pytest.fixture
def time_call(benchmark, request):
    """Time `call()`, which has to wait for its own result.

    Of everything counted, such as `items=1000` or a function of the result, the count is saved and
    how many the median round did per second. `once` is for what a user does once in a process:
    every round compiles all that it needs.
    """
    quick = request.config.getoption("--quick")

    def run(call, *, rounds, iterations=1, once=False, **counts):
        jax.clear_caches()  # otherwise what is counted depends on who ran before
        # Fixed rounds: the automatic number is taken from one call, however slow that one was.
        rounds = min(rounds, QUICK_ROUNDS) if quick else rounds
        if once:
            with stopwatch() as first:
                out = benchmark.pedantic(call, setup=jax.clear_caches, rounds=rounds)
            first.compilations //= rounds
            if benchmark.stats is not None:
                benchmark.extra_info["first_call_s"] = benchmark.stats.stats.data[0]
        else:
            with stopwatch() as first:
                call()
            benchmark.extra_info["first_call_s"] = first.seconds + first.compile_seconds
            call()  # some things are set up on the second call
            with stopwatch() as elapsed:
                out = benchmark.pedantic(call, rounds=rounds, iterations=iterations)
            assert elapsed.compilations == 0, "something was compiled while the clock ran"
        benchmark.extra_info["compilations"] = first.compilations
        facts = {name: count(out) if callable(count) else count for name, count in counts.items()}
        facts = {name: count for name, count in facts.items() if count}
        if benchmark.stats is not None:  # None under --benchmark-disable
            median = benchmark.stats.stats.median
            facts |= {f"{name}_per_s": count / median for name, count in facts.items()}
        benchmark.extra_info.update(facts)
        if "items_per_s" in facts:
            request.config.stash[RATES][request.node.name] = benchmark.extra_info
        return out

    return run


@pytest.fixture
def time_compiled(benchmark, request, time_call):
    """Time `function(*args)`, compiled, on arrays that are on the device before the clock starts.

    `first_call_s` is what a user waits for the first result: compilation and one call.
    """

    def run(function, *args, items, rounds=30, iterations=1, flops=None, dtype="float32"):
        args = jax.block_until_ready(jax.device_put(args))
        jax.clear_caches()
        with stopwatch() as compiling:
            program = compile_in_stages(function, *args)
        stages = {name: getattr(program, name) for name in ("trace_s", "lower_s", "compile_s")}
        # JAX returns before the device is done, so waiting is part of the call.
        call = lambda: jax.block_until_ready(program.call(*args))
        moved = (matmul_numbers(program.jaxpr) or 0) * jax.numpy.dtype(dtype).itemsize
        ends = (program.memory.get(f"{end}_bytes", 0) for end in ("argument", "output"))
        out = time_call(
            call, items=items, rounds=rounds, iterations=iterations,
            flops=flops or program.flops, bytes=moved or sum(ends),
        )  # fmt: skip
        facts = benchmark.extra_info
        facts.update(stages, operations=program.operations, **program.memory)
        facts["first_call_s"] += sum(stages.values())
        facts["compilations"] += compiling.compilations
        if benchmark.stats is not None and benchmark.stats.stats.median <= SHORT_S:
            facts["amortised_s"] = seconds_per_call(program.call, *args)
        if "flops_per_s" in facts:
            peak = request.config.stash[PEAKS][f"matmul_{dtype}"]
            facts["peak_share"] = peak and facts["flops_per_s"] / peak
            own = own_rate(program.jaxpr, dtype)
            facts["own_peak_share"] = own and facts["flops_per_s"] / own
        return out

    return run


@pytest.fixture(scope="session")
def mnist():
    return data.load("mnist")


@pytest.fixture(scope="session")
def split(mnist):
    return data.split(mnist, "lab")


@pytest.fixture(scope="session")
def network():
    """The network of the lab, trained once: the same numbers on every machine.

    Written by `robust-mnist run --out runs/lab`, from runs/lab/model/seed-0.safetensors.
    """
    return checkpoint.load_model(HERE / "network.safetensors")
