"""The sessions of noxfile.py, and the files that tell people and machines to run them."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from nox.command import CommandFailed


ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
README_LINES = [
    "python -m pip install nox && python -m nox -s report",
    "python -m pip install nox && python -m nox -s tests",
]


@pytest.fixture(scope="session")
def noxfile():
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sessions():
    """Return the sessions that `nox --list` shows, with what it says about them."""
    return dict(re.findall(r"^[*-] (\S+) -> (.+)$", nox("--list").stdout, re.MULTILINE))


def nox(*args, **env):
    """Run nox on the project's noxfile, in an environment with these variables changed."""
    command = [sys.executable, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), *args]
    new = {name: value for name, value in (os.environ | env).items() if value is not None}
    return subprocess.run(
        command, cwd=ROOT, env=new, capture_output=True, text=True, timeout=120, check=False
    )


def write_script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def write_python(path, answer):
    return write_script(path, f"echo '{answer}'")


def named_sessions(text):
    """Return the names after each `nox -s` in a text."""
    return [
        name for names in re.findall(r"nox -s((?: +[a-z][a-z-]*)+)", text) for name in names.split()
    ]


def bench_commands(text):
    """Return the words of each `robust-mnist bench` that a session of a text runs."""
    found = re.findall(r"nox -s bench-(compare|accelerators) --(.*)", text)
    return [["bench", name, *shlex.split(words.partition("#")[0])] for name, words in found]


def steps(path):
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


# --- finding interpreters


def test_a_shim_that_starts_nothing_does_not_hide_an_interpreter_later_on_path(noxfile, tmp_path):
    write_script(tmp_path / "a/python3.13", "echo 'python3.13: command not found' >&2; exit 127")
    good = write_python(tmp_path / "b/python3.13", "Python 3.13.7")
    assert noxfile.find_interpreters(["3.13"], [tmp_path / "a", tmp_path / "b"]) == {"3.13": good}


def test_an_interpreter_is_found_under_the_name_python3_too(noxfile, tmp_path):
    good = write_python(tmp_path / "a/python3", "Python 3.12.1")
    assert noxfile.find_interpreters(["3.11", "3.12"], [tmp_path / "a"]) == {"3.12": good}


@pytest.mark.parametrize(
    "body",
    [
        "echo 'Python 3.12.4'",
        "echo 'Python 3.1.3'",
        "echo 'Python 3.130.0'",
        "echo 'Python 3.13.0'; echo '[PyPy 7.3.19]'",
        "echo 'Python 3.13.0'; exit 1",
        "echo 'Python 3.13.0' >&2",
        "true",
    ],
)
def test_only_an_interpreter_that_answers_with_its_version_counts(noxfile, tmp_path, body):
    write_script(tmp_path / "python3.13", body)
    assert noxfile.find_interpreters(["3.13"], [tmp_path]) == {}


def test_files_that_cannot_be_run_are_passed_over(noxfile, tmp_path):
    (tmp_path / "python3.13").mkdir()
    write_python(tmp_path / "python3.12", "Python 3.12.0").chmod(0o644)
    (tmp_path / "python3.11").symlink_to("nowhere")
    (tmp_path / "python3").write_bytes(b"\x00")
    (tmp_path / "python3").chmod(0o755)
    assert noxfile.find_interpreters(["3.11", "3.12", "3.13"], [tmp_path, tmp_path / "none"]) == {}


def test_pyenv_versions_are_searched_after_path_the_newest_first(noxfile, tmp_path):
    shims, other = tmp_path / "pyenv/shims", tmp_path / "bin"
    for name in ["3.9.18", "3.13.2", "3.13.10"]:
        (tmp_path / "pyenv/versions" / name / "bin").mkdir(parents=True)
    folders = list(noxfile.interpreter_folders(f"{shims}{os.pathsep}{other}"))
    assert folders[:2] == [shims, other]
    assert [folder.parent.name for folder in folders[2:]] == ["3.13.10", "3.13.2", "3.9.18"]


def test_interpreters_of_uv_are_searched_and_uv_is_told_to_download_nothing(noxfile, tmp_path):
    write_script(
        tmp_path / "bin/uv",
        f'[ "$*" = "python dir" ] && [ "$UV_PYTHON_DOWNLOADS" = never ] && echo {tmp_path}/uv',
    )
    good = write_python(tmp_path / "uv/cpython-3.14.1-linux/bin/python3.14", "Python 3.14.1")
    folders = noxfile.interpreter_folders(str(tmp_path / "bin"))
    assert noxfile.find_interpreters(["3.14"], folders) == {"3.14": good}


@pytest.mark.parametrize("ci", ["true", None])
def test_one_interpreter_is_too_few_and_the_absent_ones_are_named(tmp_path, ci):
    write_python(tmp_path / "python3.12", "Python 3.12.0")
    write_script(tmp_path / "python3.13", "exit 127")
    done = nox("-s", "tests-all", PATH=str(tmp_path), CI=ci)
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert f"Python 3.12: {tmp_path / 'python3.12'}" in output
    for absent in ["3.11", "3.13", "3.14"]:
        assert f"Python {absent}: absent" in output
    assert "have to be installed" in output


class FakeSession:
    """Records what a session would run; `broken` is the interpreter on which the tests fail."""

    def __init__(self, broken=None):
        self.posargs = ["-k", "radii"]
        self.broken = broken
        self.ran = []
        self.said = []

    def run(self, *command, external=False):
        assert external
        self.ran.append(command)
        if self.broken in command:
            raise CommandFailed

    def log(self, message):
        self.said.append(message)

    def error(self, message):
        raise SystemExit(message)


def test_tests_all_runs_the_tests_once_on_each_interpreter(noxfile, tmp_path, monkeypatch):
    pythons = [
        str(write_python(tmp_path / f"python3.{minor}", f"Python 3.{minor}.0"))
        for minor in (11, 14)
    ]
    monkeypatch.setenv("PATH", str(tmp_path))
    session = FakeSession()
    noxfile.tests_all.func(session)
    assert [command[command.index("--force-python") + 1] for command in session.ran] == pythons
    assert all(command[-3:] == ("--", "-k", "radii") for command in session.ran)
    assert session.said[-1] == "The tests pass on Python 3.11, 3.14."


def test_tests_all_goes_on_after_a_failure_and_names_it(noxfile, tmp_path, monkeypatch):
    broken = str(write_python(tmp_path / "python3.11", "Python 3.11.0"))
    write_python(tmp_path / "python3.12", "Python 3.12.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    session = FakeSession(broken)
    with pytest.raises(SystemExit, match=r"fail on Python 3\.11\.$"):
        noxfile.tests_all.func(session)
    assert len(session.ran) == 2


# --- what the sessions promise


@pytest.mark.parametrize(
    ("posargs", "expected"),
    [
        ([], ("", [])),
        (["-x", "--extra", "cuda13", "-k", "a"], ("[cuda13]", ["-x", "-k", "a"])),
        (["--extra=cuda12"], ("[cuda12]", [])),
        (["--extras", "--publish"], ("", ["--extras", "--publish"])),
    ],
)
def test_an_extra_is_split_from_the_arguments(noxfile, posargs, expected):
    assert noxfile.split_extra(posargs) == expected


def test_every_session_says_in_one_sentence_what_it_does(sessions):
    for name, description in sessions.items():
        assert re.fullmatch(r"[A-Z][^.]*(\.\S[^.]*)*\.", description), name


def test_every_supported_python_is_one_that_the_package_accepts(noxfile):
    assert noxfile.PYTHONS[0] == noxfile.PROJECT["project"]["requires-python"].removeprefix(">=")


# --- what people and machines are told to run


@pytest.mark.parametrize(
    "path",
    [*WORKFLOWS, ROOT / ".ci/run", ROOT / "README.md", ROOT / "CONTRIBUTING.md"],
    ids=lambda path: path.name,
)
def test_every_session_that_a_file_names_exists(path, sessions):
    named = named_sessions(path.read_text())
    assert named
    assert set(named) <= set(sessions)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_only_run_sessions(path):
    # `exit 1` is the last job, which fails if one of the others did.
    line = re.compile(
        r"python -m pip install nox && python -m nox -s [a-z -]+( -- [\w $\"/.=-]+)?|exit 1"
    )
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    assert [command for command in commands if not line.fullmatch(command.strip())] == []


def test_the_arguments_of_bench_sessions_in_workflows_are_those_of_the_command_line():
    from robust_mnist import cli, config

    commands = [words for path in WORKFLOWS for words in bench_commands(path.read_text())]
    parsed = [cli.parse(words) for words in commands]
    assert {type(command) for command in parsed} == {config.Compare, config.Accelerators}
    [compare] = [command for command in parsed if isinstance(command, config.Compare)]
    assert compare.quick
    assert (compare.a, compare.b) == ("$BASE", "$HEAD")


def test_no_text_of_an_event_is_pasted_into_a_command():
    commands = [step["run"] for path in WORKFLOWS for step in steps(path) if "run" in step]
    assert [command for command in commands if "${{" in command] == []


@pytest.fixture(scope="session")
def bench_jobs():
    return yaml.safe_load((ROOT / ".github/workflows/bench.yml").read_text())["jobs"]


def test_pull_requests_are_measured_against_their_base_on_one_runner_without_a_gpu(bench_jobs):
    gate, measure = bench_jobs["gate"], bench_jobs["measure"]
    assert gate["if"] == "github.event_name == 'pull_request'"
    assert gate["runs-on"] == "ubuntu-latest"
    assert "strategy" not in gate
    assert gate["steps"][0]["with"]["fetch-depth"] == 0
    assert gate["env"]["JAX_PLATFORMS"] == "cpu"
    # Decided for the job, before its matrix is known and a runner is taken.
    assert measure["if"] == "github.event_name != 'pull_request'"


def test_a_leg_measures_the_device_it_is_named_for_and_alone(bench_jobs):
    measure = bench_jobs["measure"]
    assert measure["env"]["JAX_PLATFORMS"] == "${{ matrix.platforms }}"
    assert measure["strategy"]["fail-fast"] is False
    assert measure["strategy"]["matrix"] == {"include": "${{ fromJSON(needs.plan.outputs.legs) }}"}
    assert measure["concurrency"]["group"] == "bench-${{ matrix.runner }}"


def test_artifacts_have_names_of_their_own(bench_jobs):
    names = [
        step["with"]["name"]
        for job in bench_jobs.values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact@")
    ]
    assert len(names) == len(set(names)) == 3
    assert "bench-${{ matrix.device }}" in names


def test_the_last_job_of_the_benchmarks_waits_for_all_others(bench_jobs):
    assert list(bench_jobs)[-1] == "pass"
    assert set(bench_jobs["pass"]["needs"]) == set(bench_jobs) - {"pass"}


@pytest.mark.parametrize(
    ("runner", "devices"), [("", ["cpu"]), ("my gpu's label", ["cpu", "gpu"]), ("  ", ["cpu"])]
)
def test_the_plan_has_a_leg_for_a_gpu_where_a_runner_is_named(tmp_path, runner, devices):
    output = tmp_path / "output"
    done = nox("-s", "bench-plan", GPU_RUNNER=runner, GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    name, _, value = output.read_text().partition("=")
    legs = json.loads(value)
    assert name == "legs"
    assert [leg["device"] for leg in legs] == devices
    assert [leg["platforms"] for leg in legs] == ["cpu", "cuda"][: len(devices)]
    assert legs[0]["runner"] == "ubuntu-latest"
    assert legs[-1]["runner"] == (runner.strip() or "ubuntu-latest")


def test_the_extra_of_a_leg_reaches_the_installation(noxfile):
    [cpu, gpu] = noxfile.bench_legs("label")
    assert noxfile.split_extra(cpu["extra"].split()) == ("", [])
    assert noxfile.split_extra(gpu["extra"].split()) == ("[cuda13]", [])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_hold_no_rights_and_no_credentials(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        assert job.get("permissions", {}) in ({}, {"contents": "read"})
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_last_job_waits_for_all_others():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert list(jobs)[-1] == "pass"
    assert set(jobs["pass"]["needs"]) == set(jobs) - {"pass"}


def test_the_readme_opens_with_the_two_commands(sessions):
    lines = (ROOT / "README.md").read_text().splitlines()[:12]
    commands = [line.split("#")[0].strip() for line in lines if line.startswith("python ")]
    assert commands == README_LINES
    assert set(named_sessions("\n".join(commands))) <= set(sessions)


def test_ci_run_types_the_command_of_the_readme():
    assert README_LINES[1] in (ROOT / ".ci/run").read_text().splitlines()


# --- what conftest.py promises


def test_silent_promotions_are_errors():
    import jax.numpy as jnp

    with pytest.raises(ValueError, match="rank_promotion='raise'"):
        jnp.ones((2, 3)) + jnp.ones(3)
    with pytest.raises(Exception, match=r"(?i)strict.*promotion"):
        jnp.ones(3, jnp.float32) + jnp.ones(3, jnp.int32)


def test_keys_are_new_at_each_call(getkey):
    import jax

    first, second = (jax.random.key_data(getkey()).tolist() for _ in range(2))
    assert first != second
