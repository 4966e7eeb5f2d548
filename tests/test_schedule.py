"""The scheduler spends work where the bounds are open, and says what it spent."""

import dataclasses
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import Affine, exact_radius, grey_images, network, predicted

from robust_mnist import config
from robust_mnist.attacks import ATTACKS, AbstractBallAttack
from robust_mnist.audit import of_run
from robust_mnist.audit.run_counts import run_counts
from robust_mnist.clock import stopwatch
from robust_mnist.config import PRESETS, Preset, SweepSettings
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.records import Radii, RunFolder
from robust_mnist.sweep import Bounds, Found, Task, _driver, _methods, _schedule, plan, sweep_run
from robust_mnist.sweep._aim import Aim
from robust_mnist.sweep._bounds import found_cell, run_cell
from robust_mnist.sweep._cost import cost, driver_cost
from robust_mnist.sweep._schedule import control_sample, run_stage, still_open


ABOUT = {"dataset": "toy", "model": "mlp", "objective": "none", "accelerator": "cpu"}
SMALL = Preset(
    control={"linf": ("fgsm-linf", "fmn100-linf"), "l2": ("fgm-l2",)},
    stages={"linf": ("fmn100-linf", "pgd40-linf"), "l2": ("ddn100-l2",)},
)


@pytest.fixture
def part(getkey):
    images = grey_images(getkey(), 24)
    return Part(images, np.zeros(24, np.uint8), np.arange(100, 124))


@pytest.fixture
def model(getkey):
    return network(getkey())


@pytest.fixture
def right(model, part):
    """The same images, labelled by the model but for two clean mistakes."""
    labels = predicted(model, part.images)
    labels[:2] = (labels[:2] + 1) % 10
    return dataclasses.replace(part, labels=labels)


def stage(model, part, bounds, method, gap=1e-3, radii=(0.3,)):
    aim = Aim(gap, radii)
    rounds = run_stage(model, part, bounds, method, aim=aim, key=jax.random.key(0))
    while True:
        try:
            next(rounds)
        except StopIteration as end:
            return end.value


def test_a_stage_only_tightens_and_leaves_what_is_settled(model, right):
    bounds = Bounds.clean(model, right, "linf")
    for method in ("fmn100-linf", "pgd40-linf", "fab100-targeted-linf"):
        before = bounds.radii.upper.copy()
        found = stage(model, right, bounds, method)
        assert np.all(bounds.radii.upper <= before)
        assert np.all(bounds.radii.upper[:2] == 0)
        assert found.runs <= 10 * 22
        changed = bounds.radii.upper < before
        # Beside these only ties, which go to the alphabetically first method.
        improved = np.isin(np.arange(24), found.cell["improved"])
        assert np.all(improved[changed])
        assert np.array_equal(bounds.radii.upper[~changed], before[~changed])
        assert set(bounds.radii.method[changed]) <= {method}
    # No method is credited with images that were chosen for what others had found.
    assert bounds.upper == {}


@pytest.mark.parametrize("proven", [0.0, 0.2])
def test_an_attack_is_tried_until_it_fails_one_gap_below_its_radius(
    proven, model, right, monkeypatch
):
    # What is found at a radius above an image's own is at that radius, and nothing is below it.
    own = np.geomspace(1e-3, 0.9, 24) * (1 - proven) + proven
    tried = []

    def exact(_model, part, bounds, method, eps, _key, *, at, **_):
        wrong = eps >= own[at]
        tried.append(len(np.unique(at)))
        found = Found(
            size=np.where(wrong, eps, np.inf), own=np.where(wrong, eps, np.inf),
            reached=np.where(wrong, 1, -1), witness=to_float(part.images[at]), broken=wrong,
            close=0, nonfinite=0,
        )  # fmt: skip
        return found_cell(bounds, method, at, found)

    monkeypatch.setattr(_schedule, "run_cell", exact)
    bounds = Bounds.clean(model, right, "linf")
    certified = np.where(bounds.radii.upper > 0, proven, -np.inf)
    bounds.radii = bounds.radii.merge(Radii.certified("linf", "oracle", certified))
    found = stage(model, right, bounds, "pgd40-linf", radii=(1.0,))
    assert np.all(bounds.radii.upper[2:] >= own[2:])
    assert np.all(bounds.radii.upper[2:] - own[2:] <= 1e-3 + 1e-9)
    assert found.runs == sum(tried) < 22 * 30
    # What is known that well is tried once.
    assert stage(model, right, bounds, "pgd40-linf", radii=(1.0,)).runs <= 22


def test_a_ball_attack_finds_the_exact_radius_of_an_affine_classifier(getkey):
    model = Affine(30 * jax.random.normal(getkey(), (10, 64)), jnp.zeros(10))
    images = grey_images(getkey(), 12)
    part = Part(images, predicted(model, images), np.arange(12))
    bounds = Bounds.clean(model, part, "linf")
    stage(model, part, bounds, "pgd20-targeted-linf", gap=1e-5, radii=(1.0,))
    exact = [
        exact_radius("linf", model, x, y)
        for x, y in zip(to_float(images), part.labels, strict=True)
    ]
    assert np.allclose(bounds.radii.upper, exact, rtol=1e-3)


def test_what_a_certificate_closes_is_not_attacked(model, right):
    bounds = Bounds.clean(model, right, "linf")
    stage(model, right, bounds, "fmn100-linf")
    proven = np.where(np.arange(24) < 12, np.maximum(bounds.radii.upper - 5e-4, 0), -np.inf)
    proven = np.where(bounds.radii.upper > 0, proven, -np.inf)
    bounds.radii = bounds.radii.merge(Radii.certified("linf", "oracle", proven))
    assert not still_open(bounds, Aim(1e-3, (0.3,)))[:12].any()
    assert stage(model, right, bounds, "pgd40-linf").runs <= 10 * 12


def test_images_are_packed_into_three_sizes_and_no_program_is_compiled_twice(
    model, right, monkeypatch
):
    monkeypatch.setattr(_schedule, "SIZES", (8, 4, 2))
    assert [(s.start, s.stop, size) for s, size in _schedule._packed(23)] == [
        (0, 16, 8), (16, 20, 4), (20, 23, 2),
    ]  # fmt: skip
    assert [size for _, size in _schedule._packed(3)] == [2]
    many = Part(*(np.concatenate([a, a])[:45] for a in dataclasses.astuple(right)))
    many = dataclasses.replace(many, ids=np.arange(45))
    with stopwatch() as first:
        stage(model, many, Bounds.clean(model, many, "linf"), "pgd40-linf", gap=1e-4)
    with stopwatch() as second:
        stage(model, many, Bounds.clean(model, many, "linf"), "pgd40-linf", gap=2e-4)
    assert second.compilations == 0
    # Search and decision for each size.
    assert first.compilations <= 2 * 3 + 2


def test_bounds_do_not_depend_on_how_images_are_packed(model, right, monkeypatch):
    def radii():
        bounds = Bounds.clean(model, right, "linf")
        stage(model, right, bounds, "pgd40-linf", gap=1e-3)
        return bounds.radii.upper

    whole = radii()
    monkeypatch.setattr(_schedule, "SIZES", (8, 4, 2))
    assert np.allclose(radii(), whole, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("fgsm-linf", 1, 1),
        ("pgd40-linf", 42, 40),
        ("apgd100-ce-linf", 101, 101),
        ("fmn100-linf", 101, 100),
        ("square1000-linf", 1001, 0),
        # Every step towards a class looks at the plane, and then at where it led.
        ("fab10-targeted-linf", 1 + 9 * 20, 9 * 10),
        ("deepfool50-linf", 50, 500),
    ],
)
def test_passes_are_counted(name, forward, backward, getkey):
    model = network(getkey(), sizes=(64, 30, 20, 10))
    assert cost(ATTACKS[name], model) == (forward, backward)
    # 14 halvings, 10 passes of 4 approaches, 4 judgements.
    assert driver_cost(ATTACKS[name], model) == (forward + 14 + 10 + 4, backward + 4)


def test_the_control_sample_is_drawn_by_key_and_in_order():
    sample = control_sample(100, 20, jax.random.key(0))
    assert len(set(sample.tolist())) == 20
    assert np.all(np.diff(sample) > 0)
    assert np.array_equal(sample, control_sample(100, 20, jax.random.key(0)))
    assert not np.array_equal(sample, control_sample(100, 20, jax.random.key(1)))


# --- in a run -------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(PRESETS, "quick", SMALL)
    monkeypatch.setattr(_methods, "CONTROL_IMAGES", 10)


def task(tmp_path, part, name="run", **settings):
    folder = RunFolder(tmp_path / name)
    folder.update({"settings": {"seed": 0, "seeds": 1}})
    given = SweepSettings(preset="quick", **settings)
    return Task(folder, part, plan(given, "tanh"), given.attack_seed, ABOUT)


@pytest.mark.usefixtures("small")
def test_single_methods_speak_of_the_control_sample_and_the_worst_case_of_all(
    tmp_path, model, right
):
    job = task(tmp_path, right)
    assert sweep_run(job, {0: model}, Console(quiet=True))
    rows = job.folder.rows()
    alone = rows[rows.kind.isin(["attacked", "step"]) & (rows.norm != "")]
    assert set(alone.images) == {10}
    assert set(rows[rows.kind.isin(["worst", "certified", "clean"])].images) == {24}
    arrays = job.folder.arrays("radii")
    own = arrays["upper/linf/fmn100-linf"]
    assert np.isnan(own).sum() == 14
    chosen = ~np.isnan(own)
    assert np.all(arrays["upper/linf"][chosen] <= own[chosen])
    # A minimal attack is read at every radius.
    grid = set(rows[rows.kind == "worst"].eps)
    assert {0.0, 0.02} <= set(rows[rows.method == "fmn100-linf"].eps) & grid
    assert np.isfinite(arrays["upper/linf"]).all()
    assert job.folder.info()["stages"]["0"] == [
        "linf/fmn100-linf within 0.000244141", "linf/pgd40-linf within 0.000244141",
        "l2/ddn100-l2 within 0.00439453",
    ]  # fmt: skip
    totals = job.folder.info()["cells"]["linf/fmn100-linf, scheduled"]
    assert totals["runs"] <= 22
    cells = job.folder.info()["cells"]
    assert cells["linf/fmn100-linf"]["runs"] == 10
    for totals in (cells["linf/fmn100-linf, scheduled"], cells["linf/fmn100-linf"]):
        assert totals["forward"] == (101 + 28) * totals["runs"]
        assert totals["backward"] == (100 + 4) * totals["runs"]
    eps = len(job.plan.eps["linf"]) - 1
    assert cells["linf/fgsm-linf"]["runs"] == 10 * eps
    step = cells["step/gradient-step"]
    assert step["runs"] == 24 * step["cells"] == step["backward"]
    assert step["forward"] == 2 * step["runs"]
    attacks = {name.partition("/")[2].partition(",")[0] for name in cells} & {*ATTACKS}
    counted = {name.partition("/")[2].partition(",")[0] for name in cells if "runs" in cells[name]}
    assert counted == attacks
    assert not sweep_run(job, {0: model}, Console(quiet=True))


@pytest.mark.usefixtures("small")
def test_progress_of_a_method_speaks_of_the_images_it_ran_on(tmp_path, model, right, capsys):
    job = task(tmp_path, right)
    sweep_run(job, {0: model}, Console(every=0))
    told = [line for line in capsys.readouterr().err.splitlines() if "standing" in line]
    chosen = ~np.isnan(job.folder.arrays("radii")["upper/linf/fmn100-linf"])
    assert told
    assert 0 < chosen.sum() < len(chosen)
    assert all(f"% of {chosen.sum()} still standing" in line for line in told)


@pytest.mark.usefixtures("small")
def test_a_schedule_cut_short_goes_on_where_it_was(tmp_path, model, right, monkeypatch):
    from robust_mnist.sweep import _sweep

    whole = task(tmp_path, right, "whole")
    sweep_run(whole, {0: model}, Console(quiet=True))
    ran, real = [], _sweep.run_stage

    def dies_at_the_second(model, part, bounds, method, **rest):
        if len(ran) == 1:
            raise KeyboardInterrupt
        ran.append(method)
        return real(model, part, bounds, method, **rest)

    job = task(tmp_path, right, "killed")
    monkeypatch.setattr(_sweep, "run_stage", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        sweep_run(job, {0: model}, Console(quiet=True))
    monkeypatch.setattr(_sweep, "run_stage", real)
    sweep_run(job, {0: model}, Console(quiet=True))
    assert ran == ["fmn100-linf"]
    ours, theirs = job.folder.arrays("radii"), whole.folder.arrays("radii")
    for key, array in theirs.items():
        assert np.array_equal(ours[key], array, equal_nan=array.dtype.kind == "f"), key


def test_only_the_radii_asked_for_are_decided(model, right):
    upper = np.array([0.0, 0.004, 0.01, 0.0101, 0.05, np.inf, np.inf])
    lower = np.array([-np.inf, 0.0, 0.0, 0.005, 0.01, 0.0, 0.03])
    aim = Aim(np.inf, (0.01, 0.03))
    assert np.array_equal(aim.target(upper, lower, np.inf), [0, 0, 0, 0.01, 0.03, 0.03, 0])
    bounds, grid = Bounds.clean(model, right, "linf"), Bounds.clean(model, right, "linf")
    found = stage(model, right, bounds, "pgd40-linf", gap=np.inf, radii=(0.01, 0.03))
    for eps in (0.01, 0.03):
        key = jax.random.key(0)
        grid.merge("pgd40-linf", run_cell(model, right, grid, "pgd40-linf", eps, key), own_at=eps)
    wanted = [0.01, 0.03]
    ours, plain = bounds.radii.attacked_accuracy(wanted), grid.radii.attacked_accuracy(wanted)
    assert np.array_equal(ours, plain)
    assert 0 < plain[1] < plain[0] < 1
    assert 22 <= found.runs < 2 * 22


@pytest.mark.usefixtures("small")
def test_a_stage_runs_again_with_another_aim(tmp_path, model, right):
    sweep_run(task(tmp_path, right, norm=("linf",), eps=(0.03,)), {0: model}, Console(quiet=True))
    job = task(tmp_path, right, norm=("linf",))
    before = job.folder.arrays("radii")["upper/linf"]
    assert sweep_run(job, {0: model}, Console(quiet=True))
    assert np.sum(job.folder.arrays("radii")["upper/linf"] < before) > 3
    assert job.folder.info()["stages"]["0"] == [
        f"linf/{method} {aim}"
        for aim in ("at 0.03", "within 0.000244141")
        for method in ("fmn100-linf", "pgd40-linf")
    ]


@pytest.mark.usefixtures("small")
def test_a_preset_adds_to_a_grid(tmp_path, model, right):
    folder = RunFolder(tmp_path / "run")
    folder.update({"settings": {"seed": 0, "seeds": 1}})
    given = SweepSettings(norm=("linf",), eps=(0.02,), methods=("fgsm-linf",))
    grid = Task(folder, right, plan(given, "tanh"), 0, ABOUT)
    sweep_run(grid, {0: model}, Console(quiet=True))
    before = folder.arrays("radii")["upper/linf"]
    sweep_run(task(tmp_path, right, norm=("linf",)), {0: model}, Console(quiet=True))
    assert np.all(folder.arrays("radii")["upper/linf"] <= before)
    rows = folder.rows()
    rows = rows[(rows.method == "fgsm-linf") & (rows.kind == "attacked") & (rows.eps > 0)]
    # It ran on all images at the radius of the grid, and on the control sample at the others.
    assert set(rows.images[rows.eps == 0.02]) == {24}
    assert set(rows.images[rows.eps != 0.02]) == {10}


def swept_on(folder, part, model, **settings):
    """Sweep more, and give the rows of single attacks above eps 0, with whether anything ran."""
    job = Task(folder, part, plan(SweepSettings(**settings), "tanh"), 0, ABOUT)
    worked = sweep_run(job, {0: model}, Console(quiet=True))
    rows = folder.rows()
    rows = rows[(rows.kind == "attacked") & (rows.eps > 0) & np.isfinite(rows.eps)]
    return worked, rows.set_index(["method", "eps"])[["images", "correct"]]


@pytest.mark.usefixtures("small")
def test_a_later_sweep_at_one_radius_changes_no_row_of_another(tmp_path, model, right):
    """Else the attack would seem to have failed at radii at which it never ran."""
    folder = RunFolder(tmp_path / "run")
    folder.update({"settings": {"seed": 0, "seeds": 1}})
    _, before = swept_on(folder, right, model, norm=("linf",))
    assert set(before.images) == {10}
    records = folder.load()
    alone = records.upper_by_method("linf")["fgsm-linf"]
    _, after = swept_on(folder, right, model, norm=("linf",), eps=(0.012,), methods=("fgsm-linf",))
    assert after.loc[("fgsm-linf", 0.012), "images"] == 24
    others = after.drop(index=("fgsm-linf", 0.012))
    # A method that finds radii by itself says something of each radius.
    others = others.drop(index=("fmn100-linf", 0.012))
    assert others.equals(before)
    # The attack alone is still that of the images it ran on at all of its radii.
    ran = folder.load().upper_by_method("linf")["fgsm-linf"]
    assert np.array_equal(np.isnan(ran), np.isnan(alone))
    assert np.sum(~np.isnan(ran)) == 10
    assert run_counts(evidence_of(folder, right, model)).verdict == "ok"
    # As the rows were before: every radius with all images.
    rows = folder.rows()
    rows.loc[rows.kind == "attacked", "images"] = 24
    false = dataclasses.replace(evidence_of(folder, right, model), rows=rows)
    assert run_counts(false).verdict == "fail"


def evidence_of(folder, part, model):
    return of_run(folder, {0: model}, part)


@pytest.mark.usefixtures("small")
def test_the_grid_runs_every_method_on_every_image_also_after_a_control_sample(
    tmp_path, model, right
):
    folder = RunFolder(tmp_path / "run")
    folder.update({"settings": {"seed": 0, "seeds": 1}})
    swept_on(folder, right, model, norm=("linf",), eps=(0.02, 0.05))
    grid = {
        "norm": ("linf",), "preset": "grid", "eps": (0.02, 0.05),
        "methods": ("fgsm-linf", "fmn100-linf"),
    }  # fmt: skip
    worked, rows = swept_on(folder, right, model, **grid)
    assert worked
    assert set(rows.loc[[*grid["methods"]]].images) == {24}
    fresh = RunFolder(tmp_path / "fresh")
    fresh.update({"settings": {"seed": 0, "seeds": 1}})
    _, whole = swept_on(fresh, right, model, **grid)
    assert rows.loc[whole.index].equals(whole)
    worked, again = swept_on(folder, right, model, **grid)
    assert not worked
    assert again.equals(rows)
    # What is asked of a sample alone is there as well.
    assert not swept_on(folder, right, model, norm=("linf",), eps=(0.02, 0.05))[0]


def test_sweeps_come_in_three_sizes_control_cells_among_them():
    assert len({config.CONTROL_IMAGES, *_schedule.SIZES}) <= 3


@pytest.mark.usefixtures("small")
def test_no_attack_of_a_preset_is_traced_at_more_than_three_sizes(
    tmp_path, model, right, getkey, monkeypatch
):
    # Not in the package itself: networks of other sizes and cleared caches are traced anew there.
    limited, answers = {}, inspect.unwrap(_driver._answers)

    def traced(attack, *rest):
        if id(attack) not in limited:
            limited[id(attack)] = eqx.debug.assert_max_traces(answers, max_traces=3)
        return eqx.filter_jit(limited[id(attack)])(attack, *rest)

    monkeypatch.setattr(_driver, "_answers", traced)
    monkeypatch.setattr(_schedule, "SIZES", (10, 3, 1))
    monkeypatch.setattr(_methods, "METHODS", {"linf": ()})  # no certifiers
    job = task(tmp_path, right, norm=("linf",), tolerance=1e-6)
    sweep_run(job, {0: model, 1: network(getkey())}, Console(quiet=True))
    traces = {
        name: eqx.debug.get_num_traces(limited[id(ATTACKS[name])])
        for name in ("fgsm-linf", "fmn100-linf", "pgd40-linf")
    }
    assert traces == {"fgsm-linf": 1, "fmn100-linf": 3, "pgd40-linf": 3}


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="--methods belong to --preset grid"):
        SweepSettings(preset="quick", methods=("fgsm-linf",))
    with pytest.raises(InputError, match="knows the norms linf, l2, got l1"):
        plan(SweepSettings(preset="quick", norm=("l1",)), "tanh")
    with pytest.raises(InputError, match="--tolerance must be finite and at least 0, got -1"):
        SweepSettings(preset="quick", tolerance=-1.0)


def test_presets_name_methods_that_exist_in_their_norm():
    for preset in PRESETS.values():
        for norm in preset.stages:
            for method in (*preset.control[norm], *preset.stages[norm]):
                assert ATTACKS[method].ball.name == norm
            # Which alone goes on until it fails one gap below every closest wrong image.
            assert isinstance(ATTACKS[preset.stages[norm][-1]], AbstractBallAttack)
