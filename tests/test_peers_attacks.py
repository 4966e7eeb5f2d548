"""The attacks of several libraries side by side: flags, order, judging, tables and figure."""

import json
import subprocess
import sys

import jax
import matplotlib as mpl
import numpy as np
import pytest

from benchmarks.peers_attacks import (
    LAB,
    OURS,
    QUICK,
    RADII,
    SIDES,
    TIMED,
    Work,
    __main__ as driver,
    judge,
    networks,
    norm_of,
    summary,
)
from benchmarks.process import ROOT
from robust_mnist.console import Console
from robust_mnist.errors import InputError
from robust_mnist.figures import svg
from robust_mnist.figures.peers_attacks import draw


SCHEDULED = f"scheduled-{TIMED}"
STANDING = {norm: [0.5] * len(radii) for norm, radii in RADII.items()}


def fact(side, attack, seconds, repetition=0, network=LAB, standing=None):
    return {
        "network": network,
        "side": side,
        "attack": attack,
        "repetition": repetition,
        "seconds": seconds,
        "compile_s": 2.0 if side == OURS else 0.0,
        "images": 4,
        "forward": 700.0,
        "backward": 440.0,
        "infeasible": 3,
        "excess": 0.0,
        "accuracy": standing or STANDING[norm_of(attack)],
        "threads": 2,
        "versions": {"library": "1.2.3"},
    }


RUNS = [
    fact(OURS, TIMED, 1.0), fact(OURS, SCHEDULED, 0.5), fact("torchattacks", TIMED, 8.0),
    fact("torchattacks", TIMED, 30.0, 1), fact(OURS, TIMED, 3.0, 1), fact(OURS, SCHEDULED, 1.0, 1),
    fact(OURS, TIMED, 2.0, 2), fact("torchattacks", TIMED, 18.0, 2),
    fact("torchattacks", "deepfool50-l2", 4.0), fact(OURS, "fmn100-l2", 4.0),
]  # fmt: skip
FAILURES = {
    "adv-lib": "ModuleNotFoundError: No module named 'adv_lib'",
    "torchattacks cw1x1000-l2": "ValueError: out of order",
}
SIZES = {
    (LAB, OURS, TIMED): np.array([0.0, 0.015, 0.055, np.inf]),
    (LAB, OURS, SCHEDULED): np.array([0.0, 0.025, 0.045, np.inf]),
    (LAB, "torchattacks", TIMED): np.array([0.0, 0.025, 0.035, 0.095]),
    (LAB, OURS, "fmn100-l2"): np.array([0.0, 0.3]),
    (LAB, "torchattacks", "deepfool50-l2"): np.array([0.0, 0.5, 0.1]),
}


def about(**changes):
    return {
        "command": "nox -s peers-attacks -- --images 4 --repeats 3",
        "interrupted": False,
        "images": 4,
        "load_before": 0.25,
        "load_highest": 5.5,
        "environment": {"device_kind": "Some CPU", "threads": 2},
        "runs": RUNS,
        "flags": summary.flags(RUNS, SIZES),
    } | changes


@pytest.fixture
def frame():
    return summary.summarise(RUNS, FAILURES, [OURS, "torchattacks", "adv-lib"])


def cells(page, *start):
    [line] = [line for line in page.splitlines() if line.startswith(f"| {' | '.join(start)} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- flags and order


@pytest.mark.parametrize(
    "words",
    [["--images", "0"], ["--repeats", "-1"], ["--peers", "cleverhans"], ["--peers"], ["--image"]],
)
def test_a_bad_flag_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        driver.parse(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err.splitlines()[-1]


def test_the_quick_form_is_small_unless_told_otherwise():
    quick = driver.parse(["--quick"])
    assert (quick.images, quick.repeats) == (driver.QUICK_IMAGES, 1)
    assert driver.parse(["--quick", "--images", "7"]).images == 7
    full = driver.parse([])
    assert (full.images, full.repeats, full.peers) == (10_000, 5, list(SIDES))


def test_the_command_repeats_the_measurement_and_holds_no_folder():
    options = driver.parse(["--quick", "--peers", "adv-lib", "--out", "there", "--run", "here"])
    told = driver.command(options)
    again = driver.parse(told.split()[4:])
    assert "here" not in told
    assert (again.quick, again.images, again.repeats, again.peers) == (True, 200, 1, options.peers)


def test_the_race_is_interleaved_and_the_rest_runs_once():
    turns = list(driver.schedule([OURS, "adv-lib", "foolbox-jax"], 3, quick=False, others=["net"]))
    raced = [turn for turn in turns if TIMED in turn.attacks and turn.side != "foolbox-jax"][:6]
    assert [(turn.repetition, turn.side) for turn in raced] == [
        (0, OURS), (0, "adv-lib"), (1, "adv-lib"), (1, OURS), (2, OURS), (2, "adv-lib"),
    ]  # fmt: skip
    assert turns[:6] == raced
    for side in (OURS, "adv-lib", "foolbox-jax"):
        ran = [turn.attacks for turn in turns if turn.side == side and turn.networks == (LAB,)]
        assert sorted({name for names in ran for name in names}) == sorted(SIDES[side].attacks)
        assert set(ran[-1]).isdisjoint(SIDES[side].timed)
    assert [turn.side for turn in turns if turn.networks == ("net",)] == [
        OURS, "adv-lib", "foolbox-jax",
    ]  # fmt: skip


def test_the_quick_form_runs_only_what_is_quick():
    turns = driver.schedule(list(SIDES), 1, quick=True, others=[])
    assert {name for turn in turns for name in turn.attacks} == QUICK


# --- judging


@pytest.fixture(scope="module")
def line():
    """Two classes parted at pixel value 0.5, and images of one pixel."""
    weight = np.array([[-1.0], [1.0]], np.float32)
    model = networks.mlp([weight], [np.array([0.5, -0.5], np.float32)], "tanh")
    clean = np.array([[0.3], [0.3], [0.7], [0.3]], np.float32)
    return model, clean, np.array([0, 0, 0, 0])


def test_a_break_counts_from_its_size_on_and_a_clean_mistake_at_once(line):
    model, clean, labels = line
    answer = np.array([[0.55], [0.45], [0.7], [np.nan]], np.float32)
    found = judge.judge(model, "linf", clean, labels, answer, ())
    assert found.size == pytest.approx([0.25, np.inf, 0.0, np.inf])
    assert found.infeasible == 1  # the one that is no number


def test_what_lies_outside_is_counted_moved_inside_and_judged_there(line):
    model, clean, labels = line
    near, far = np.full((4, 1), 0.41, np.float32), np.full((4, 1), 0.60, np.float32)
    found = judge.judge(model, "linf", clean, labels, np.stack([near, far]), (0.1, 0.25))
    # 0.7 moves by no more than 0.29; the others go 0.01 too far, then 0.05 too far.
    assert found.infeasible == 4 + 3
    assert found.excess == pytest.approx(0.19, abs=1e-6)
    assert found.size == pytest.approx([0.25, 0.25, 0.0, 0.25])
    assert np.all(found.size[:2] <= 0.25)  # exactly


def test_rounding_is_not_counted_but_told(line):
    model, clean, labels = line
    answer = (clean + np.float32(0.1) + np.float32(6e-8))[None]
    found = judge.judge(model, "linf", clean, labels, answer, (0.1,))
    assert found.infeasible == 0
    assert 0 < found.excess < 1e-6


def test_an_image_outside_the_box_is_infeasible_whatever_its_size(line):
    model, clean, labels = line
    answer = np.full((4, 1), -0.1, np.float32)
    found = judge.judge(model, "l2", clean, labels, answer, ())
    assert found.infeasible == 4
    assert found.excess == pytest.approx(0.1, abs=1e-6)


# --- networks


def test_networks_are_named_by_a_folder_and_their_activation_by_their_file(tmp_path, monkeypatch):
    weight, bias = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    for name in ("tanh-3-2", "salman-3-2"):
        np.savez(tmp_path / f"{name}.npz", **{"layers.0.weight": weight, "layers.0.bias": bias})
    monkeypatch.setenv(networks.VARIABLE, str(tmp_path))
    found = {name: networks.read(path) for name, path in networks.named().items()}
    assert {name: model.activation for name, model in found.items()} == {
        "tanh-3-2": "tanh", "salman-3-2": "relu",
    }  # fmt: skip
    assert found["tanh-3-2"].layers[0].weight.tolist() == weight.tolist()
    monkeypatch.setenv(networks.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(InputError, match=networks.VARIABLE):
        networks.named()
    monkeypatch.delenv(networks.VARIABLE)
    assert networks.named() == {}


def test_work_reads_what_it_wrote(tmp_path):
    work = Work(
        (np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)), (np.ones(2), np.ones(4)),
        "relu", np.full((5, 3), 255, np.uint8), np.arange(5), 7, 2,
    )  # fmt: skip
    work.write(tmp_path / "work.npz")
    again = Work.read(tmp_path / "work.npz", seed=7, threads=2)
    assert [weight.shape for weight in again.weights] == [(2, 3), (4, 2)]
    assert (again.activation, again.seed, again.threads) == ("relu", 7, 2)
    assert again.pixels.dtype == np.float32
    assert np.all(again.pixels == 1.0)


# --- processes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run whose network has not been trained."""

    from robust_mnist import checkpoint
    from robust_mnist.models import MLP

    folder, sizes = tmp_path_factory.mktemp("run"), (784, 4, 10)
    model = MLP(sizes, key=jax.random.key(0))
    (folder / "model").mkdir()
    about = {"model": "mlp", "sizes": sizes, "activation": "tanh"}
    checkpoint.save_model(folder / "model/seed-0.safetensors", model, about)
    return folder


@pytest.fixture
def few(monkeypatch):
    monkeypatch.delenv(networks.VARIABLE, raising=False)
    monkeypatch.setattr(driver, "schedule", lambda *_: [
        driver.Turn(OURS, (TIMED, SCHEDULED)), driver.Turn("torchattacks", (TIMED,)),
        driver.Turn("torchattacks", ("pgd40-ce-l2",)),
    ])  # fmt: skip


@pytest.mark.long
@pytest.mark.usefixtures("few")
def test_our_own_process_attacks_and_the_missing_side_is_named(run, tmp_path, monkeypatch):
    # Found before the true one in every process, and not to be imported.
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no\\ntorch: /a/b/c.so')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "out"
    words = ["--quick", "--images", "30", "--run", str(run), "--out", str(out)]
    assert driver.main(words) == 0
    told = json.loads((out / "peers-attacks.json").read_text())
    assert told["schema"] == driver.SCHEMA
    assert told["failures"] == {"torchattacks": "torch: c.so"}
    assert told["environment"]["platform"]
    grid, scheduled = told["runs"]
    assert (grid["attack"], scheduled["attack"]) == (TIMED, SCHEDULED)
    assert grid["images"] == 30
    assert grid["infeasible"] == scheduled["infeasible"] == 0
    # 40 steps at each radius, and what the driver does to an answer; some radii settle others.
    assert grid["backward"] > 40 * len(RADII["linf"])
    assert 0 < scheduled["backward"] < grid["backward"]
    assert grid["accuracy"] == sorted(grid["accuracy"], reverse=True)
    assert 0 <= grid["accuracy"][-1] < grid["accuracy"][0] < 1
    assert "not run: torch: c.so" in (out / "peers-attacks.md").read_text()
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".svg", ".png"}
    assert str(tmp_path) not in (out / "peers-attacks.json").read_text()


def leave(folder, attack, **facts):
    """What a process leaves behind of one attack on four images: the clean ones, and its facts."""
    work = Work.read(folder.with_suffix(".npz"), seed=0, threads=1)
    np.save(folder / f"{attack}.npy", np.stack([work.pixels] * len(RADII[norm_of(attack)])))
    told = {"seconds": 1.0, "compile_s": 0.0, "images": 4, "forward": 1.0, "backward": 1.0}
    told |= {"versions": {}, "threads": 1} | facts
    (folder / f"{attack}.json").write_text(json.dumps(told))


@pytest.mark.usefixtures("few")
def test_what_was_measured_before_an_interruption_is_written(run, tmp_path, monkeypatch):
    def process(_, words):
        folder = driver.Path(words[3]).with_suffix("")
        leave(folder, words[5])
        if words[0] == OURS:
            raise KeyboardInterrupt

    monkeypatch.setattr(driver.process, "run", process)
    words = ["--images", "4", "--run", str(run), "--out", str(tmp_path)]
    assert driver.main(words) == 130
    told = json.loads((tmp_path / "peers-attacks.json").read_text())
    assert told["interrupted"]
    assert [(run["side"], run["attack"]) for run in told["runs"]] == [(OURS, TIMED)]
    assert "Interrupted" in (tmp_path / "peers-attacks.md").read_text()


@pytest.mark.usefixtures("few")
def test_an_attack_that_fails_is_named_and_the_others_go_on(run, monkeypatch):
    def process(_, words):
        folder = driver.Path(words[3]).with_suffix("")
        for attack in words[5:]:
            leave(folder, attack)
        if words[0] == "torchattacks":
            failure = {"failure": 'File "/a/b.py", line 3\nValueError: out of order\n'}
            (folder / f"{words[5]}.json").write_text(json.dumps(failure))

    monkeypatch.setattr(driver.process, "run", process)
    options = driver.parse(["--images", "4", "--run", str(run)])
    measurement = driver.Measurement(options, Console())
    measurement.run()
    assert measurement.failures == {
        f"torchattacks {name}": "ValueError: out of order" for name in (TIMED, "pgd40-ce-l2")
    }
    assert [run["attack"] for run in measurement.runs] == [TIMED, SCHEDULED]


def test_a_run_without_a_model_is_refused(tmp_path, capsys):
    assert driver.main(["--run", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "no model" in capsys.readouterr().err


def test_a_process_imports_no_other_library_than_its_own():
    code = (
        "import sys; from benchmarks.peers_attacks import child;"
        "sys.exit(bool({'jax', 'torch', 'robust_mnist', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("name", SIDES)
def test_every_side_has_its_file_and_its_attacks_a_norm(name):
    side = SIDES[name]
    assert (ROOT / f"benchmarks/peers_attacks/{side.module}.py").exists()
    assert {norm_of(attack) for attack in side.attacks} <= set(RADII)
    assert set(side.timed) <= set(side.attacks)


# --- tables and figure


def test_ratios_are_paired_within_a_repetition(frame):
    row = frame[(frame.side == "torchattacks") & (frame.attack == TIMED)].iloc[0]
    # 8/1, 30/3 and 18/2; the ratio of the medians would be 18/2 as well, their range not.
    assert [row[f"ratio_grid{end}"] for end in ("_low", "", "_high")] == [8.0, 9.0, 10.0]
    assert [row[f"ratio_scheduled{end}"] for end in ("_low", "", "_high")] == [16.0, 23.0, 30.0]
    other = frame[frame.attack == "deepfool50-l2"].iloc[0]
    assert np.isnan(other.ratio_grid)


def test_flags_name_the_images_that_only_one_side_breaks():
    found = {(flag["norm"], flag["eps"]): flag for flag in summary.flags(RUNS, SIZES)}
    # Of both of ours the closer one counts: 0.015 and 0.045 against 0.025 and 0.035.
    assert found["linf", 0.02]["ours_alone"] == "1"
    assert found["linf", 0.03]["ours_alone"] == ""
    assert found["linf", 0.04]["theirs_alone"] == "2"
    assert found["linf", 0.1]["theirs_alone"] == "3"
    assert found["linf", 0.1]["why"] == [
        {"image": 3, "attack": TIMED, "size": 0.095, "ours": None}
    ]  # fmt: skip
    # In the other norm ours ran on two images and theirs on three: two can be compared.
    assert found["l2", 0.4]["images"] == 2
    assert (found["l2", 0.4]["ours_alone"], found["l2", 0.4]["theirs_alone"]) == ("1", "")
    assert found["l2", 0.2]["standing"] == 0.5


def test_the_page_has_the_race_the_flags_and_who_did_not_run(frame):
    page = summary.page(frame, about())
    assert cells(page, "torchattacks", TIMED, "18.00 (8.00 - 30.00)")[4:8] == [
        "9.00 (8.00 - 10.00)", "23.00 (16.00 - 30.00)", "700 + 440", "3",
    ]  # fmt: skip
    assert cells(page, "adv-lib")[1] == f"not run: {FAILURES['adv-lib']}"
    assert cells(page, "torchattacks", "4")[2:] == [
        "0 / 0", "0 / 1", "0 / 0", "1 / 0", "0 / 0", "0 / 0", "0 / 0", "0 / 0", "0 / 0", "1 / 0",
    ]  # fmt: skip
    assert "image 2 at 0.04: torchattacks pgd40-ce-linf at 0.035000, our closest 0.045000" in page
    assert "cw1x1000-l2 not run: ValueError: out of order" in page
    assert "load average 0.25 before the first process and up to 5.50" in page
    assert "Interrupted" not in page


def test_the_page_says_where_ours_leave_more_standing():
    worse = [*STANDING["linf"][:-1], 0.6]
    runs = [fact(OURS, TIMED, 1.0, standing=worse), fact("adv-lib", TIMED, 1.0)]
    page = summary.page(summary.summarise(runs, {}, [OURS, "adv-lib"]), about(runs=runs, flags=[]))
    assert f"- {TIMED} against adv-lib: more standing at 0.1 (+10.00%)." in page


def test_the_figure_has_a_row_for_every_side_of_the_race(frame):
    figure = draw(summary.race(frame), summary.conditions(about()))
    svg(figure, "peers")  # a layout that collapses is a warning, and so an error
    [axes] = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "robust_mnist\n50.00 % standing at 0.06",
        "robust_mnist, scheduled\n50.00 % standing at 0.06",
        "torchattacks\n50.00 % standing at 0.06",
        "adv_lib\nno result",
    ]
    [points] = [line for line in axes.lines if line.get_label().startswith("the attack")]
    assert points.get_xdata()[:3].tolist() == [2.0, 0.75, 18.0]
    texts = "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "Some CPU, 2 threads" in texts
    assert FAILURES["adv-lib"] in texts


def test_a_figure_without_any_time_says_why():
    frame = summary.summarise([], {OURS: "out of order"}, [OURS])
    figure = draw(summary.race(frame), "")
    svg(figure, "peers")
    assert "not run: out of order" in "\n".join(
        text.get_text() for text in figure.findobj(mpl.text.Text)
    )
