import dataclasses
import json
import shutil
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from problems import Affine, grey_images, network, predicted

from robust_mnist.attacks import ATTACKS, FMN, PGD, GradientStep, Transfer
from robust_mnist.config import DEFAULT_NORMS, METHODS, PRESETS, SweepSettings
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.models import MLP
from robust_mnist.records import COLUMNS, RunFolder
from robust_mnist.sweep import (
    Plan,
    Task,
    _driver,
    _sweep,
    break_batch,
    norm_of,
    plan,
    radii,
    smallest_step,
    step_sweep,
    sweep_run,
)
from robust_mnist.sweep._sweep import COUNTS
from robust_mnist.threat import L2, Linf


ABOUT = {"dataset": "toy", "model": "mlp", "objective": "none", "accelerator": "cpu"}
QUIET = Console(quiet=True)


@pytest.fixture
def networks(getkey):
    return {0: network(getkey()), 1: network(getkey())}


@pytest.fixture
def part(networks, getkey):
    images = grey_images(getkey(), 24)
    labels = predicted(networks[0], images)
    labels[:3] = (labels[:3] + 1) % 10  # three clean mistakes
    return Part(images, labels, np.arange(100, 124))


def task(tmp_path, part, name="run", **settings):
    folder = RunFolder(tmp_path / name)
    folder.update({"settings": {"seed": 0, "seeds": 1}})
    given = SweepSettings(**settings)
    return Task(folder, part, plan(given, "tanh"), given.attack_seed, ABOUT)


LINF = {"norm": ("linf",), "eps": (0.02, 0.05), "methods": ("fgsm-linf", "pgd40-linf", "ibp-linf")}


def same_results(first, second, *, rounding=0.0):
    ours, theirs = first.arrays("radii"), second.arrays("radii")
    assert set(ours) == set(theirs)
    for key in ours:
        same(ours[key], theirs[key], rounding)
    drop = ["seconds"]
    pd.testing.assert_frame_equal(
        first.rows().drop(columns=drop), second.rows().drop(columns=drop), rtol=0, atol=rounding
    )
    for key, array in first.arrays("witnesses").items():
        same(array, second.arrays("witnesses")[key], rounding)


def same(array, other, rounding):
    if array.dtype.kind == "f":
        np.testing.assert_allclose(array, other, rtol=0, atol=rounding)
    else:
        np.testing.assert_array_equal(array, other)


def test_rows_are_tidy_and_agree_with_the_radii(tmp_path, networks, part):
    job = task(tmp_path, part, **LINF)
    assert sweep_run(job, {0: networks[0]}, QUIET)
    rows, arrays = job.folder.rows(), job.folder.arrays("radii")
    assert tuple(rows.columns) == COLUMNS
    assert np.allclose(rows.accuracy, rows.correct / rows.images)
    assert np.all((rows.low <= rows.accuracy) & (rows.accuracy <= rows.high))
    for row in rows[rows.kind == "worst"].itertuples():
        assert row.correct == np.sum(arrays["upper/linf"] > row.eps)
    for row in rows[rows.kind == "attacked"].itertuples():
        assert row.correct == np.sum(arrays[f"upper/linf/{row.method}"] > row.eps)
    for row in rows[(rows.kind == "certified") & (rows.method == "all")].itertuples():
        assert row.correct == np.sum(arrays["lower/linf"] >= row.eps)
    assert set(rows[rows.kind == "step"].method) == {"fgsm-linf"}
    (clean,) = rows[rows.kind == "clean"].correct
    assert clean == 21
    at_zero = rows[(rows.kind == "worst") & (rows.eps == 0)]
    assert at_zero.correct.tolist() == [21]


def test_the_worst_case_is_never_better_than_any_method(tmp_path, networks, part):
    job = task(tmp_path, part, **LINF)
    sweep_run(job, {0: networks[0]}, QUIET)
    rows = job.folder.rows()
    worst = rows[rows.kind == "worst"].set_index("eps").correct
    for _, method in rows[rows.kind == "attacked"].groupby("method"):
        assert np.all(worst[method.eps].to_numpy() <= method.correct.to_numpy())
    certified = rows[(rows.kind == "certified") & (rows.method == "all")].set_index("eps").correct
    assert np.all(certified <= worst[certified.index])


def test_a_certifier_that_searches_some_images_at_a_time_finds_the_same(
    tmp_path, networks, part, monkeypatch
):
    whole, some = (task(tmp_path / name, part, **LINF) for name in ("whole", "some"))
    sweep_run(whole, {0: networks[0]}, QUIET)
    sizes, real = [], _sweep.run_cell

    def run_cell(model, part, bounds, method, *args, **rest):
        if method == "ibp-linf":
            sizes.append(len(part.labels))
        return real(model, part, bounds, method, *args, **rest)

    monkeypatch.setattr(_sweep, "run_cell", run_cell)
    monkeypatch.setattr(_sweep, "PROVEN_AT_ONCE", 10)
    sweep_run(some, {0: networks[0]}, QUIET)
    assert sizes == [10, 10, len(part.labels) - 20]
    same_results(whole.folder, some.folder)


def test_a_finished_sweep_does_nothing_more(tmp_path, networks, part):
    job = task(tmp_path, part, **LINF)
    sweep_run(job, {0: networks[0]}, QUIET)
    before = (job.folder.path / "radii.npz").stat().st_mtime_ns
    assert not sweep_run(job, {0: networks[0]}, QUIET)
    assert (job.folder.path / "radii.npz").stat().st_mtime_ns == before
    assert not (job.folder.path / "cells").exists()


def test_methods_and_radii_added_later_give_what_one_sweep_gives(tmp_path, networks, part):
    whole = task(tmp_path, part, "whole", **LINF)
    sweep_run(whole, {0: networks[0]}, QUIET)
    for step in (
        {"norm": ("linf",), "eps": (0.05,), "methods": ("pgd40-linf",)},
        {"norm": ("linf",), "eps": (0.05, 0.02), "methods": ("fgsm-linf", "ibp-linf")},
        LINF,
    ):
        part_by_part = task(tmp_path, part, "parts", **step)
        sweep_run(part_by_part, {0: networks[0]}, QUIET)
    # A product's last bit may depend on how many images share a call: on some processors only.
    same_results(whole.folder, part_by_part.folder, rounding=1e-5)


def test_chunks_side_by_side_give_what_they_give_one_by_one(networks, part, monkeypatch):
    attack, key, threads = ATTACKS["pgd40-linf"], jax.random.key(0), set()
    judge = _driver._judge

    def noted(*args):
        threads.add(threading.get_ident())
        return judge(*args)

    def found(in_flight):
        monkeypatch.setattr(_driver, "_IN_FLIGHT", in_flight)
        monkeypatch.setattr(_driver, "_judge", noted)
        threads.clear()
        return break_batch(
            attack, networks[0], part.images, part.labels,
            ids=part.ids, eps=0.05, key=key, chunk=2,
        )  # fmt: skip

    alone = dataclasses.asdict(found(1))
    assert len(threads) == 2  # this one, and that of the pool
    together = dataclasses.asdict(found(4))
    assert len(threads) > 2
    for name, array in alone.items():
        assert np.array_equal(array, together[name]), name
    # What is set here is not set there, so all has to be done here.
    with jax.default_matmul_precision("highest"):
        found(4)
    assert threads == {threading.get_ident()}


def test_a_killed_sweep_repeats_only_what_was_in_flight(tmp_path, networks, part, monkeypatch):
    whole = task(tmp_path, part, "whole", **LINF)
    sweep_run(whole, {0: networks[0]}, QUIET)

    ran, real = [], _sweep.run_cell

    def dies_at_the_fourth(model, images, bounds, method, eps, key, **rest):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((method, eps))
        return real(model, images, bounds, method, eps, key, **rest)

    job = task(tmp_path, part, "killed", **LINF)
    monkeypatch.setattr(_sweep, "run_cell", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        sweep_run(job, {0: networks[0]}, QUIET)
    assert len(list((job.folder.path / "cells").rglob("*.npz"))) == 3

    def counted(*args, **rest):
        ran.append(args[3:5])
        return real(*args, **rest)

    monkeypatch.setattr(_sweep, "run_cell", counted)
    sweep_run(job, {0: networks[0]}, QUIET)
    assert len(ran) == len(set(ran)) == 5
    same_results(whole.folder, job.folder)


def test_progress_tells_what_was_measured_and_what_was_there_already(
    tmp_path, networks, part, monkeypatch, capsys
):
    job = task(tmp_path, part, **LINF)
    stop_after(2, job, {0: networks[0]}, monkeypatch, Console(every=0))
    assert "continuing" not in capsys.readouterr().err
    sweep_run(job, {0: networks[0]}, Console(every=0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "continuing: 2 of 5 cells are there"
    proofs = job.folder.load().radii["lower/linf/ibp-linf"]
    for line in lines[1:]:
        if "ibp-linf" in line:
            assert line.endswith(f"ibp-linf: median radius {np.median(proofs.clip(0)):.4g}")
        else:
            assert line.endswith(f" of {len(part.labels)} still standing")


def test_several_seeds_are_the_single_ones_side_by_side(tmp_path, networks, part):
    both = task(tmp_path, part, "both", **LINF)
    both.folder.update({"settings": {"seed": 0, "seeds": 2}})
    sweep_run(both, networks, QUIET)
    stacked = both.folder.arrays("radii")
    for seed, model in networks.items():
        alone = task(tmp_path, part, f"alone-{seed}", **LINF)
        sweep_run(alone, {seed: model}, QUIET)
        for key, array in alone.folder.arrays("radii").items():
            assert np.array_equal(stacked[key][seed], array), key
    rows = both.folder.rows()
    assert len(set(rows.groupby("seed").size())) == 1
    assert len(both.folder.load().radii_of("linf")) == 2


def stop_after(count, job, models, monkeypatch, console=QUIET):
    """Let a sweep die after some cells."""
    ran, real = [], _sweep.run_cell

    def dies(*args, **rest):
        if len(ran) == count:
            raise KeyboardInterrupt
        ran.append(args)
        return real(*args, **rest)

    with monkeypatch.context() as patched:
        patched.setattr(_sweep, "run_cell", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep_run(job, models, console)


def test_readers_see_what_a_stopped_sweep_has_found(tmp_path, networks, part, monkeypatch):
    whole = task(tmp_path, part, "whole", **LINF)
    whole.folder.update({"settings": {"seed": 0, "seeds": 2}})
    sweep_run(whole, networks, QUIET)
    job = dataclasses.replace(task(tmp_path, part, **LINF), flags=("--norm", "linf"))
    job.folder.update({"settings": {"seed": 0, "seeds": 2}})
    # In the third cell, after the first of the two networks.
    stop_after(5, job, networks, monkeypatch)
    assert job.folder.load().rows.empty
    found = job.folder.load(unfinished=True)
    about = found.info["unfinished"]
    assert (about["done"], about["of"], about["flags"]) == (5, 10, ["--norm", "linf"])
    assert found.info["cells"]["linf/fgsm-linf"]["cells"] == 4
    rows = found.rows[found.rows.kind == "attacked"]
    ran = {(row.seed, row.method, row.eps) for row in rows.itertuples() if row.eps > 0}
    of_both = {(seed, "fgsm-linf", eps) for seed in (0, 1) for eps in (0.02, 0.05)}
    assert ran == of_both  # of the third cell, which only the first network has, nothing
    assert set(rows.groupby(["method", "eps"]).size()) == {2}
    for row in rows.itertuples():
        own = found.upper_by_method("linf")[row.method][row.seed]
        assert row.correct == np.sum(own > row.eps)
    both = zip(found.radii_of("linf"), whole.folder.load().radii_of("linf"), strict=True)
    for so_far, final in both:
        assert np.all(so_far.upper >= final.upper)
        assert np.isfinite(so_far.upper[so_far.upper > 0]).sum() > 0
    sweep_run(job, networks, QUIET)
    assert job.folder.unfinished() == {}
    same_results(whole.folder, job.folder)


def watched(monkeypatch, folder, stop=None):
    """What readers are shown when each new cell begins: cells done, and rows by method."""
    seen, real = [], _sweep.run_cell

    def run_cell(*args, **rest):
        found = folder.load(unfinished=True)
        rows = found.rows
        ran = [] if rows.empty else rows[(rows.kind == "attacked") & (rows.eps > 0)].method
        seen.append((found.info.get("unfinished", {}).get("done"), len(ran)))
        if len(seen) == stop:
            raise KeyboardInterrupt
        return real(*args, **rest)

    monkeypatch.setattr(_sweep, "SHOW_EVERY", 0)
    monkeypatch.setattr(_sweep, "run_cell", run_cell)
    return seen, lambda: monkeypatch.setattr(_sweep, "run_cell", real)


def test_readers_see_each_cell_during_the_sweep_and_never_fewer_when_it_goes_on(
    tmp_path, networks, part, monkeypatch
):
    job = task(tmp_path, part, **LINF)
    seen, undo = watched(monkeypatch, job.folder, stop=4)
    with pytest.raises(KeyboardInterrupt):
        sweep_run(job, {0: networks[0]}, QUIET)
    assert seen == [(None, 0), (1, 1), (2, 2), (3, 3)]
    undo()
    shown, real = [], RunFolder.show

    def show(folder, about, *rest):
        shown.append(about["done"])
        real(folder, about, *rest)

    monkeypatch.setattr(RunFolder, "show", show)
    seen, _ = watched(monkeypatch, job.folder)
    sweep_run(job, {0: networks[0]}, QUIET)
    assert seen == [(3, 3), (4, 4)]
    assert shown == [3, 4, 5]


def test_readers_see_several_networks_when_all_are_equally_far(
    tmp_path, networks, part, monkeypatch
):
    job = task(tmp_path, part, **LINF)
    job.folder.update({"settings": {"seed": 0, "seeds": 2}})
    seen, _ = watched(monkeypatch, job.folder, stop=6)
    with pytest.raises(KeyboardInterrupt):
        sweep_run(job, networks, QUIET)
    assert seen == [(None, 0), (None, 0), (2, 2), (2, 2), (4, 4), (4, 4)]


def test_fast_cells_are_seen_before_a_slow_stage(tmp_path, networks, part, monkeypatch):
    job = task(tmp_path, part, norm=("linf",))
    settled = dataclasses.replace(
        job.plan, methods={"linf": ("fgsm-linf",)}, eps={"linf": (0.0, 0.02, 0.05)},
        stages={"linf": ("pgd40-linf",)}, control=10,
    )  # fmt: skip
    job = dataclasses.replace(job, plan=settled)
    seen, real = [], _sweep.run_stage

    def watched_stage(*args, **rest):
        def rounds():
            work = real(*args, **rest)
            yield next(work)
            about = job.folder.unfinished()
            seen.append(about["of"] - about["done"])
            return (yield from work)

        return rounds()

    monkeypatch.setattr(_sweep, "run_stage", watched_stage)
    sweep_run(job, {0: networks[0]}, QUIET)
    assert seen == [1]  # the stage is all that is left


def test_before_the_first_stage_readers_see_the_control_sample_alone(
    tmp_path, networks, part, monkeypatch
):
    for method, images in (("pgd40-linf", 10), ("fmn100-linf", len(part.labels))):
        found = stopped_at(method, tmp_path, networks, part, monkeypatch)
        assert set(found.rows[found.rows.kind == "worst"].images) == {images}
        assert found.radii_of("linf")[0].upper.size == images
        assert set(found.rows[found.rows.kind == "clean"].images) == {len(part.labels)}


def stopped_at(method, tmp_path, networks, part, monkeypatch):
    """What readers see of a sweep with a control sample that was stopped at this stage."""
    real = _sweep.run_stage

    def dies(*args, **rest):
        if args[3] == method:
            raise KeyboardInterrupt
        return real(*args, **rest)

    job = task(tmp_path, part, method, norm=("linf",))
    settled = dataclasses.replace(
        job.plan, methods={"linf": ("fgsm-linf",)}, eps={"linf": (0.0, 0.05)},
        stages={"linf": ("pgd40-linf", "fmn100-linf")}, control=10,
    )  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(_sweep, "run_stage", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep_run(dataclasses.replace(job, plan=settled), {0: networks[0]}, QUIET)
    return job.folder.load(unfinished=True)


@pytest.mark.parametrize(
    ("method", "eps", "images"),
    [
        ("ibp-linf", 0.02, 10),
        ("fgsm-linf", 0.02, 10),
        ("fgsm-linf", 0.05, 24),
        ("fmn100-linf", 0.02, 24),
        (None, 0.05, 10),
    ],
)
def test_after_another_command_they_see_all_images_only_where_an_attack_had_seen_them(
    tmp_path, networks, part, monkeypatch, method, eps, images
):
    from robust_mnist.sweep._certify import settle_run

    before = {"norm": ("linf",), "eps": (eps,), "methods": (method or "fgsm-linf",)}
    job = task(tmp_path, part, "pgd40-linf", **before)
    if method is None:
        list(settle_run(job, {0: networks[0]}, "linf", ["ibp-linf"], eps))
    else:
        sweep_run(job, {0: networks[0]}, QUIET)
    found = stopped_at("pgd40-linf", tmp_path, networks, part, monkeypatch)
    assert found.rows[found.rows.kind == "worst"].eps.max() == 0.05
    assert set(found.rows[found.rows.kind.isin(["worst", "certified"])].images) == {images}
    assert found.radii_of("linf")[0].upper.size == images


def test_a_damaged_cell_is_named(tmp_path, networks, part, monkeypatch):
    job = task(tmp_path, part, **LINF)
    stop_after(1, job, {0: networks[0]}, monkeypatch)
    (cell,) = (job.folder.path / "cells").rglob("*.npz")
    cell.write_bytes(b"half a ce")
    with pytest.raises(InputError, match="fgsm-linf"):
        sweep_run(job, {0: networks[0]}, QUIET)


def test_a_killed_sweep_that_goes_on_with_another_plan_keeps_true_witnesses(
    tmp_path, networks, part, monkeypatch
):
    """A cell holds witnesses relative to the cells before it, so it must not serve another plan."""
    from robust_mnist.data.pixels import to_float
    from robust_mnist.sweep import sizes

    stop_after(4, task(tmp_path, part, **LINF), {0: networks[0]}, monkeypatch)
    job = task(tmp_path, part, norm=("linf",), eps=(0.05,), methods=("pgd40-linf",))
    sweep_run(job, {0: networks[0]}, QUIET)
    upper, witness = job.folder.arrays("radii")["upper/linf"], job.folder.arrays("witnesses")
    found = np.isfinite(upper)
    assert found.sum() > 3
    actual = sizes("linf", to_float(part.images), witness["witness/linf"])
    assert np.array_equal(actual[found], upper[found])


def test_another_sweep_or_certify_leaves_what_a_stopped_one_has_found(
    tmp_path, networks, part, monkeypatch
):
    """Though it tightens the bounds, and has a cell of the stopped one's own plan done before."""
    from robust_mnist.data.pixels import to_float
    from robust_mnist.sweep import sizes
    from robust_mnist.sweep._certify import settle_run

    models = {0: networks[0]}
    stopped = task(tmp_path, part, **LINF)
    stop_after(3, stopped, models, monkeypatch)
    kept = sorted((stopped.folder.path / "cells").rglob("*.npz"))
    assert len(kept) == 3
    for eps, method in ((0.02, "fgsm-linf"), (0.03, "pgd40-linf")):
        other = task(tmp_path, part, norm=("linf",), eps=(eps,), methods=(method,))
        assert sweep_run(other, models, QUIET)
        assert sorted((stopped.folder.path / "cells").rglob("*.npz")) == kept
        assert stopped.folder.unfinished()["done"] == 3
    list(settle_run(other, models, "linf", ["ibp-linf", "fab100-targeted-linf"], 0.03))
    found = stopped.folder.load(unfinished=True)
    for name, array in stopped.folder.arrays("radii").items():  # it knows more
        np.testing.assert_array_equal(found.radii[name], array)
    assert sorted((stopped.folder.path / "cells").rglob("*.npz")) == kept
    assert stopped.folder.unfinished()["done"] == 3

    ran, real = [], _sweep.run_cell

    def counted(*args, **rest):
        ran.append(args[3:5])
        return real(*args, **rest)

    monkeypatch.setattr(_sweep, "run_cell", counted)
    assert sweep_run(stopped, models, QUIET)
    assert ran == [("pgd40-linf", 0.05), ("ibp-linf", np.inf)]
    assert not (stopped.folder.path / "cells").exists()
    assert stopped.folder.unfinished() == {}
    upper = stopped.folder.arrays("radii")["upper/linf"]
    witness = stopped.folder.arrays("witnesses")["witness/linf"]
    found = np.isfinite(upper)
    actual = sizes("linf", to_float(part.images), witness)
    assert np.array_equal(actual[found], upper[found])


KINDS = "worst", "certified"


def test_rows_speak_of_a_settled_radius_as_soon_as_a_method_has_run_there(
    tmp_path, networks, part, monkeypatch
):
    from robust_mnist.sweep import _certify

    job = dataclasses.replace(task(tmp_path, part), plan=Plan({"linf": ()}, (), {}))
    settle = lambda methods, eps: list(
        _certify.settle_run(job, {0: networks[0]}, "linf", methods, eps)
    )

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    def merged():
        rows, radii = job.folder.rows(), job.folder.arrays("radii")
        rows = rows[rows.kind.isin(KINDS)]
        for row in rows.itertuples():
            certified, upper = row.kind == "certified", radii["upper/linf"] > row.eps
            assert row.correct == np.sum(radii["lower/linf"] >= row.eps if certified else upper)
        return {kind: of.eps.tolist() for kind, of in rows.groupby("kind")}

    with monkeypatch.context() as patch:
        patch.setattr(_certify, "certify_batch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            settle(["ibp-linf"], 0.01)
    assert merged() == {}
    # A certificate alone says nothing from above.
    alone = dataclasses.replace(job, folder=task(tmp_path, part, "alone").folder)
    list(_certify.settle_run(alone, {0: networks[0]}, "linf", ["ibp-linf"], 0.001))
    assert set(alone.folder.rows().kind) == {"clean", "certified"}
    settle(["noise100-uniform-linf"], 0.05)
    assert merged() == {"worst": [0, 0.05]}  # nobody has asked for a certificate
    settle(["ibp-linf"], 0.001)
    radii = job.folder.arrays("radii")
    assert np.sum(radii["lower/linf"] == 0.001) > 0
    assert merged() == {kind: [0, 0.001, 0.05] for kind in KINDS}
    # Where nothing is left to try, all is known.
    assert [len(settle(["ibp-linf"], eps)) for eps in (1e-6, 1e-7)] == [2, 1]
    # Rows of a sweep leave none of these behind.
    other = task(tmp_path, part, norm=("linf",), eps=(0.02,), methods=("pgd40-linf",))
    assert sweep_run(other, {0: networks[0]}, QUIET)
    assert np.sum(job.folder.arrays("radii")["upper/linf"] <= 0.05) > np.sum(
        radii["upper/linf"] <= 0.05
    )
    assert merged() == {kind: [0, 1e-7, 1e-6, 0.001, 0.02, 0.05] for kind in KINDS}


def test_a_kept_cell_without_an_image_that_it_would_need_runs_again(
    tmp_path, networks, part, monkeypatch
):
    models = {0: networks[0]}
    job = task(tmp_path, part, **LINF)
    stop_after(3, job, models, monkeypatch)
    (path,) = (job.folder.path / "cells").rglob("fgsm-linf/0.05*.npz")
    place = RunFolder(path.parent)
    cell = place.arrays(path.stem)
    assert len(cell["improved"]) > 1
    cell |= {name: cell[name][1:] for name in ("improved", "witness")}
    place.write_arrays(path.stem, cell)
    ran, real = [], _sweep.run_cell

    def counted(*args, **rest):
        ran.append(args[3:5])
        return real(*args, **rest)

    monkeypatch.setattr(_sweep, "run_cell", counted)
    sweep_run(job, models, QUIET)
    assert ran == [("fgsm-linf", 0.05), ("pgd40-linf", 0.05), ("ibp-linf", np.inf)]


def test_a_sweep_that_was_killed_while_it_put_its_cells_away_does_so_next_time(
    tmp_path, networks, part, monkeypatch
):
    job = task(tmp_path, part, norm=("linf",), eps=(0.02,), methods=("fgsm-linf",))

    def dies(*args):
        del args
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "forget_cells", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep_run(job, {0: networks[0]}, QUIET)
    assert job.folder.unfinished()
    assert not sweep_run(job, {0: networks[0]}, QUIET)
    assert job.folder.unfinished() == {}
    assert not (job.folder.path / "cells").exists()


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"done": 1}, "of, flags, run"),
        ({"done": 1, "of": 2, "flags": "--norm", "run": {}}, "flags"),
        ({"done": "one", "of": 2, "flags": [], "run": {}}, "done"),
    ],
)
def test_what_is_shown_of_a_stopped_sweep_is_whole_or_damaged(tmp_path, part, about, said):
    folder = task(tmp_path, part, **LINF).folder
    folder.show({"plan": "some", **about}, pd.DataFrame(columns=list(COLUMNS)), {})
    with pytest.raises(InputError, match=f"some.npz .*it says nothing of {said}; delete it"):
        folder.unfinished()
    with pytest.raises(InputError, match="it says nothing of"):
        folder.load(unfinished=True)


def test_nothing_is_said_of_norms_and_radii_that_no_attack_saw(tmp_path, networks, part):
    steps = task(tmp_path, part, "steps", methods=("gradient-step",))
    sweep_run(steps, {0: networks[0]}, QUIET)
    assert set(steps.folder.rows().kind) == {"step"}
    proofs = task(tmp_path, part, "proofs", norm=("linf",), eps=(0.02,), methods=("ibp-linf",))
    sweep_run(proofs, {0: networks[0]}, QUIET)
    assert "worst" not in set(proofs.folder.rows().kind)
    both = task(tmp_path, part, "proofs", norm=("linf",), eps=(0.01,), methods=("fgsm-linf",))
    sweep_run(both, {0: networks[0]}, QUIET)
    rows = both.folder.rows()
    assert sorted(rows[rows.kind == "worst"].eps) == [0.0, 0.01]


def test_totals_of_a_method_add_up_over_sweeps(tmp_path, networks, part):
    def swept(eps):
        job = task(tmp_path, part, norm=("linf",), eps=(eps,), methods=("fgsm-linf",))
        sweep_run(job, {0: networks[0]}, QUIET)
        return job.folder, job.folder.info()["cells"]["linf/fgsm-linf"]

    swept(0.02)
    folder, cell = swept(0.05)
    assert cell["cells"] == 2
    assert cell["runs"] == 2 * len(part.labels)
    # A total of cells that were not all counted would be too small.
    uncounted = {name: value for name, value in cell.items() if name not in COUNTS}
    folder.update({"cells": {"linf/fgsm-linf": uncounted}})
    _, cell = swept(0.03)
    assert cell["cells"] == 3
    assert not {*COUNTS} & {*cell}
    # Nor is it one where copies were merged; what warns counts from what is known.
    run = json.loads((folder.path / "run.json").read_text())
    for held in ({}, {"close": 2.0, "nonfinite": 6.0}):
        run["cells"]["linf/fgsm-linf"] = held
        (folder.path / "run.json").write_text(json.dumps(run))
        _, cell = swept(0.01 if held else 0.04)
        assert {*cell} == {"close", "nonfinite"}
        assert cell["nonfinite"] == held.get("nonfinite", 0.0)


def test_radii_in_memory_bracket_the_truth_of_an_affine_classifier(getkey):
    """The exact Linf radius, away from the box, is the margin over the dual norm, minimised."""
    weight = jax.random.normal(getkey(), (3, 64)) / 8
    model = Affine(weight, jnp.zeros(3))
    images = np.asarray(jax.random.randint(getkey(), (20, 64), 100, 156), np.uint8)
    labels = predicted(model, images)
    x = images.astype(np.float64) * np.float64(np.float32(1 / 255))
    w = np.asarray(weight, np.float64)
    logits = x @ w.T
    true = np.take_along_axis(logits, labels[:, None].astype(int), axis=1)
    dual = np.abs(w[labels][:, None] - w[None]).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = np.nanmin(np.where(dual > 0, (true - logits) / dual, np.inf), axis=1)
    part = Part(images, labels, np.arange(20))
    eps = np.linspace(0.001, 0.2, 12).tolist()
    found = radii(model, part, norm="linf", methods=["pgd40-linf"], eps=eps, key=getkey())
    broken = np.isfinite(found.upper)
    assert np.array_equal(broken, exact < 0.2)
    assert np.all(found.upper[broken] > exact[broken])
    # The witness is shortened to just beyond the boundary, so the grid of eps hardly shows.
    assert np.median(found.upper[broken] / exact[broken]) < 1.1


@pytest.mark.parametrize("eps", [(), (0.01, 0.02)])
def test_a_preset_in_memory_says_what_its_sweep_says(tmp_path, networks, part, eps):
    model, key = networks[0], jax.random.key(0)
    job = task(tmp_path, part, norm=("linf",), preset="quick", eps=eps)
    sweep_run(job, {0: model}, QUIET)
    swept = job.folder.load().radii_of("linf")[0]
    found = radii(model, part, norm="linf", methods="quick", eps=eps, key=key)
    at = np.array([0.0, *(eps or (0.01, 0.05))])
    assert np.array_equal(found.certified_accuracy(at), swept.certified_accuracy(at))
    assert np.allclose(found.attacked_accuracy(at), swept.attacked_accuracy(at), atol=2 / 24)


def test_an_attack_of_ones_own_is_run_under_a_name_of_ones_own(networks, part, getkey):
    model, sibling = networks.values()
    few, key = PGD(Linf(), steps=5, rel_step_size=0.3), getkey()
    found = lambda methods: radii(
        model, part, norm="linf", methods=methods, eps=[0.02, 0.05], key=key
    )
    own = found(
        {"few": few, "borrowed": Transfer(few, (sibling,)), "closest": FMN(Linf(), steps=5)}
    )
    assert {"few", "closest"} <= {*own.method} <= {"few", "borrowed", "closest", "clean", ""}
    assert np.max(own.upper[np.isfinite(own.upper)]) > 0.05  # the last one is given no radius
    named = found({"fgsm-linf": ATTACKS["fgsm-linf"]})
    assert np.array_equal(named.upper, found("fgsm-linf").upper)
    for methods, match in (
        ({"fgsm-linf": few}, "fgsm-linf means something else in the registry; choose"),
        ({"ibp-linf": few}, "ibp-linf means something else"),
        ({"mine": PGD(L2())}, "mine acts in l2, but norm is linf"),
        ({"mine": GradientStep()}, "mine has no ball"),
    ):
        with pytest.raises(InputError, match=match):
            found(methods)


# --- plans --------------------------------------------------------------------------------------


def test_by_default_a_preset_runs_where_there_is_one_and_nothing_else_is_named():
    standard = plan(SweepSettings(), "tanh")
    assert standard == plan(SweepSettings(preset="standard"), "tanh")
    assert standard.stages["linf"] == PRESETS["standard"].stages["linf"]
    for given in ({"methods": ("pgd40-linf",)}, {"norm": ("l1",)}):
        assert plan(SweepSettings(**given), "tanh") == plan(
            SweepSettings(preset="grid", **given), "tanh"
        )


def test_the_grid_covers_both_norms_and_starts_at_zero():
    default = plan(SweepSettings(preset="grid"), "tanh")
    assert set(default.methods) == set(DEFAULT_NORMS)
    assert default.steps == ("gradient-step",)
    for norm, grid in default.eps.items():
        assert grid[0] == 0
        assert list(grid) == sorted(set(grid))
        assert default.methods[norm] == METHODS[norm]


def test_a_method_alone_decides_the_norm():
    assert set(plan(SweepSettings(methods=("pgd40-l2",)), "tanh").methods) == {"l2"}
    assert norm_of("gradient-step") is None


def test_a_certifier_that_does_not_apply_is_left_out_of_the_defaults():
    assert "ibp-linf" in plan(SweepSettings(), "relu").methods["linf"]
    assert "ibp-linf" not in plan(SweepSettings(), "gelu").methods["linf"]


# --- step attacks -------------------------------------------------------------------------------


def test_the_step_sweep_ends_below_five_percent_or_at_the_limit(networks, part, getkey):
    results = list(step_sweep(GradientStep(), networks[0], part, getkey()))
    steps = [step for step, _ in results]
    assert steps[0] == pytest.approx(1e-2)
    assert np.allclose(np.diff(np.log10(steps)), 0.5)
    assert all(correct >= 0.05 * 24 for _, correct in results[:-1])
    assert results[-1][1] < 0.05 * 24 or steps[-1] == pytest.approx(1e16)


def test_a_network_without_gradients_ends_the_step_sweep_at_the_limit(part, getkey):
    flat = Affine(jnp.zeros((10, 64)), jnp.eye(10)[0] * 1000)
    images = Part(part.images, np.zeros(24, np.uint8), part.ids)
    results = list(step_sweep(GradientStep(), flat, images, getkey()))
    assert results[-1] == (pytest.approx(1e16), 24)


def test_an_answer_that_is_no_number_is_never_a_success_of_a_step(part, getkey):
    broken = MLP((64, 10), "tanh", key=getkey())
    broken = eqx.tree_at(lambda m: m.layers[0].bias, broken, jnp.full(10, jnp.nan))
    images = Part(part.images[:4], part.labels[:4], part.ids[:4])
    counts = [count for _, count in step_sweep(GradientStep(), broken, images, getkey())]
    assert set(counts) == {4}


def test_a_network_that_is_wrong_from_the_start_needs_no_step():
    assert smallest_step(lambda _: True) == 0.0


@pytest.mark.parametrize("threshold", [1e-5, 0.01, 0.7, 3.0, 12345.678, 9e15])
def test_the_smallest_step_is_found_to_a_thousandth(threshold):
    found = smallest_step(lambda step: step >= threshold)
    assert threshold <= found <= threshold * 1.0011


def test_no_step_up_to_the_limit_is_none():
    assert smallest_step(lambda step: step > 1e17) is None


def test_notes_in_the_run_file_are_json(tmp_path, networks, part):
    job = task(tmp_path, part, **LINF)
    sweep_run(job, {0: networks[0]}, QUIET)
    cells = json.loads((job.folder.path / "run.json").read_text())["cells"]
    assert set(cells) == {f"linf/{method}" for method in LINF["methods"]}
    assert all(cell["cells"] == (1 if "ibp" in name else 2) for name, cell in cells.items())
    assert all(cell["seconds"] > 0 for cell in cells.values())
    shutil.rmtree(job.folder.path)


def test_what_is_wrong_without_a_step_needs_none():
    from robust_mnist.sweep._steps import smallest_step

    asked = []
    assert smallest_step(lambda step: not asked.append(step)) == 0.0
    assert asked == [0.0]
