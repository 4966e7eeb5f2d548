"""What every benchmark shares: the right device, real images, and a clock that waits for both.

A benchmark checks its result after the clock has stopped, so that work left out is no speed-up.
"""

import os
import time

import jax
import pytest

from robust_mnist import data, training
from robust_mnist.bench import compile_in_stages, environment, environment_key, wrong_device
from robust_mnist.clock import stopwatch
from robust_mnist.config import TrainSettings


WRONG_DEVICE = 5
# What `--quick` runs, one of each topic, and in at most how many rounds.
QUICK = (
    "bench_training.py::bench_training[1-network]",
    "bench_inference.py::bench_inference[1024]",
    "bench_attacks.py::bench_ball_attack[pgd40-linf]",
    "bench_certifiers.py::bench_certifier[ibp-linf]",
    "bench_loading.py::bench_load",
    "bench_startup.py::bench_help",
)
QUICK_ROUNDS = 10
LOAD = pytest.StashKey[list[float]]()
RATES = pytest.StashKey[dict[str, dict]]()


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="run the short list, in fewer rounds")


def pytest_configure(config):
    if complaint := wrong_device(os.environ.get("JAX_PLATFORMS", "")):
        pytest.exit(complaint, returncode=WRONG_DEVICE)
    # Read back from a cache, a program would seem to compile in no time.
    jax.config.update("jax_enable_compilation_cache", False)
    # Before the benchmarks are a load of their own; Windows has none to tell.
    config.stash[LOAD] = list(os.getloadavg()) if hasattr(os, "getloadavg") else []
    config.stash[RATES] = {}


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
    machine_info.update(about, key=environment_key(about), load_average=config.stash[LOAD])


def pytest_benchmark_update_commit_info(commit_info):
    commit_info["project"] = "robust-mnist"  # otherwise the name of the folder it lies in


def pytest_terminal_summary(terminalreporter, config):
    rates = config.stash[RATES]
    if not rates:
        return
    width = max(map(len, rates))
    terminalreporter.section("throughput")
    for name, facts in rates.items():
        flops = f"{facts['flops_per_s'] / 1e9:10,.1f} GFLOP/s" if "flops_per_s" in facts else ""
        compiled = f"{facts['compile_s']:6.2f} s compiling" if "compile_s" in facts else ""
        line = f"{name:{width}}  {facts['items_per_s']:14,.0f} items/s {flops:18} {compiled}"
        terminalreporter.write_line(line.rstrip())


@pytest.fixture
def time_call(benchmark, request):
    """Time `call()`, which has to wait for its own result.

    Saves how long the very first call took; and of everything counted, such as `items=1000`, the
    count and how many the median round did per second.
    """
    quick = request.config.getoption("--quick")

    def run(call, *, rounds, iterations=1, **counts):
        start = time.perf_counter()
        call()
        benchmark.extra_info["first_call_s"] = time.perf_counter() - start
        call()  # some things are set up on the second call
        # Fixed rounds: the automatic number is taken from one call, however slow that one was.
        rounds = min(rounds, QUICK_ROUNDS) if quick else rounds
        with stopwatch() as elapsed:
            out = benchmark.pedantic(call, rounds=rounds, iterations=iterations)
        assert elapsed.compile_seconds == 0, "something was compiled while the clock ran"
        facts = {name: count for name, count in counts.items() if count}
        if benchmark.stats is not None:  # None under --benchmark-disable
            median = benchmark.stats.stats.median
            facts |= {f"{name}_per_s": count / median for name, count in facts.items()}
        benchmark.extra_info.update(facts)
        if "items_per_s" in facts:
            request.config.stash[RATES][request.node.name] = benchmark.extra_info
        return out

    return run


@pytest.fixture
def time_compiled(benchmark, time_call):
    """Time `function(*args)`, compiled, on arrays that are on the device before the clock starts.

    Saves what compilation took, stage by stage. `first_call_s` is what a user waits for the first
    result: compilation and one call.
    """

    def run(function, *args, items, rounds=30, iterations=1):
        args = jax.block_until_ready(jax.device_put(args))
        program = compile_in_stages(function, *args)
        stages = {name: getattr(program, name) for name in ("trace_s", "lower_s", "compile_s")}
        # JAX returns before the device is done, so waiting is part of the call.
        call = lambda: jax.block_until_ready(program.call(*args))
        out = time_call(
            call, items=items, rounds=rounds, iterations=iterations, flops=program.flops
        )
        benchmark.extra_info.update(stages)
        benchmark.extra_info["first_call_s"] += sum(stages.values())
        return out

    return run


@pytest.fixture(scope="session")
def mnist():
    return data.load("mnist")


@pytest.fixture(scope="session")
def split(mnist):
    return data.split(mnist, "lab")


@pytest.fixture(scope="session")
def network(split):
    """A network of the lab's sizes, trained long enough to be right about most images."""
    return training.train(TrainSettings(epochs=10), split.train, split.valid).models[0]
