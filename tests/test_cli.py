import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import TINY, TINY_SWEEP
from data_files import csv_bytes, some_arrays, write, write_idx
from problems import case

from robust_mnist import cli, sweep


def complaint(result):
    """The one line on stderr of a command that was refused with exit code 2."""
    code, out, err = result
    assert code == 2, (code, err)
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("robust-mnist: ")
    return lines[0]


# --- mistakes in flags --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rum"], "unknown command 'rum'.*did you mean 'run'"),
        (["run", "--epoch", "3"], "run has no flag --epoch; did you mean '--epochs'?"),
        (["run", "--epochs", "0"], "--epochs must be between 1 and 2147483647, got 0$"),
        (["run", "--epochs", "many"], "--epochs takes a whole number, got 'many'$"),
        (["run", "--delta", "tiny"], "--delta takes a number, got 'tiny'$"),
        (
            ["run", "--norm", "linff"],
            "--norm takes linf or l2 or l1 or l0, got 'linff'; did you mean 'linf'",
        ),
        (["run", "--out", ""], "--out needs a name, got ''"),
        (["train", "--run", ""], "--run needs a name, got ''"),
        (["report", ""], "needs the names of runs"),
        (["run", "--data"], "--data needs a value$"),
        (["run", "--norm"], "--norm needs a value$"),
        (["run", "--norm", "linf", "--eps"], "--eps needs a value$"),
        (["run", "--norm", "linf", "--eps", ""], "--eps needs a value, got ''$"),
        (["run", "--methods", "--norm", "linf"], "--methods needs a value$"),
        (["run", "--sizes", "--epochs", "3"], "--sizes needs a value$"),
        (["certify", "--run", "r", "--methods"], "--methods needs a value$"),
        (["data", "fashion"], "unknown words or flags: fashion; --help"),
        ([], "name a command, one of run, train.*--help"),
        (["bench"], "name a command, one of calibrate.*robust-mnist bench --help"),
        (["run", "--batch-size", "0"], "--batch-size must be between 1 and 2147483647, got 0$"),
        (["run", "--seeds", "0"], "--seeds must be between 1 and 2147483647, got 0$"),
        (["run", "--epochs", "9" * 20], f"--epochs must be between.*, got {'9' * 20}$"),
        (["run", "--record-every", f"{2**31}"], "--record-every must be between.* 2147483648$"),
        (["run", "--seed", "-1"], "--seed must be between 0 and"),
        (["run", "--learning-rate", "nan"], "--learning-rate must be a positive number, got nan"),
        (["run", "--learning-rate", "-1"], "--learning-rate must be a positive number"),
        (["run", "--decay", "1.5"], r"--decay must be in \[0, 1\), got 1.5"),
        (["run", "--norm", "linf", "--eps", "-0.1"], "--eps must be finite.*got -0.1"),
        (["run", "--norm", "linf", "--eps", "0,nan"], "--eps must be finite.*got nan"),
        (["run", "--norm", "linf", "--eps", "inf"], "--eps must be finite.*got inf"),
        (["run", "--norm", "linf", "--eps", "0,8"], "--eps in linf.* got 8; .*8/255 = 0.0314$"),
        (["run", "--norm", "linf", "--eps", "1.1"], "--eps in linf must be at most 1.* got 1.1;"),
        (["run", "--norm", "l2", "--eps", "128"], "l2 must be at most 28.* 128/255 = 0.502"),
        (["run", "--norm", "l0", "--eps", "785"], "l0 must be at most 784.* got 785; give at"),
        (["run", "--norm", "l0", "--eps", "0.4"], "l0 counts pixels .* got 0.4; give 1"),
        (["merge", "", "b", "--out", "c"], "merge needs the names of runs, got ''"),
        (
            ["sweep", "--run", "r", "--preset", "fast"],
            "takes auto or grid or quick or .* got 'fast'",
        ),
        (["close", "--run", "r", "--eps", "4"], "--eps in linf.* got 4; .* 4/255 = 0.0157$"),
        (["run", "--norm", "linf", "--eps", "big"], "--eps takes numbers.*'big'"),
        (["run", "--eps", "0.1"], "give --norm.*got no --norm$"),
        (["run", "--eps", "0.1", "--norm", "l2", "linf"], "got --norm l2,linf$"),
        (["run", "--norm", "l3"], "l3"),
        (["run", "--sizes", "784"], "--sizes needs an input and an output width"),
        (["run", "--sizes", "784,0,10"], "--sizes must all be at least 1"),
        (["run", "--sizes", "784,x"], "--sizes takes whole numbers"),
        (["run", "--seeds"], "--seeds needs a value$"),
        (["audit", "--run", ""], "--run needs a name, got ''"),
        (["selftest", "--images", "20"], "--images must be at least 50, got 20"),
        (["selftest", "--model", ""], "--model needs a name, got ''"),
        (["bench", "accelerators", "--out", ""], "--out needs a name, got ''"),
        (["bench", "history", "--out", ""], "--out needs a name, got ''"),
        (["bench", "compare", "HEAD", "HEAD", "--out", ""], "--out needs a name, got ''"),
        (["selftest", "--run", "a", "--model", "b"], "--run and --model each.*give one, got b$"),
    ],
)
def test_a_mistake_in_flags_is_one_line_and_exit_code_2(run, words, said):
    import re

    assert re.search(said, complaint(run(*words)))


@pytest.mark.parametrize(
    ("words", "field", "values"),
    [
        (["--norm", "linf,l2"], "norm", ("linf", "l2")),
        (["--norm", "linf", "l2"], "norm", ("linf", "l2")),
        (["--methods", "fgsm-linf, pgd40-linf,", "ibp-linf"], "methods",
         ("fgsm-linf", "pgd40-linf", "ibp-linf")),
        (["--norm", "l2", "--eps", "0,.1", ".2"], "eps", (0, 0.1, 0.2)),
        (["--norm", "linf", "--eps", "0,2/255"], "eps", (0, 2 / 255)),
    ],
)  # fmt: skip
def test_every_list_of_names_or_numbers_takes_commas_and_spaces(words, field, values):
    assert getattr(cli.parse(["run", *words]).sweep, field) == values


def test_the_methods_of_certify_take_commas_as_well():
    command = cli.parse(
        ["certify", "--model", "m", "--activation", "relu", "--methods", "ibp-linf,crown-linf"]
    )
    assert command.methods == ("ibp-linf", "crown-linf")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--norm", "linf,l3"], "--norm takes linf or l2 or l1 or l0, got 'l3'"),
        (["--norm", ","], "--norm needs a value, got ','"),
        (["--methods", ""], "--methods needs a value, got ''"),
        (["--eps", "1/0"], "--eps takes numbers such as 0.03 or 8/255, .*, got '1/0'"),
        (["--sizes", "784,x,10"], "--sizes takes whole numbers parted by commas, got 'x'"),
        (["--data", "mnist", "kmnist"], "mnist kmnist: the name of a dataset stands alone"),
        (["--data", "a.csv,b.csv"], "unknown dataset 'a.csv,b.csv'.*; part two files by a space"),
    ],
)
def test_a_mistake_in_a_list_names_the_entry(run, words, said):
    import re

    assert re.search(said, complaint(run("run", *words, "--out", "here")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --norm l2", "train has no flag --norm; run, sweep, certify and close have it"),
        ("train --norm=l2", "train has no flag --norm; run, sweep, certify and close have it"),
        ("report --eps 3", "report has no flag --eps; run, sweep, certify and close have it"),
        ("train --alpha 1", "train has no flag --alpha; smooth has it"),
        ("train --pairs 3", "train has no flag --pairs; bench compare has it"),
        (
            "bench calibrate --norm l2",
            "bench calibrate has no flag --norm; run, sweep, certify and close have it",
        ),
        ("train --epoch 3", "train has no flag --epoch; did you mean '--epochs'?"),
        ("data --foo", "data has no flag --foo; robust-mnist data --help lists what there is"),
        ("certify", "certify takes either --run or --model, got neither"),
        ("close --eps .01", "close takes either --run or --model, got neither"),
        ("close --model x", "--model needs --activation, such as relu or tanh, got none"),
        (
            "close --model x --activation relu --budget ten",
            "a time is written as 90s, 10min or 2h, got 'ten'",
        ),
        ("sweep", "sweep needs --run FOLDER"),
        ("verify", "verify needs FILE and --model FILE"),
        ("bench compare", "bench compare needs A and B"),
        (
            "bench --quiet",
            (
                "--quiet goes behind a command, one of calibrate, compare, accelerators, history; "
                "robust-mnist bench --help says what each does"
            ),
        ),
        (
            "run --norm linff",
            "--norm takes linf or l2 or l1 or l0, got 'linff'; did you mean 'linf'?",
        ),
    ],
)
@pytest.mark.parametrize("width", [60, 80, 86, 200])
def test_a_mistake_reads_the_same_however_wide_the_terminal_is(
    run, monkeypatch, words, said, width
):
    monkeypatch.setenv("COLUMNS", str(width))
    assert complaint(run(*words.split())) == f"robust-mnist: {said}"


def test_flags_are_known_with_underscores_as_well():
    from robust_mnist.config import Train

    assert isinstance(cli.parse(["train", "--batch_size", "20", "--seed=3"]), Train)


def test_help_and_mistakes_in_flags_and_data_never_import_jax(finished):
    for words in (
        ["--help"], ["run", "--help"], ["data"], ["run", "--epoch", "3"], ["rum"],
        ["train", "--norm", "l2"], ["--debug"], ["sweep"],
        ["train", "--run", str(finished), "--epoch", "3"],
    ):  # fmt: skip
        script = (
            "import sys\nfrom robust_mnist import cli\n"
            f"cli.main({words!r})\n"
            "sys.exit('jax' in sys.modules or 'matplotlib' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert done.returncode == 0, words


def test_a_device_that_jax_cannot_use_is_one_line_and_exit_code_5(finished, tmp_path):
    """For every command that computes; those that only list or draw need none."""
    copy = shutil.copytree(finished, tmp_path / "copy")
    commands = [
        ["train"], ["run", "--run", copy], ["sweep", "--run", copy], ["certify", "--run", copy],
        ["close", "--model", "x.npz", "--activation", "tanh"], ["verify", "f", "--model", "x"],
        ["smooth", "--run", copy], ["audit", "--run", copy], ["selftest"], ["devices"],
    ]  # fmt: skip
    script = (
        "import sys\nfrom robust_mnist import cli\n"
        f"for words in {[[str(word) for word in words] for words in commands]!r}:\n"
        "    print(cli.main(words), flush=True)\n"
        "sys.exit(cli.main(['methods', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env=os.environ | {"JAX_PLATFORMS": "nonesuch"},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[: len(commands)] == ["5"] * len(commands)
    begin = (
        "robust-mnist: JAX_PLATFORMS=nonesuch asks for a device that JAX cannot use here: "
        "Unable to initialize backend 'nonesuch'"
    )
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands), done.stderr
    assert all(line.startswith(begin) for line in lines), done.stderr


def test_help_names_every_command(run):
    from robust_mnist.config import COMMANDS

    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert f" {name} " in out


def test_debug_shows_the_traceback(run):
    code, _, err = run("run", "--split", "labb", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert "did you mean 'lab'" in err.splitlines()[-1]


# --- mistakes in names, data and folders --------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "labb"], "unknown split 'labb'.*did you mean 'lab'"),
        (["--data", "mnits"], "did you mean 'mnist'"),
        (["--activation", "tahn"], "did you mean 'tanh'"),
        (["--objective", "crossentropy"], "did you mean 'cross-entropy'"),
        (["--model", "mpl"], "did you mean 'mlp'"),
        (["--methods", "pgd-linf"], "unknown method 'pgd-linf': closest are pgd.*methods` lists"),
        (["--norm", "linf", "--methods", "pgd40-l2"], "pgd40-l2 acts in l2, but --norm is linf"),
        (["--activation", "gelu", "--methods", "ibp-linf"], "ibp-linf knows the activations"),
        (["--sizes", "784,50,9"], "784 pixels and end with 10 classes, got 784,50,9$"),
        (["--sizes", "100,10"], "784 pixels and end with 10 classes"),
        (["--batch-size", "10001"], "at most the 10000 training images, got 10001"),
        (["--data", "a.csv", "b.csv"], "a.csv"),
    ],
)
def test_a_wrong_name_is_one_line_before_anything_is_written(run, tmp_path, words, said):
    import re

    assert re.search(said, complaint(run("run", *words, "--out", "here")))
    assert not (tmp_path / "here").exists()


def test_a_folder_below_a_file_is_named_with_the_way_out(run, tmp_path):
    (tmp_path / "notes").write_text("precious")
    said = complaint(run("train", "--epochs", "1", "--out", "notes/run"))
    assert "notes is a file and can hold no notes/run; choose another --out" in said
    assert (tmp_path / "notes").read_text() == "precious"


def _idx(folder, change):
    write_idx(folder, some_arrays())
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    return [folder]


def _csv(folder, change):
    rows = csv_bytes(*some_arrays()[:2]).splitlines()
    rows[2] = change(rows[2].split(b","))
    train = write(folder / "train.csv", b"\n".join(rows))
    return [train, write(folder / "test.csv", csv_bytes(*some_arrays()[2:]))]


def _cell(number, value):
    return lambda cells: b",".join([*cells[:number], value, *cells[number + 1 :]])


def _gz(folder, change):
    write_idx(folder, some_arrays(), ending=".gz")
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    return [folder]


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (_gz, lambda held: held[: len(held) // 2], "train-images-idx3-ubyte.gz"),
        (_idx, lambda held: b"\0\0\x99\3" + held[4:], "magic"),
        (_idx, lambda held: held[:4] + b"\xff" * 4 + held[8:], "train-images-idx3-ubyte"),
        (_idx, lambda held: held[:7] + b"\4" + held[8:-784], "4 images but labels"),
        (_idx, lambda _: b"", "the file is empty"),
        (_csv, _cell(0, b"10"), "line 3.*10"),
        (_csv, _cell(0, b"1.5"), "line 3.*1.5"),
        (_csv, _cell(5, b"nan"), "line 3.*nan"),
        (_csv, _cell(5, b"inf"), "line 3.*inf"),
        (_csv, _cell(5, b"-1"), "line 3.*-1"),
        (_csv, _cell(5, b"256"), "line 3.*256"),
        (_csv, lambda cells: b",".join(cells[:-1]), "line 3.*784"),
        (lambda folder, _: [folder], None, "holds no IDX files"),
        (lambda folder, _: [folder, folder], None, "this is a folder"),
    ],
    ids=[
        "gzip cut short", "wrong magic number", "more declared than held", "counts differ",
        "empty file", "label 10", "label 1.5", "NaN", "infinite", "negative", "above 255",
        "a column less", "empty folder", "folder for a file",
    ],
)  # fmt: skip
def test_broken_data_are_one_line_and_leave_nothing(run, tmp_path, make, change, said):
    import re

    from data_files import check_line

    folder = tmp_path / "data"
    folder.mkdir()
    line = complaint(run("train", "--data", *make(folder, change), "--epochs", "1", "--out", "r"))
    assert re.search(said, line), line
    check_line(line.removeprefix("robust-mnist: "), folder)
    assert not (tmp_path / "r").exists()


# --- data as people have them -------------------------------------------------------------------


ONE_EPOCH = ["--epochs", "1", "--sizes", "784,8,10", "--quiet", "--json", "--out", "r"]


def counts(folder):
    data = json.loads((folder / "run.json").read_text())["data"]
    return data["train"], data["valid"], data["test"]


@pytest.mark.parametrize("form", ["%d", case("%.1f", long=True)])
def test_files_of_the_labs_form_and_size_are_trained_on_as_they_are(run, tmp_path, form):
    """20,000 and 10,000 rows, no header, label first."""
    from robust_mnist import data

    mnist = data.load("mnist")
    rows = csv_bytes(mnist.train_images[:20_000], mnist.train_labels[:20_000], form=form)
    train = write(tmp_path / "mnist_train.csv", rows)
    test = write(
        tmp_path / "mnist_test.csv", csv_bytes(mnist.test_images, mnist.test_labels, form=form)
    )
    code, _, err = run("train", "--data", train, test, *ONE_EPOCH)
    assert (code, err) == (0, "")
    assert counts(tmp_path / "r") == (10_000, 1_000, 10_000)
    about = json.loads((tmp_path / "r" / "run.json").read_text())["data"]
    assert about["test_sha256"] == mnist.test_sha256  # every pixel arrived


@pytest.mark.skipif(
    not pathlib.Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="the Debian package dataset-fashion-mnist is not installed",
)
def test_the_folder_of_fashion_mnist_is_trained_on_as_it_is(run, tmp_path):
    words = ["--data", "/usr/share/datasets/fashion-mnist", *ONE_EPOCH]
    code, _, err = run("train", *words)
    assert (code, err) == (0, "")
    assert counts(tmp_path / "r") == (10_000, 1_000, 10_000)


def test_a_run_of_other_settings_is_left_alone(run, finished, small_npz):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    words = ["run", "--data", small_npz, *TINY, *TINY_SWEEP, "--out", finished]
    assert "--epochs 2, got 3" in complaint(run(*words, "--epochs", "3"))
    assert "--seed 0, got 5" in complaint(run(*words, "--seed", "5"))
    assert "--eps 0.05, got 0.06" in complaint(run(*words, "--eps", "0.06"))
    assert "give one" in complaint(run("run", "--run", finished, "--out", finished))
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --epochs 500", "--epochs 2, got 500"),
        ("run --seeds 1 --epochs 500", "--epochs 2, got 500"),
        ("run --seed 0 --sizes 784,50,50,10", "--sizes 784,8,10, got 784,50,50,10"),
        ("run --preset auto", "--preset grid, got auto"),
        ("run --eps 0.05 --attack-seed 3", "--attack-seed 0, got 3"),
        ("certify --activation relu", "--activation tanh, got relu"),
        ("certify --activation tanh --attack-seed 7", "--attack-seed 0, got 7"),
    ],
)
def test_a_flag_that_is_typed_counts_beside_a_run_and_no_other_does(run, finished, words, said):
    command, *more = words.split()
    belongs = f"{finished} belongs to a run with {said}; "
    assert belongs in complaint(run(command, f"--run={finished}", *more))


def test_flags_that_agree_with_the_run_are_no_mistake(run, copied):
    assert run("train", "--run", copied, "--epochs", "2")[0] == 0
    code, _, err = run("run", "--run", copied, *TINY, "--eps", "0.05")  # in the run's own norm
    assert (code, err) == (0, f"nothing left to do: {copied} is complete\n")


def test_a_switch_that_is_on_in_a_run_can_be_typed_again_and_off(finished, tmp_path):
    info = json.loads((finished / "run.json").read_text())
    info["settings"]["delta_outside_root"] = True
    (tmp_path / "run.json").write_text(json.dumps(info))
    words = ["train", "--run", str(tmp_path)]
    switch = lambda *more: cli.parse([*words, *more]).train.delta_outside_root
    assert switch()
    assert switch("--delta-outside-root")
    assert not switch("--no-delta-outside-root")


def test_a_sweep_takes_the_attack_seed_of_its_run_and_nothing_else(finished, tmp_path):
    info = json.loads((finished / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(info | {"attack_seed": 5}))
    command = cli.parse(["sweep", "--run", str(tmp_path)])
    assert (command.sweep.attack_seed, command.sweep.eps) == (5, ())


@pytest.mark.parametrize("command", ["verify", "bench compare"])
def test_a_run_where_a_command_takes_none_is_a_mistake_like_any_other(run, finished, command):
    assert f"{command} has no flag --run" in complaint(run(*command.split(), "--run", finished))


def test_help_with_a_damaged_run_is_help(run, tmp_path):
    (tmp_path / "run.json").write_text("{")
    assert run("train", "--run", tmp_path, "--help")[0] == 0


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("mnist", "lab"),
        ("fashion-mnist", "fashion-mnist-lab"),
        (".", "here-lab"),
        ("../here/", "here-lab"),
        ("x.csv.gz", "x-lab"),
        ("x.npz", "x-lab"),
        ("/", "data-lab"),
    ],
)
def test_a_run_without_out_is_called_after_its_data(tmp_path, monkeypatch, data, name):
    from robust_mnist.commands import _opening
    from robust_mnist.config import TrainSettings

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert _opening.default_out(TrainSettings(data=(data,))) == f"runs/{name}"


@pytest.mark.usefixtures("undrawn")
def test_data_are_known_by_their_content_and_found_from_any_folder(
    run, small_npz, tmp_path, monkeypatch
):
    shutil.copy(small_npz, "ok.npz")
    (tmp_path / "away").mkdir()
    assert run("train", "--data", "ok.npz", *TINY, "--out", "r", "--quiet")[0] == 0
    done = (0, "nothing left to do: r is trained\n")
    assert run("train", "--data", "./ok.npz", *TINY, "--out", "r")[::2] == done
    assert run("train", "--run", "r", "--data", tmp_path / "away" / ".." / "ok.npz")[::2] == done
    said = complaint(run("train", "--data", "mnist", *TINY, "--out", "r"))
    assert f"--data {tmp_path}/ok.npz, got mnist; " in said

    monkeypatch.chdir(tmp_path / "away")
    code, _, err = run("sweep", "--run", "../r", "--methods", "gradient-step", "--quiet")
    assert (code, err) == (0, "")
    assert run("report", "../r", "--publish", "--quiet")[0] == 0
    for file in (tmp_path / "away" / "reports" / "r").glob("*.*"):
        assert str(tmp_path) not in file.read_text(), file.name

    shutil.move(tmp_path / "ok.npz", "moved.npz")  # and the run is told where they are now
    assert "train --run ../r --data PATH" in complaint(run("sweep", "--run", "../r", "--quiet"))
    assert run("train", "--run", "../r", "--data", "moved.npz", "--quiet")[0] == 0
    assert run("train", "--run", "../r", "--quiet")[0] == 0
    with np.load("moved.npz") as stored:
        arrays = dict(stored)
    np.savez("moved.npz", **(arrays | {"y_test": arrays["y_test"][::-1]}))
    assert "made from other data" in complaint(run("train", "--run", "../r"))


def test_a_folder_that_is_no_run_is_left_alone_even_with_overwrite(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    for more in ([], ["--overwrite"]):
        said = complaint(run("train", "--out", "mine", *more))
        assert "is no run" in said
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_overwrite_loses_nothing_when_the_new_settings_are_wrong(run, finished, small_npz):
    words = ["run", "--data", small_npz, *TINY, "--out", finished, "--overwrite"]
    complaint(run(*words, "--methods", "nonsense"))
    complaint(run(*words, "--batch-size", "9999"))
    assert (finished / "report.html").is_file()


def test_other_data_under_the_same_name_are_noticed(run, finished, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    info = json.loads((copy / "run.json").read_text())
    info["data"]["sha256"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(info))
    assert "made from other data" in complaint(run("sweep", "--run", copy))


@pytest.mark.parametrize(
    "words", [["sweep", "--run", "none"], ["report", "none"], ["train", "--run", "none"]]
)
def test_a_run_that_is_not_there_is_named(run, words):
    said = complaint(run(*words))
    assert "none holds no run" in said
    assert "robust-mnist run --out none" in said


def test_a_report_of_nothing_asks_for_a_run(run):
    assert "at least one run" in complaint(run("report"))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": 99}', '{"schema": 1}', '{"schema": 1, "settings": {"x": 1}}'],
)
def test_a_damaged_run_file_is_one_line(run, tmp_path, content):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(content)
    said = complaint(run("train", "--run", "bad"))
    assert said.count("run.json") == 1
    assert "another --out" in said or "schema" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda info: info.pop("environment"), "it says nothing of environment"),
        (lambda info: info.update(data=3), "it says nothing of data"),
        (
            lambda info: info["settings"].update(epochs=0),
            "--epochs must be between 1 and 2147483647, got 0",
        ),
        (
            lambda info: info["sweep"].update(tolerance=-1.0),
            "--tolerance must be finite and at least 0, got -1",
        ),
    ],
)
@pytest.mark.parametrize("command", ["report", "train", "audit"])
def test_a_run_file_without_what_every_run_has_is_named(
    run, finished, tmp_path, command, change, said
):
    copy = shutil.copytree(finished, tmp_path / "copy")
    info = json.loads((copy / "run.json").read_text())
    change(info)
    (copy / "run.json").write_text(json.dumps(info))
    assert complaint(run(command, "--run", "copy")) == (
        f"robust-mnist: copy/run.json cannot be used: {said}; put back a copy, or use another --out"
    )


@pytest.mark.parametrize(
    "name", ["radii.npz", "panels.npz", "rows.csv", "model/seed-0.safetensors"]
)
def test_a_damaged_result_is_named_with_the_way_out(run, finished, tmp_path, name):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / name).write_bytes(b"\x00nonsense\n1,2,3,4")
    more = ["sweep", "--norm", "linf", "--eps", "0.07", "--preset", "grid"]
    command = ["report"] if name == "panels.npz" else more
    said = complaint(run(*command, "--run", copy))
    assert name in said
    assert "pickle" not in said


@pytest.fixture(scope="session")
def extended(finished, tmp_path_factory):
    """The finished run with more than its own plan, which only its rows tell of."""
    import shutil

    copy = shutil.copytree(finished, tmp_path_factory.mktemp("extended") / "tiny")
    more = ["--norm", "l2", "--eps", "0.3", "--methods", "fgm-l2"]
    assert cli.main(["sweep", "--run", str(copy), *more, "--quiet"]) == 0
    return copy


@pytest.mark.parametrize(
    "gone",
    [
        ["radii.npz", "panels.npz"],
        ["witnesses.npz"],
        ["history.csv", "model/seed-0.safetensors"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("undrawn")
def test_what_a_finished_run_has_lost_is_made_again(run, extended, tmp_path, gone):
    import shutil

    from robust_mnist.records import RunFolder

    copy = shutil.copytree(extended, tmp_path / "tiny")
    whole = RunFolder(copy).load()
    for name in gone:
        (copy / name).unlink()
    code, out, err = run("run", "--run", copy)
    assert code == 0, err
    assert "worst case" in out
    again = RunFolder(copy).load()
    assert set(again.radii) == set(whole.radii)
    for key, array in whole.radii.items():
        assert np.array_equal(array, again.radii[key]), key
    assert again.rows.drop(columns="seconds").equals(whole.rows.drop(columns="seconds"))
    assert again.history.equals(whole.history)
    assert set(again.panels) == set(whole.panels)
    counts = [{k: v["cells"] for k, v in one.info["cells"].items()} for one in (whole, again)]
    assert counts[0] == counts[1]
    assert "has lost" in err


@pytest.mark.parametrize("name", ["radii.npz", "panels.npz", "history.csv", "rows.csv"])
def test_a_report_of_a_run_that_has_lost_a_file_names_it_and_the_way_out(
    run, finished, tmp_path, name
):
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    said = complaint(run("report", "copy"))
    assert name in said
    assert "robust-mnist sweep --run copy" in said


def test_networks_that_came_out_otherwise_are_attacked_again(run, finished, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    info = json.loads((tmp_path / "copy" / "run.json").read_text())
    info["models"]["seed-0"] = "0" * 64
    (tmp_path / "copy" / "run.json").write_text(json.dumps(info))
    (tmp_path / "copy" / "history.csv").unlink()
    code, _, err = run("sweep", "--run", "copy", *TINY_SWEEP)
    assert code == 0, err
    assert "made again" in err
    assert (tmp_path / "copy" / "radii.npz").is_file()


def test_continuing_and_starting_anew_exclude_each_other(run):
    assert "give one of them" in complaint(run("train", "--overwrite", "--run", "x"))


def test_a_folder_that_cannot_be_written_is_named_not_a_temporary_file(run, monkeypatch):
    import tempfile

    def refuse(**where):
        raise PermissionError(13, "Permission denied", f"{where['dir']}/.hidden.tmp")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    said = complaint(run("train", "--epochs", "1", "--out", "locked"))
    assert said == (
        "robust-mnist: locked/run.json: Permission denied; "
        "choose another place, or see that this one can be used"
    )


def test_a_full_disk_is_named_by_the_file_that_finds_no_room(run, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")  # `write` names no file

    monkeypatch.setattr(pathlib.Path, "write_text", refuse)
    said = complaint(run("train", "--epochs", "1", "--out", "full"))
    assert said.startswith("robust-mnist: full/run.json: No space left on device; choose another")
    assert not list(pathlib.Path("full").iterdir())


def test_a_name_that_is_too_long_is_one_line(run):
    name = 300 * "x"
    said = complaint(run("train", "--epochs", "1", "--out", name))
    assert said.startswith(f"robust-mnist: {name}/run.json: File name too long; choose another")


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="there is no /proc")
def test_a_place_where_nothing_can_be_made_is_one_line(run):
    said = complaint(run("train", "--epochs", "1", "--out", "/proc/rr"))
    assert said.startswith("robust-mnist: /proc/rr: No such file or directory; choose another")


def test_the_version_is_told(run):
    import importlib.metadata

    import robust_mnist

    version = importlib.metadata.version("robust-mnist")
    assert run("--version") == (0, f"robust-mnist {version}\n", "")
    assert robust_mnist.__version__ == version


def test_help_shows_what_is_typed(run):
    _, out, _ = run("run", "--help")
    assert "--out FOLDER" in out
    assert "None" not in out
    assert "(default: )" not in out


def test_results_of_two_attack_seeds_do_not_mix(run, finished):
    said = complaint(run("sweep", "--run", finished, *TINY_SWEEP, "--attack-seed", "1"))
    assert "--attack-seed 0, got 1" in said


def test_a_report_never_replaces_a_file_that_is_not_its_own(run, finished, tmp_path):
    (tmp_path / "thesis.html").write_text("<p>precious</p>")
    said = complaint(run("report", finished, "--out", "thesis.html"))
    assert f"thesis.html exists and is no page of {finished}; choose another --out" in said
    (tmp_path / "folder").mkdir()
    assert "folder" in complaint(run("report", finished, "--out", "folder"))
    assert "thesis.html" in complaint(run("report", finished, "--out", "thesis.html/page.html"))
    assert (tmp_path / "thesis.html").read_text() == "<p>precious</p>"


@pytest.mark.usefixtures("undrawn")
def test_a_report_replaces_the_page_of_the_same_runs_alone(run, finished, tmp_path, monkeypatch):
    from robust_mnist import figures

    monkeypatch.setattr(figures, "OVERLAYS", {})
    for name, created in (("s", "2026-01-01"), ("other", "2026-01-02")):
        shutil.copytree(finished, name)
        info = json.loads((tmp_path / name / "run.json").read_text()) | {"created": created}
        (tmp_path / name / "run.json").write_text(json.dumps(info))
        assert run("report", name, "--overwrite")[0] == 0
    shutil.move("s", "renamed")
    assert run("report", "renamed")[0] == 0
    page = tmp_path / "other" / "report.html"
    before = page.read_bytes()
    assert "no page of renamed" in complaint(run("report", "renamed", "--out", page))
    assert "no page of other renamed" in complaint(run("report", "other", "renamed", "--out", page))
    assert page.read_bytes() == before

    (tmp_path / "runs").mkdir()
    several = tmp_path / "runs" / "comparison.html"
    several.write_text("precious")
    assert "no page of renamed other" in complaint(run("report", "renamed", "other"))
    assert several.read_text() == "precious"
    assert run("report", "renamed", "other", "--overwrite")[0] == 0
    assert run("report", "renamed", "other")[0] == 0
    assert "no page of other renamed" in complaint(run("report", "other", "renamed"))


@pytest.mark.usefixtures("undrawn")
def test_a_run_leaves_a_page_alone_that_is_not_its_own(run, copied):
    (copied / "report.html").write_text("precious")
    info = json.loads((copied / "run.json").read_text()) | {"reported": ""}
    (copied / "run.json").write_text(json.dumps(info))
    code, _, err = run("run", "--run", copied)
    assert (code, "no page of" in err) == (2, True)
    assert (copied / "report.html").read_text() == "precious"


@pytest.mark.usefixtures("undrawn")
def test_published_results_of_another_run_are_left_alone(run, finished, small_npz, tmp_path):
    code, out, _ = run("run", "--run", finished, "--publish")
    assert code == 0
    assert "published" in out
    page = tmp_path / "reports" / "tiny" / "report.html"
    before = page.read_bytes()
    assert str(tmp_path) not in page.read_text()
    other = ["run", "--data", small_npz, *TINY, *TINY_SWEEP, "--seed", "3", "--out", "b/tiny"]
    assert run(*other, "--quiet")[0] == 0
    assert "--overwrite" in complaint(run("run", "--run", "b/tiny", "--publish"))
    assert page.read_bytes() == before


# --- what it gives ------------------------------------------------------------------------------


def test_a_run_ends_with_accuracy_throughput_a_table_and_the_page(run, finished):
    code, out, err = run("run", "--run", finished)
    assert code == 0
    assert "test accuracy: " in out
    assert " images/s on " in out
    assert "compilation" in out
    assert "worst case" in out
    assert f"report: {finished / 'report.html'}" in out
    assert "Traceback" not in err


def test_the_table_of_a_sweep_has_the_radii_that_were_asked_for(run, finished, tmp_path):
    copied = shutil.copytree(finished, tmp_path / "copied")
    words = ["sweep", "--run", copied, "--norm", "linf", "--eps", ".0125,.2", "--quiet"]
    code, out, _ = run(*words, "--methods", "fgsm-linf")
    assert code == 0
    [heading] = [line for line in out.splitlines() if line.startswith("Linf")]
    assert heading.split()[-3:] == ["0", "0.0125", "0.2"]
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("  ")}
    assert len(rows["fgsm-linf"]) == 4
    # And where nothing is left to do as well.
    assert run(*words, "--methods", "fgsm-linf")[1].splitlines()[:8] == out.splitlines()[:8]


def test_json_stands_alone_on_stdout(run, finished):
    code, out, _ = run("run", "--run", finished, "--json")
    assert code == 0
    result = json.loads(out)
    assert 0 <= result["test_accuracy"][0] <= 1
    assert {row["kind"] for row in result["robust_accuracy"]} == {"worst", "certified"}
    assert result["report"].endswith("report.html")


@pytest.mark.parametrize("command", ["data", "methods", "devices"])
def test_lists_come_as_text_and_as_json(run, command):
    code, out, _ = run(command)
    assert code == 0
    assert out.strip()
    code, out, _ = run(command, "--json")
    assert code == 0
    assert json.loads(out)


def test_methods_marks_those_that_a_sweep_without_flags_runs(run):
    listed = json.loads(run("methods", "--json")[1])
    default = {one["name"] for one in listed if one["default"]}
    command = cli.parse(["run"])
    plan = sweep.plan(command.sweep, command.train.activation)
    swept = {*plan.steps}.union(*plan.methods.values(), *plan.stages.values())
    assert default == swept
    assert {"ibp-linf", "apgd100-ce-l2", "fab10-targeted-linf", "gradient-step"} <= default
    assert "jsma-l0" not in default  # l1 and l0 are swept when --norm asks for them


def test_a_finished_run_says_that_nothing_is_left(run, finished):
    code, _, err = run("run", "--run", finished)
    assert code == 0
    assert err.splitlines() == [f"nothing left to do: {finished} is complete"]
    assert run("run", "--run", finished, "--quiet")[2] == ""


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_run_says_where_it_continues_and_what_comes_next(
    run, small_npz, monkeypatch
):
    from robust_mnist import interrupts, training

    real = training.Trained

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "Trained", interrupted)
    words = ["train", "--data", small_npz, *TINY, "--out", "r"]
    code, _, err = run(*words)
    assert code == interrupts.EXIT_CODE
    assert err.splitlines()[-1].endswith("the same command continues")
    assert "r is not trained to its end; robust-mnist train --run r" in complaint(
        run("report", "r")
    )
    monkeypatch.setattr(training, "Trained", real)
    code, out, err = run("sweep", "--run", "r", "--methods", "gradient-step")
    assert code == 0, err
    assert err.splitlines()[:2] == [
        "r is not trained to its end: that comes first", "continuing at epoch 2 of 2",
    ]  # fmt: skip
    assert out.splitlines()[-1] == "next: robust-mnist report r"
    code, out, err = run(*words)
    assert out.splitlines()[-2:] == ["run: r", "next: robust-mnist sweep --run r"]
    assert err.splitlines() == ["nothing left to do: r is trained"]
    from robust_mnist.figures import FIGURES

    code, _, err = run("report", "r")
    assert f"report {len(FIGURES)}/{len(FIGURES)}" in err


@pytest.mark.usefixtures("undrawn")
def test_a_preset_leaves_universal_perturbations_that_later_sweeps_keep(run, finished, monkeypatch):
    from robust_mnist.config import Preset
    from robust_mnist.records import RunFolder
    from robust_mnist.sweep import _methods

    small = Preset(control={"linf": ("fgsm-linf",)}, stages={"linf": ("fgsm-linf",)})
    monkeypatch.setitem(_methods.PRESETS, "quick", small)
    shutil.copytree(finished, "r")
    folder = RunFolder(pathlib.Path("r"))
    assert "universal/fooled" not in folder.load().panels
    for words in (["--preset", "quick"], ["--methods", "fgsm-linf", "--eps", "0.07"]):
        code, _, err = run("sweep", "--run", "r", "--norm", "linf", *words)
        assert code == 0, err
        panels = folder.load().panels
        assert panels["universal/perturbations"].shape == (11, 784)
        assert float(panels["universal/eps"]) == 0.1  # four fifths up the default grid
        assert np.isfinite(panels["universal/fooled"][-1])


def test_a_run_that_is_named_without_its_flag_is_recognised(run, finished):
    for words in ([finished], ["--quiet", finished], [finished, "--eps", "0.1"]):
        assert complaint(run("sweep", *words)).endswith(f"; did you mean --run {finished}?")
    for words in (["--run", finished, "more"], ["--run", finished, finished], ["nowhere"]):
        assert "did you mean" not in complaint(run("sweep", *words))
    assert "did you mean" not in complaint(run("train", "--data", finished, "--epochs", "x"))


def test_a_run_of_an_unknown_device_still_has_its_summary(run, finished, tmp_path):
    about = json.loads((finished / "run.json").read_text()) | {"environment": {}}
    shutil.copytree(finished, "r")
    (tmp_path / "r" / "run.json").write_text(json.dumps(about))
    code, out, _ = run("run", "--run", "r")
    assert code == 0
    assert "on an unknown device" in out


def test_a_run_is_compared_with_others_only(run, finished):
    said = complaint(run("report", finished, f"{finished}/../{finished.name}"))
    assert "named twice" in said


def test_quiet_says_nothing_on_stderr(run, small_npz):
    code, out, err = run("train", "--data", small_npz, *TINY, "--out", "quiet", "--quiet")
    assert (code, err) == (0, "")
    assert "test accuracy" in out


def test_progress_goes_to_stderr_line_by_line_in_a_log(run, small_npz):
    _, out, err = run("train", "--data", small_npz, *TINY, "--out", "loud")
    assert "train 2/2" in err
    assert "acc " in err
    assert "train 2/2" not in out


@pytest.mark.parametrize("words", [["data"], ["data", "--json"], ["--help"], ["--version"]])
def test_a_reader_that_has_gone_is_exit_code_1_and_no_traceback(words):
    read, write = os.pipe()
    os.close(read)
    # Buffered, as it usually is: the pipe is found closed when the buffer is written.
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "robust_mnist", *words],
        env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.usefixtures("undrawn")
def test_train_then_sweep_then_report_is_a_run(run, small_npz):
    assert run("train", "--data", small_npz, *TINY, "--out", "r", "--quiet")[0] == 0
    assert run("report", "r")[0] == 0
    for methods in (["gradient-step"], ["ibp-linf"]):
        norm = [] if methods == ["gradient-step"] else TINY_SWEEP
        code, _, err = run("sweep", "--run", "r", *norm, "--methods", *methods, "--quiet")
        assert code == 0, err
        code, out, err = run("report", "--run", "r")
        assert code == 0, err
        assert "report: r/report.html" in out
    # What was added binds nobody: the run that the folder was begun for is still to be had.
    code, _, err = run("run", "--data", small_npz, *TINY, *TINY_SWEEP, "--out", "r", "--quiet")
    assert code == 0, err
    assert json.loads((pathlib.Path("r") / "run.json").read_text())["sweep"]["eps"] == [0.05]


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_the_commands_on_a_page_make_its_numbers_again(run, small_npz, monkeypatch):
    import shlex

    from robust_mnist.config import Preset
    from robust_mnist.records import RunFolder
    from robust_mnist.report import _commands
    from robust_mnist.sweep import _methods

    small = Preset(control={"linf": ("fgsm-linf",)}, stages={"linf": ("pgd40-linf",)})
    monkeypatch.setitem(_methods.PRESETS, "standard", small)
    monkeypatch.setattr(_methods, "CONTROL_IMAGES", 10)
    data = ["--data", small_npz, *TINY]
    assert run("run", *data, "--norm", "linf", "--out", "first", "--quiet")[0] == 0
    more = ["--norm", "linf", "--eps", "0.05", "--methods", "noise100-uniform-linf"]
    assert run("sweep", "--run", "first", *more, "--quiet")[0] == 0
    first = RunFolder(pathlib.Path("first")).load()
    listed = _commands.commands(first, "second")
    assert [what.split()[0] for what, _ in listed[2:]] == [
        "worst", "crown-linf", "ibp-linf", "noise100-uniform-linf", "gradient-step,", "this",
    ]  # fmt: skip
    for _, command in listed[1:]:
        code, _, err = run(*shlex.split(command)[1:], "--quiet")
        assert code == 0, (command, err)
    key = ["norm", "eps", "step", "method", "kind", "split"]
    held = [
        RunFolder(pathlib.Path(name)).rows().set_index(key)[["images", "correct"]].sort_index()
        for name in ("first", "second")
    ]
    missing = held[0].index.difference(held[1].index)
    assert missing.empty, missing
    assert held[0].equals(held[1].loc[held[0].index])


@pytest.mark.usefixtures("undrawn")
def test_a_report_is_drawn_anew_after_more_was_swept_and_only_then(run, finished, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    page = tmp_path / "copy" / "report.html"
    assert run("run", "--run", "copy")[0] == 0
    before = page.stat().st_mtime_ns
    assert run("run", "--run", "copy")[0] == 0
    assert page.stat().st_mtime_ns == before
    words = json.loads((tmp_path / "copy" / "run.json").read_text())["command"]
    assert words.count("robust-mnist") == 1  # the same folder in another spelling
    more = ["--norm", "linf", "--eps", "0.07", "--preset", "grid"]
    assert run("sweep", "--run", "copy", *more, "--quiet")[0] == 0
    assert run("run", "--run", "copy")[0] == 0
    assert page.stat().st_mtime_ns > before
    assert "0.07" in page.read_text()


def test_a_network_of_no_finite_logits_is_refused_before_it_is_attacked(
    run, small_npz, monkeypatch
):
    import equinox as eqx
    import jax.numpy as jnp

    from robust_mnist import sweep
    from robust_mnist.checkpoint import load_model, save_model

    monkeypatch.setattr(sweep, "sweep_run", lambda *_: pytest.fail("it was swept"))
    about = {"model": "mlp", "sizes": [784, 8, 10], "activation": "tanh"}
    assert run("train", "--data", small_npz, *TINY, "--out", "r", "--quiet")[0] == 0
    path = pathlib.Path("r") / "model" / "seed-0.safetensors"
    spoilt = eqx.tree_at(lambda m: m.layers[-1].bias, load_model(path), replace_fn=jnp.log)
    save_model(path, spoilt, about)
    for words in (["sweep", "--run", "r"], ["run", "--run", "r"]):
        code, _, err = run(*words, "--quiet")
        assert code == 2
        assert err.startswith(
            "robust-mnist: r/model/seed-0.safetensors must give finite logits, got NaN"
        )
        assert err.count("\n") == 1


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_a_stopped_sweep_says_so_and_how_to_go_on(run, finished, tmp_path, monkeypatch):
    import shutil

    from robust_mnist.sweep import _sweep

    shutil.copytree(finished, tmp_path / "copy")
    ran, real = [], _sweep.run_cell

    def stops(*args, **rest):
        if ran:
            raise KeyboardInterrupt
        ran.append(args)
        return real(*args, **rest)

    monkeypatch.setattr(_sweep, "run_cell", stops)
    flags = "--norm linf --eps 0,0.06,0.07 --methods fgsm-linf"
    assert run("sweep", "--run", "copy", *flags.split(), "--quiet")[0] == 130
    monkeypatch.setattr(_sweep, "run_cell", real)
    page = tmp_path / "copy" / "report.html"
    (cells,) = (tmp_path / "copy" / "cells").iterdir()  # of this sweep: another's have to stay
    told = (
        "The sweep is unfinished: 1 of 2 cells are there; "
        f"robust-mnist sweep --run copy {flags} goes on with it; to do without it, "
        f"delete copy/unfinished/{cells.name}.npz and copy/cells/{cells.name}"
    )
    code, out, err = run("report", "copy")
    assert code == 0, err
    assert told in out
    assert told in page.read_text()
    assert "0.06" in page.read_text()
    assert "checks ok" not in page.read_text()  # they looked at what stood before
    assert "These checks looked at what stood before" in page.read_text()
    shutil.copytree(tmp_path / "copy", tmp_path / "without")
    for left in ("unfinished", "cells"):
        shutil.rmtree(tmp_path / "without" / left)
    assert run("report", "without")[0] == 0
    assert "checks ok" in (tmp_path / "without" / "report.html").read_text()
    code, _, err = run("report", "copy", "--publish")
    assert (code, err) == (
        2,
        f"robust-mnist: only finished sweeps are published, got copy: {told}\n",
    )
    assert run("sweep", "--run", "copy", *flags.split(), "--quiet")[0] == 0
    assert run("report", "copy")[0] == 0
    assert "sweep is unfinished" not in page.read_text()
    assert "These checks looked at what stood before" not in page.read_text()
    assert "checks ok" in page.read_text()


@pytest.mark.parametrize("eps", [8 / 255, 1e-9, 0.1, 1 / 3])
def test_the_recorded_command_gives_back_the_very_same_settings(eps):
    from robust_mnist.config import SweepSettings, TrainSettings, flags

    sweep = SweepSettings(norm=("linf",), eps=(0.0, eps), methods=("pgd40-linf",), attack_seed=3)
    train = TrainSettings(sizes=(784, 10), learning_rate=eps, shared_batches=True, seeds=2)
    command = cli.parse(["run", *flags(sweep), *flags(train)])
    assert (command.sweep, command.train) == (sweep, train)


# --- resume -------------------------------------------------------------------------------------


def test_resume_starts_from_the_beginning_or_finds_nothing_to_do(run, small_npz, tmp_path):
    words = ["train", "--data", small_npz, *TINY, "--resume", "--out", "new"]
    code, _, err = run(*words)
    assert code == 0, err
    weights = tmp_path / "new" / "model" / "seed-0.safetensors"
    before = weights.stat().st_mtime_ns
    code, _, err = run(*words)
    assert (code, err) == (0, "nothing left to do: new is trained\n")
    assert weights.stat().st_mtime_ns == before
    assert "give one of them" in complaint(run(*words, "--overwrite"))


# --- trust --------------------------------------------------------------------------------------


@pytest.fixture
def checks(monkeypatch):
    """Checks that say what they are told, in place of the registry."""
    from robust_mnist import audit

    def checks(**verdicts):
        def check(verdict):
            return lambda _: audit.Finding("a title", verdict, 0.25, "look above 0", "Look at it.")

        monkeypatch.setattr(audit, "CHECKS", {name: check(v) for name, v in verdicts.items()})

    return checks


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


@pytest.mark.parametrize(
    ("verdict", "strict", "expected"),
    [("ok", True, 0), ("look", False, 0), ("look", True, 1), ("fail", False, 1)],
)
def test_an_audit_is_kept_and_ends_as_its_worst_verdict_asks(
    run, copied, checks, verdict, strict, expected
):
    checks(G1=verdict, G2="ok")
    code, out, _ = run("audit", "--run", copied, *(["--strict"] if strict else []))
    assert code == expected
    assert f"G1     {verdict}" in out
    assert ("G1: Look at it." in out) == (verdict != "ok")
    assert f"Trust: {1 + (verdict == 'ok')} of 2 checks ok" in out
    held = json.loads((copied / "run.json").read_text())["audit"]
    assert [(one["check"], one["verdict"]) for one in held] == [("G1", verdict), ("G2", "ok")]


@pytest.mark.usefixtures("undrawn")
def test_after_an_audit_the_page_is_drawn_with_its_answers(run, copied, checks):
    checks(G1="fail")
    code, out, _ = run("audit", "--run", copied, "--json")
    assert (code, json.loads(out)["audit"][0]["check"]) == (1, "G1")
    assert json.loads(out)["unchecked"] == []
    code, out, _ = run("run", "--run", copied)
    assert code == 0
    assert "Trust: 0 of 1 checks ok, 1 failed" in out
    assert "Trust: 0 of 1 checks ok, 1 failed" in (copied / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_check_that_cannot_run_is_named_with_what_it_needs(run, copied, monkeypatch):
    from robust_mnist import audit

    ok = audit.Finding("a title", "ok", 0.0, "fail above 0", "Fine.")
    few = {"G1": lambda _: ok, "G24-seeds": lambda _: None, "mine": lambda _: None}
    monkeypatch.setattr(audit, "CHECKS", few)
    code, out, _ = run("audit", "--run", copied)
    said = "Not run: G24-seeds (needs several seeds); mine (needs what this run does not hold)"
    assert code == 0
    assert said in out
    assert "Trust: 1 of 1 checks ok, 2 not run" in out
    held = json.loads((copied / "run.json").read_text())["unchecked"]
    assert [one["check"] for one in held] == ["G24-seeds", "mine"]
    _, out, _ = run("run", "--run", copied)
    assert "Trust: 1 of 1 checks ok, 2 not run" in out
    assert said in (copied / "report.html").read_text()


def test_the_real_checks_find_nothing_to_read_twice(run, copied, finished):
    run("audit", "--run", copied)
    held = [json.loads((path / "run.json").read_text()) for path in (copied, finished)]
    assert held[0]["audit"] == held[1]["audit"]
    assert held[0]["unchecked"] == held[1]["unchecked"]
    assert "G24-seeds" in {one["check"] for one in held[0]["unchecked"]}


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("radii.npz", "has lost radii.npz.*robust-mnist sweep"),
        ("witnesses.npz", "has lost its wrong images in linf.*robust-mnist sweep"),
        ("model/seed-0.safetensors", "seed-0.safetensors cannot be read"),
    ],
)
def test_an_audit_of_a_run_that_has_lost_a_file_names_it(run, copied, gone, said):
    import re

    (copied / gone).unlink()
    assert re.search(said, complaint(run("audit", "--run", copied)))


def test_an_audit_of_a_run_that_was_not_attacked_says_what_comes_first(run, small_npz):
    assert "holds no run" in complaint(run("audit", "--run", "nowhere"))
    assert run("train", "--data", small_npz, *TINY, "--out", "trained", "--quiet")[0] == 0
    said = complaint(run("audit", "--run", "trained"))
    assert "was not attacked" in said
    assert "robust-mnist sweep --run trained" in said


def test_an_audit_never_looks_at_other_data(run, copied, small_npz, tmp_path):
    with np.load(small_npz) as stored:
        arrays = dict(stored)
    info = json.loads((copied / "run.json").read_text())
    info["settings"]["data"] = [str(tmp_path / "other.npz")]
    (copied / "run.json").write_text(json.dumps(info))
    np.savez(tmp_path / "other.npz", **(arrays | {"y_test": arrays["y_test"][::-1]}))
    assert "was made from other data" in complaint(run("audit", "--run", copied))


def test_a_selftest_of_a_network_that_is_not_there_is_one_line(run, finished):
    assert "nowhere" in complaint(run("selftest", "--run", "nowhere"))
    assert "none.safetensors" in complaint(run("selftest", "--model", "none.safetensors"))
    said = complaint(run("selftest", "--run", finished, "--images", "50"))
    assert "--images must be at most the 30 test images, got 50" in said


def test_a_selftest_of_a_network_for_other_images_is_one_line(run, tmp_path):
    from robust_mnist.checkpoint import save_model
    from robust_mnist.models import MLP

    path, about = tmp_path / "m.safetensors", {"model": "mlp", "activation": "tanh"}
    save_model(path, MLP((64, 10), key=jax.random.key(0)), about | {"sizes": [64, 10]})
    said = complaint(run("selftest", "--model", str(path)))
    assert "must map an image of 784 pixels to at least 10 logits, got TypeError" in said
    assert "mend it, or give images of its size" in said
