import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_sweep import LINF, QUIET, networks, part, same_results, task  # noqa: F401 fixtures

from robust_mnist.audit._evidence import Evidence
from robust_mnist.audit.nonfinite import nonfinite
from robust_mnist.config import SweepSettings, TrainSettings
from robust_mnist.errors import InputError
from robust_mnist.records import (
    Contradiction,
    OpenDomains,
    RunFolder,
    merge,
    ran_key,
    read_open_domains,
    write_open_domains,
)
from robust_mnist.records._rows import HISTORY
from robust_mnist.report._owner import identity
from robust_mnist.sweep import sweep_run


IMAGES = {
    "sha256": "of all",
    "test_sha256": "of the test images",
    "train": 1,
    "valid": 1,
    "test": 24,
}


def trained(folder, seeds=1):
    """What a run has beside its results."""
    settings = dataclasses.asdict(TrainSettings(seeds=seeds))
    folder.update({"settings": settings, "environment": {}, "data": IMAGES, "training": {}})
    (folder.path / "history.csv").write_text(",".join(HISTORY) + "\n")
    for seed in range(seeds):
        folder.model(seed).parent.mkdir(exist_ok=True)
        folder.model(seed).write_bytes(b"weights")
    return folder


def swept(tmp_path, part, networks, name, **settings):  # noqa: F811
    job = task(tmp_path, part, name, **settings)
    sweep_run(job, networks, QUIET)
    return trained(job.folder, len(networks))


def test_merged_runs_are_what_one_sweep_of_everything_is(tmp_path, networks, part):  # noqa: F811
    whole = swept(tmp_path, part, networks, "whole", **LINF)
    parts = [
        swept(tmp_path, part, networks, "a", **LINF | {"methods": ("fgsm-linf",)}),
        swept(tmp_path, part, networks, "b", **LINF | {"methods": ("pgd40-linf", "ibp-linf")}),
    ]
    for name, runs in (("ab", parts), ("ba", parts[::-1]), ("aba", [*parts, parts[0]])):
        out = RunFolder(tmp_path / name)
        merge(runs, out, f"merge {name}")
        same_results(whole, out)
        out.check_whole()
    assert RunFolder(tmp_path / "aba").info()["cells"] == RunFolder(tmp_path / "ab").info()["cells"]
    cells = RunFolder(tmp_path / "ab").info()["cells"]
    assert {method: totals["cells"] for method, totals in cells.items()} == {
        method: totals["cells"] for method, totals in whole.info()["cells"].items()
    }


@pytest.fixture
def pair(tmp_path, networks, part):  # noqa: F811
    """A run and its copy, which a test changes before the two are merged."""
    few = LINF | {"methods": ("fgsm-linf", "ibp-linf")}
    first = swept(tmp_path, part, {0: networks[0]}, "first", **few)
    shutil.copytree(first.path, tmp_path / "second")
    return first, RunFolder(tmp_path / "second")


def test_every_method_keeps_its_best_and_rows_count_anew(pair, tmp_path):
    first, second = pair
    mine, theirs = first.arrays("radii"), second.arrays("radii")
    own = "upper/linf/fgsm-linf"
    # As of images that it did not run on, at all or at one radius.
    missed = (mine, slice(2)), (theirs, slice(1, 3))
    for arrays, at in missed:
        arrays[own][at] = np.nan
        for eps in (0.02, 0.05):
            arrays[ran_key("linf", "fgsm-linf", eps)][at] = False
    for arrays in (mine, theirs):
        arrays[ran_key("linf", "fgsm-linf", 0.05)][10:] = False
    theirs[own][3] = 0.001
    proven = np.where(theirs["upper/linf"] > 0.02, 0.02, theirs["lower/linf"])
    theirs["lower/linf"] = theirs["lower/linf/ibp-linf"] = proven
    first.write_arrays("radii", mine)
    second.write_arrays("radii", theirs)
    out = RunFolder(tmp_path / "out")
    merge(pair, out, "merge")
    arrays, rows = out.arrays("radii"), out.rows()
    assert np.array_equal(np.isnan(arrays[own]), np.arange(24) == 1)
    assert arrays[own][3] == 0.001
    assert np.array_equal(arrays["lower/linf"], np.maximum(mine["lower/linf"], proven))
    for row in rows[rows.kind == "attacked"].itertuples():
        ran = ~np.isnan(arrays[own]) & ((row.eps != 0.05) | (np.arange(24) < 10))
        assert (row.images, row.correct) == (ran.sum(), np.sum(arrays[own][ran] > row.eps))
        assert row.images == (9 if row.eps == 0.05 else 23)
    certified = rows[(rows.kind == "certified") & np.isfinite(rows.eps)].set_index(
        ["method", "eps"]
    )
    for (_, eps), correct in certified.correct.items():
        assert correct == np.sum(arrays["lower/linf"] >= eps)
    assert certified.correct["all", 0.02] == np.sum(proven >= 0.02) > 0


def test_work_that_copies_share_counts_once(pair, tmp_path):
    first, second = pair
    closed = [{"norm": "linf", "eps": 0.02}, {"norm": "linf", "eps": 0.05}]
    first.update({"closed": closed})
    second.update({"closed": {"linf 0.02": closed[0]}})  # as it was kept at first

    def merged(name):
        merge(pair, RunFolder(tmp_path / name), "merge")
        return RunFolder(tmp_path / name).info()

    cells = first.info()["cells"]
    assert merged("copies")["cells"] == cells
    assert merged("closed")["closed"] == closed
    fgsm = cells["linf/fgsm-linf"]
    second.update({"cells": {"linf/fgsm-linf": {name: 2 * total for name, total in fgsm.items()}}})
    warnings = {"close": 2 * fgsm["close"], "nonfinite": 0.0}
    assert merged("went on")["cells"] == cells | {"linf/fgsm-linf": warnings}
    # Where only the networks are copied, their training is all that is of the same seconds.
    rows = second.rows()
    learnt = rows.head(1).assign(kind="training", seconds=7.0)
    first.write_table("rows.csv", pd.concat([rows, learnt]))
    later = rows.assign(seconds=rows.seconds + 0.1)
    second.write_table("rows.csv", pd.concat([later, learnt]))
    tripled = {name: 3 * total for name, total in fgsm.items()}
    assert merged("apart")["cells"] == cells | {"linf/fgsm-linf": tripled}


def test_whether_copies_share_work_is_decided_for_each_method(pair, tmp_path):
    first, second = pair
    cells, rows = first.info()["cells"], second.rows()
    longer = {name: {key: 2 * total for key, total in of.items()} for name, of in cells.items()}
    second.update({"cells": longer})
    # One had its certificates made anew, and went on with what the other had attacked.
    again = np.where(rows.method == "ibp-linf", rows.seconds + 0.1, rows.seconds)
    second.write_table("rows.csv", rows.assign(seconds=again))
    merge(pair, RunFolder(tmp_path / "out"), "merge")
    found = RunFolder(tmp_path / "out").info()["cells"]
    assert {*found["linf/fgsm-linf"]} == {"close", "nonfinite"}
    ibp = cells["linf/ibp-linf"]
    assert found["linf/ibp-linf"] == {key: 3 * total for key, total in ibp.items()}


@pytest.mark.parametrize(
    ("mine", "theirs", "kept"),
    [
        ((1, 100, 2.0), (2, 250, 5.0), None),  # the second went on with a copy of the first
        ((2, 250, 5.0), (1, 100, 2.0), None),
        ((2, 250, 5.0), (2, 250, 5.0), (2, 250, 5.0)),
        ((2, 150, 3.0), (2, 200, 2.5), None),  # both may have gone on
        ((1, 100, 2.0), (1, 250, 5.0), (2, 350, 7.0)),  # no command in common
        ((1, 100, 2.0), (3, 250, 1.0), (4, 350, 3.0)),
    ],
)
@pytest.mark.parametrize("name", ["linf/crown-linf, on open images", "linf/pgd40-linf, scheduled"])
def test_work_without_rows_adds_up_where_copies_cannot_share_it(
    pair, tmp_path, name, mine, theirs, kept
):
    totals = lambda numbers: dict(zip(("cells", "images", "seconds"), numbers, strict=True))
    for run, numbers in zip(pair, (mine, theirs), strict=True):
        run.update({"cells": {name: totals(numbers)}})
    merge(pair, RunFolder(tmp_path / "out"), "merge")
    found = RunFolder(tmp_path / "out").info()["cells"][name]
    assert found == ({} if kept is None else totals(kept))


def test_a_part_that_is_merged_again_counts_once(pair, tmp_path):
    """Though of a cell that both parts had, the first one's time alone stands in the rows."""
    _, second = pair
    rows = second.rows()
    second.write_table("rows.csv", rows.assign(seconds=rows.seconds + 0.1))
    cells = second.info()["cells"]
    second.update({"cells": {name: {**of, "seconds": 7.0} for name, of in cells.items()}})
    once, twice = RunFolder(tmp_path / "once"), RunFolder(tmp_path / "twice")
    merge(pair, once, "merge")
    merge([second, once], twice, "merge")
    assert twice.info()["cells"] == once.info()["cells"]
    assert once.info()["cells"]["linf/fgsm-linf"]["cells"] == 4


@pytest.mark.parametrize("lost", [False, True])
def test_what_warns_outlives_a_merge(pair, networks, part, tmp_path, lost):  # noqa: F811
    """Also where one of them tells of no totals, as runs that were merged before it did."""
    first, second = pair
    name = "linf/fgsm-linf"
    fgsm = first.info()["cells"][name] | {"close": 2.0, "nonfinite": 6.0}
    second.update({"cells": {name: {key: 2 * total for key, total in fgsm.items()}}})
    first.update({"cells": {name: {} if lost else fgsm}})
    out = RunFolder(tmp_path / "out")
    merge(pair, out, "merge")
    cells = out.info()["cells"]
    assert cells[name] == {"close": 4.0, "nonfinite": 12.0}
    found = nonfinite(Evidence(networks[0], part, out.rows(), {}, {}, cells))
    assert (found.verdict, found.number) == ("fail", 12)


def test_a_merged_run_is_none_of_its_parts_but_names_them(pair, tmp_path):
    first, second = pair
    begun = {"name": "first", "created": "2026-01-01T00:00:00+00:00"}
    for run in pair:
        run.update(begun)
    once, twice = RunFolder(tmp_path / "once"), RunFolder(tmp_path / "twice")
    merge(pair, once, "merge")
    merge([once, second], twice, "merge")
    assert len({identity([run]) for run in (first, once, twice)}) == 3
    assert once.info()["name"] == "once"
    of_both = begun | {"swept": first.info()["swept"]}
    about = {name: once.info()[name] for name in ("created", "swept")}
    assert twice.info()["merged"] == [
        {"name": "once", **about, "merged": [of_both, of_both]},
        of_both,
    ]


@pytest.mark.parametrize(
    ("seeds", "kept"),
    [
        (({}, {"attack_seed": 5}), 5),
        (({}, {"sweep": dataclasses.asdict(SweepSettings(attack_seed=5))}), 5),
        (({"attack_seed": 3}, {"attack_seed": 5}), 3),
        (({}, {}), None),
    ],
)
def test_the_attack_seed_is_that_of_the_first_run_that_was_attacked(pair, tmp_path, seeds, kept):
    for run, seed in zip(pair, seeds, strict=True):
        run.update(seed)
    merge(pair, RunFolder(tmp_path / "out"), "merge")
    assert RunFolder(tmp_path / "out").info().get("attack_seed") == kept


def test_merged_stages_leave_nothing_of_a_preset_missing(tmp_path, networks, part):  # noqa: F811
    stages = ("pgd40-linf", "fmn100-linf")

    def job(name, stages):
        found = task(tmp_path, part, name, norm=("linf",))
        settled = dataclasses.replace(
            found.plan, methods={"linf": ("fgsm-linf",)}, eps={"linf": (0.0, 0.05)},
            stages={"linf": stages}, control=10,
        )  # fmt: skip
        return dataclasses.replace(found, plan=settled)

    runs = []
    for stage in stages:
        begun = job(stage, (stage,))
        sweep_run(begun, {0: networks[0]}, QUIET)
        runs.append(trained(begun.folder))
    merge(runs, RunFolder(tmp_path / "out"), "merge")
    assert not sweep_run(job("out", stages), {0: networks[0]}, QUIET)


def test_of_equally_close_wrong_images_the_one_of_the_class_that_is_kept_stays(pair, tmp_path):
    _, second = pair
    radii, witnesses = second.arrays("radii"), second.arrays("witnesses")
    broken = np.flatnonzero(np.isfinite(radii["upper/linf"]) & (radii["upper/linf"] > 0))[:2]
    reached = radii["reached/linf"][broken]
    radii["reached/linf"][broken] += np.array([-1, 1])  # the lower class counts
    witnesses["witness/linf"][broken] = 0.25
    second.write_arrays("radii", radii)
    second.write_arrays("witnesses", witnesses)
    out = RunFolder(tmp_path / "out")
    merge(pair, out, "merge")
    assert np.array_equal(out.arrays("radii")["reached/linf"][broken], reached - [1, 0])
    theirs = np.all(out.arrays("witnesses")["witness/linf"][broken] == 0.25, axis=1)
    assert theirs.tolist() == [True, False]


def test_what_excludes_each_other_stops_and_nothing_is_written(pair, tmp_path):
    _, second = pair
    radii = second.arrays("radii")
    broken = np.flatnonzero(np.isfinite(radii["upper/linf"]) & (radii["upper/linf"] > 0))[0]
    radii["lower/linf"][broken] = radii["upper/linf"][broken]
    radii["upper/linf"][broken] = np.inf
    second.write_arrays("radii", radii)
    with pytest.raises(Contradiction, match=f"image {broken} in linf"):
        merge(pair, RunFolder(tmp_path / "out"), "merge")
    assert not (tmp_path / "out").exists()


def test_branch_and_bound_goes_on_from_what_any_of_the_parts_has_left_open(pair, tmp_path):
    one = {name: np.zeros(1, none.dtype) for name, none in vars(OpenDomains.none()).items()}
    left = {"lines": OpenDomains(**one | {"cuts": np.ones(1, np.int32)})}
    names = [("linf", 0.02), ("linf", 0.05), ("l2", 0.3)]
    for run, held in zip(pair, (names[:2], names[1:]), strict=True):
        for norm, eps in held:
            write_open_domains(run.open_domains(0, norm, eps), b"problem", left)
    out = RunFolder(tmp_path / "out")
    merge(pair, out, "merge")
    for norm, eps in names:
        found = read_open_domains(out.open_domains(0, norm, eps), b"problem")
        assert found["lines"].image.tolist() == [0]


def test_a_merge_that_is_cut_short_leaves_nothing_in_its_own_way(pair, run, tmp_path, monkeypatch):
    before = {*tmp_path.iterdir()}
    words = ["merge", "first", "second", "--out", "new/out"]

    def stops(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_table", stops)
        assert run(*words)[0] == 130
    assert {*tmp_path.iterdir()} == before | {tmp_path / "new"}
    assert not [*(tmp_path / "new").iterdir()]
    assert run(*words)[0] == 0
    assert [*(tmp_path / "new").iterdir()] == [tmp_path / "new" / "out"]
    assert (tmp_path / "new" / "out").stat().st_mode == pair[0].path.stat().st_mode


def test_a_folder_that_finds_no_room_is_named_not_the_temporary_one(pair, run, monkeypatch):
    def full(run, name, *_, **__):
        raise OSError(28, "No space left on device", str(run.path / f"{name}.npz"))

    monkeypatch.setattr(RunFolder, "write_arrays", full)
    code, _, err = run("merge", *(one.path for one in pair), "--out", "out")
    assert code == 2
    assert err.startswith("robust-mnist: out: No space left on device; ")


def test_only_finished_runs_of_the_same_networks_and_images_are_merged(pair, tmp_path):
    _, second = pair

    def refused(match):
        with pytest.raises(InputError, match=match):
            merge(pair, RunFolder(tmp_path / "out"), "merge")
        assert not (tmp_path / "out").exists()

    about = {"plan": "some", "done": 1, "of": 2, "flags": [], "run": {}}
    second.show(about, second.rows(), {})
    refused("second holds an unfinished sweep; robust-mnist report")
    second.forget_cells()
    second.update({"data": {"test_sha256": "of others"}})
    refused("second and .*first have other images; compare them")
    second.update({"data": IMAGES})
    second.model(0).write_bytes(b"other weights")
    refused("second and .*first have other networks; compare them")


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("cells", []),
        ("cells", {"linf/fgsm-linf": None}),
        ("cells", {"linf/fgsm-linf": {"seconds": "long"}}),
        ("stages", ["linf/pgd40-linf"]),
        ("stages", {"0": "linf/pgd40-linf"}),
        ("stages", {"0": [["linf/pgd40-linf"]]}),
        ("closed", "linf"),
        ("closed", ["linf"]),
        ("merged", ["first"]),
    ],
)
def test_damaged_notes_of_a_run_are_named(pair, run, tmp_path, name, held):
    path = pair[1].path / "run.json"
    path.write_text(json.dumps(pair[1].info() | {name: held}))
    code, _, err = run("merge", "first", "second", "--out", "out")
    said = f"{Path('second/run.json')} is damaged in {name}; put back a copy, or leave this run out"
    assert (code, err) == (2, f"robust-mnist: {said}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["radii", "witnesses"])
def test_results_of_other_images_than_the_run_has_are_named(pair, run, tmp_path, file):
    arrays = {name: array[:-1] for name, array in pair[1].arrays(file).items()}
    pair[1].write_arrays(file, arrays)
    code, _, err = run("merge", "first", "second", "--out", "out")
    assert code == 2
    assert f"{file}.npz must be of 24 images of 1 networks, got " in err
    assert " of shape (23," in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_run_that_has_lost_its_wrong_images_is_refused(pair, tmp_path, lost):
    """Of a norm that both hold, and of one that no other run holds."""
    (pair[lost].path / "witnesses.npz").unlink()
    if lost:
        pair[0].write_arrays("radii", {})
    with pytest.raises(InputError, match="lost its wrong images in linf; robust-mnist sweep"):
        merge(pair, RunFolder(tmp_path / "out"), "merge")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pair")
def test_the_command_replaces_nothing_and_tells_what_comes_next(run, tmp_path):
    code, _, err = run("merge", "first", "./first", "--out", "out")
    assert (code, err) == (2, "robust-mnist: first is named twice; name each run once\n")
    words = ["merge", "first", "second", "--out", "out"]
    code, out, err = run(*words)
    assert (code, err) == (0, ""), err
    assert "worst case" in out
    assert out.endswith("next: robust-mnist audit --run out\nrun: out\n")
    assert RunFolder(tmp_path / "out").info()["command"].endswith("robust-mnist " + " ".join(words))
    code, _, err = run(*words)
    assert (code, err) == (
        2, "robust-mnist: out exists, and merge replaces nothing; choose another --out\n",
    )  # fmt: skip
