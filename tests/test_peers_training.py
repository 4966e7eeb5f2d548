"""The training of several libraries side by side: flags, order, failures, table and figure."""

import json
import re
import subprocess
import sys

import matplotlib as mpl
import pandas as pd
import pytest

from benchmarks import process
from benchmarks.peers_training import OURS, PEERS, __main__ as driver, summary
from robust_mnist.console import Console
from robust_mnist.figures import svg
from robust_mnist.figures.peers_training import draw


def fact(peer, repetition, fit_s, accuracy=0.95):
    return {
        "peer": peer,
        "repetition": repetition,
        "fit_s": fit_s,
        "compile_s": 2.0,
        "process_s": fit_s + 4.0,
        "accuracy": accuracy,
        "threads": 2,
        "versions": {"library": "1.2.3"},
    }


RUNS = [
    fact(OURS, 0, 1.0, 0.9512), fact("flax", 0, 2.0), fact("scikit-learn", 0, 130.0),
    fact("flax", 1, 9.0), fact(OURS, 1, 3.0, 0.9532),
    fact(OURS, 2, 2.0, 0.9522), fact("flax", 2, 10.0),
]  # fmt: skip
FAILURES = {"torch": "ModuleNotFoundError: No module named 'torch'"}
ABOUT = {
    "command": "nox -s peers-training -- --epochs 500",
    "epochs": 500,
    "load_before": 0.25,
    "load_highest": 5.5,
    "environment": {"device_kind": "Some CPU", "threads": 2},
    "runs": RUNS,
}


@pytest.fixture
def frame():
    return summary.summarise(RUNS, FAILURES, [OURS, "torch", "flax", "scikit-learn"])


def texts(figure):
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def cells(table, name):
    [line] = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- flags and order


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "0"],
        ["--epochs", "ten"],
        ["--repeats", "-1"],
        ["--peers", "tensorflow"],
        ["--peers"],
        ["--epoch", "3"],
    ],
)
def test_a_bad_flag_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        driver.parse(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err.splitlines()[-1]


def test_ours_runs_whoever_is_asked_for_as_the_others_are_compared_with_it():
    assert driver.parse(["--peers", "keras", "torch"]).peers == [OURS, "torch", "keras"]


def test_every_other_repetition_runs_backwards_and_slow_peers_once():
    names = [OURS, "flax", "scikit-learn"]
    assert list(driver.schedule(names, None)) == [
        (0, OURS), (0, "flax"), (0, "scikit-learn"), (1, "flax"), (1, OURS), (2, OURS), (2, "flax"),
    ]  # fmt: skip
    assert [name for _, name in driver.schedule(names, 2)] == [*names, *reversed(names)]


def test_the_command_repeats_the_measurement_and_holds_no_folder():
    words = ["--epochs", "20", "--repeats", "2", "--peers", OURS, "flax"]
    options = driver.parse([*words, "--out", "somewhere"])
    told = driver.command(options)
    assert told == f"nox -s peers-training -- {' '.join(words)}"
    assert driver.parse(told.split()[4:]).peers == options.peers


# --- processes


@pytest.mark.long
def test_our_own_process_trains_and_the_missing_peer_is_named(tmp_path, monkeypatch):
    # Found before the true one in every process, and not to be imported.
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no\\ntorch: /a/b/c.so')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "out"
    words = ["--epochs", "2", "--repeats", "2", "--peers", "torch", "--out", str(out)]
    assert driver.main(words) == 0
    told = json.loads((out / "peers-training.json").read_text())
    assert told["schema"] == driver.SCHEMA
    assert told["failures"] == {"torch": "torch: c.so"}
    assert told["environment"]["platform"]
    first, second = told["runs"]
    assert first["peer"] == second["peer"] == OURS
    for run in told["runs"]:
        assert 0.6 < run["accuracy"] < 0.95  # two epochs are better than chance and not enough
        assert run["fit_s"] + run["compile_s"] < run["process_s"]
    assert first["accuracy"] != second["accuracy"]  # other weights, other batches
    assert [row["failure"] for row in told["summary"]] == ["", "torch: c.so"]
    assert "failed: torch: c.so" in (out / "peers-training.md").read_text()
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".svg", ".png"}
    assert str(tmp_path) not in (out / "peers-training.json").read_text()


def test_the_session_fails_without_a_time_of_our_own(tmp_path, monkeypatch):
    def fail(*_):
        raise driver.Failed("out of order")

    monkeypatch.setattr(driver, "run", fail)
    monkeypatch.setattr(driver, "export", lambda _: None)
    assert driver.main(["--peers", OURS, "flax", "--out", str(tmp_path)]) == 1
    told = json.loads((tmp_path / "peers-training.json").read_text())
    assert told["failures"] == {OURS: "out of order", "flax": "out of order"}


def test_a_peer_that_failed_is_not_tried_again(monkeypatch, capsys):
    asked = []

    def run(name, *_):
        asked.append(name)
        if name == "flax":
            raise driver.Failed("out of order")
        return {"fit_s": 1.0, "accuracy": 0.5}

    monkeypatch.setattr(driver, "run", run)
    monkeypatch.setattr(driver, "export", lambda _: None)
    runs, failures = driver.measure(driver.parse(["--peers", "flax"]), Console())
    assert asked == [OURS, "flax", OURS, OURS]
    assert [run["repetition"] for run in runs] == [0, 1, 2]
    assert failures == {"flax": "out of order"}
    assert "1/6 robust_mnist, repetition 1\n  1.00 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "stderr", "expected"),
    [
        (1, "Traceback\nValueError: wrong\n\n", "ValueError: wrong"),
        (1, "OSError: '/home/me/x/lib.so' and C:\\Users\\me\\a.dll", "OSError: 'lib.so' and a.dll"),
        (3, " \n", "ended with exit code 3"),
        (-9, "halfway through\n", "ended by SIGKILL"),
    ],
)
def test_a_reason_is_one_line_without_folders(code, stderr, expected):
    done = subprocess.CompletedProcess([], code, stderr=stderr)
    assert process.reason(done) == expected


def test_a_process_imports_no_other_library_than_its_own():
    code = (
        "import sys; from benchmarks.peers_training import child;"
        "sys.exit(bool({'jax', 'torch', 'robust_mnist', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=driver.ROOT, check=False)
    assert done.returncode == 0


# --- table and figure


def test_ratios_are_paired_within_a_repetition(frame):
    # 2/1, 9/3 and 10/2; the ratio of the medians would be 9/2.
    assert frame.loc["flax", ["ratio_low", "ratio", "ratio_high"]].tolist() == [2.0, 3.0, 5.0]
    assert frame.loc["scikit-learn", "ratio"] == 130.0
    assert frame.loc[OURS, ["fit_s_low", "fit_s", "fit_s_high"]].tolist() == [1.0, 2.0, 3.0]
    assert frame["runs"].tolist() == [3, 0, 3, 1]


def test_the_table_has_accuracy_beside_each_time(frame):
    table = summary.table(frame, ABOUT)
    ours = cells(table, OURS)
    assert ours[1] == "2.00 (1.00 - 3.00)"
    assert ours[4] == "95.22% (95.12% - 95.32%)"
    assert cells(table, "flax")[5:] == ["3.00 (2.00 - 5.00)", "3"]
    assert ABOUT["command"] in table
    assert "load average 0.25 before the first process and up to 5.50" in table


def test_the_table_names_who_failed_who_ran_once_and_who_has_no_rmsprop(frame):
    table = summary.table(frame, ABOUT)
    assert cells(table, "torch")[1] == f"failed: {FAILURES['torch']}"
    [line] = [line for line in table.splitlines() if line.startswith("- **scikit-learn**")]
    assert "no RMSProp" in line
    assert "once because it is slow" in line


def test_a_peer_that_failed_later_keeps_its_time_and_its_reason():
    table = summary.table(summary.summarise(RUNS, {"flax": "out of order"}, [OURS, "flax"]), ABOUT)
    assert cells(table, "flax")[1].startswith("9.00")
    assert table.count("failed: out of order") == 1


@pytest.mark.parametrize(("found", "more"), [(None, []), ("/usr/bin/nvidia-smi", ["torch-graphs"])])
def test_what_needs_a_gpu_is_left_out_where_there_is_none(monkeypatch, found, more):
    monkeypatch.setattr(driver.shutil, "which", lambda _: found)
    options = driver.parse([])
    assert set(PEERS) - set(options.peers) == {"torch-graphs"} - set(more)
    assert "--peers" not in driver.command(options)
    assert driver.parse(["--peers", "torch-graphs"]).peers == [OURS, "torch-graphs"]


@pytest.mark.parametrize("name", PEERS)
def test_the_table_says_where_the_delta_of_each_peer_stands(name):
    assert re.search("delta (under|outside) the root", PEERS[name].remark)
    assert (driver.ROOT / f"benchmarks/peers_training/{PEERS[name].module}.py").exists()


def test_the_figure_has_a_row_for_every_peer(frame):
    figure = draw(frame, summary.conditions(ABOUT))
    svg(figure, "peers")  # a layout that collapses is a warning, and so an error
    [axes] = figure.axes
    assert axes.has_data()
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "robust_mnist\ntest accuracy 95.22 %",
        "PyTorch, eager\nno result",
        "Flax, Optax\ntest accuracy 95.00 %",
        "scikit-learn (Adam)\ntest accuracy 95.00 %",
    ]
    [points] = [line for line in axes.lines if line.get_label().startswith("training alone")]
    assert points.get_xdata()[[0, 2, 3]].tolist() == [2.0, 9.0, 130.0]
    assert axes.get_xscale() == "log"
    assert "Some CPU, 2 threads" in texts(figure)
    assert FAILURES["torch"] in texts(figure)


def test_the_axis_begins_at_zero_where_times_are_alike():
    runs = [fact(OURS, 0, 5.0), fact("flax", 0, 6.0)]
    [axes] = draw(summary.summarise(runs, {}, [OURS, "flax"]), "").axes
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim()[0] == 0.0


def test_a_figure_without_any_time_says_why():
    frame = summary.summarise([], {OURS: "out of order"}, [OURS])
    assert isinstance(frame, pd.DataFrame)
    figure = draw(frame, "")
    svg(figure, "peers")
    assert "failed: out of order" in texts(figure)
