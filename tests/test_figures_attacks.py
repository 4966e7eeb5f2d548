"""What is said of the attacks themselves, held to numbers that were worked out by hand."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import synthetic_records as synthetic
from test_figures import labelled, texts

from robust_mnist.figures import FIGURES, class_radii
from robust_mnist.records import Alone, Radii
from robust_mnist.report import _attacks


INF, NAN = np.inf, np.nan


def records_of(alone, *, best=None, stages=True, seeds=1, labels=None, reached=None):
    """A run in which attacks found these sizes in Linf; NaN where one did not run."""
    upper = {name: np.asarray(sizes, float) for name, sizes in alone.items()}
    lowest = np.fmin.reduce(list(upper.values())) if best is None else np.asarray(best, float)
    images = lowest.shape[-1]
    labels = np.zeros(images, np.int64) if labels is None else np.asarray(labels)
    records = synthetic.make(seeds=seeds, norms=("linf",), images=images)
    radii = records.radii | {
        "upper/linf": lowest,
        "lower/linf": np.where(lowest > 0, 0.0, -INF),
        "reached/linf": np.ones(lowest.shape, np.int64) if reached is None else np.asarray(reached),
    }
    radii = {k: v for k, v in radii.items() if not k.startswith("upper/linf/")}
    rows = [
        synthetic.row(seed, kind, 1, images, norm="linf", eps=eps, method=method)
        for eps in (0.0, 0.1, 0.2, 0.4)
        for seed in range(seeds)
        for kind, method in [("worst", "all"), *(("attacked", name) for name in upper)]
    ]
    return dataclasses.replace(
        records,
        info=records.info | {"stages": {"0": ["linf/x"]} if stages else {}},
        radii=radii | {f"upper/linf/{name}": sizes for name, sizes in upper.items()},
        rows=pd.DataFrame(rows),
        panels=records.panels | {"flow/labels": labels},
    )


# Of six images one is a clean mistake and one withstands everything.
WEAK = [0.0, 0.4, 0.2, INF, INF, INF]
STRONG = [0.0, 0.1, 0.2, 0.2, INF, INF]
OTHER = [0.0, 0.2, 0.1, INF, 0.4, INF]
THREE = {"fgsm-linf": WEAK, "pgd40-linf": STRONG, "fmn100-linf": OTHER}


@pytest.fixture(scope="module")
def three():
    return records_of(THREE)


# --- agreement ------------------------------------------------------------------------------------


def test_a_pair_of_attacks_counts_what_one_breaks_and_the_other_misses(three):
    alone = Alone.of(three, "linf")
    assert alone.methods == ["fgsm-linf", "fmn100-linf", "pgd40-linf"]
    # At 0.2 fgsm breaks image 2, fmn 1 and 2, pgd 1, 2 and 3; the clean mistake is nobody's.
    missed = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0]]) / 6
    np.testing.assert_allclose(alone.missed(0.2), missed)
    np.testing.assert_allclose(alone.only(0.2), [0, 0, 1 / 6])
    np.testing.assert_allclose(alone.only(0.4), [0, 1 / 6, 1 / 6])


def test_attacks_are_compared_where_half_of_the_right_answers_are_left(three):
    # 5 right ones: 3, 2 and 1 are left at 0.1, 0.2 and 0.4; of two as near the smaller is taken.
    assert Alone.of(three, "linf").eps == 0.1
    assert Alone.of(records_of(THREE, best=[0, 0.2, 0.2, 0.2, 0.2, INF]), "linf").eps == 0.2


def test_attacks_are_compared_on_the_images_that_all_of_them_ran_on():
    sample = {name: [NAN, *sizes[1:]] for name, sizes in THREE.items()}
    alone = Alone.of(records_of(sample | {"pgd40-linf": STRONG}, best=STRONG), "linf")
    assert list(alone.places) == [1, 2, 3, 4, 5]
    nothing = {"fgsm-linf": [0.1, NAN], "pgd40-linf": [NAN, 0.1]}
    assert Alone.of(records_of(nothing, best=[0.1, 0.1]), "linf") is None


def test_networks_follow_each_other():
    two = {name: np.stack([sizes, sizes[::-1]]) for name, sizes in THREE.items()}
    alone = Alone.of(records_of(two, seeds=2), "linf")
    assert (alone.images, alone.networks) == (6, 2)
    np.testing.assert_array_equal(alone.upper[0], WEAK + WEAK[::-1])
    assert list(alone.places) == [*range(6), *range(6)]


def test_the_figure_of_agreement_begins_with_the_attack_that_breaks_most(three):
    pairs, bars = FIGURES["agreement"](three).axes
    names = [label.get_text() for label in pairs.get_yticklabels()]
    assert names == ["fmn100-linf", "pgd40-linf", "fgsm-linf"]  # the first two break one each
    assert [text.get_text() for text in pairs.texts] == [*["16.7"] * 4, "0.0", "0.0"]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [100 / 6, 100 / 6, 0])
    assert "eps 0.1" in texts(FIGURES["agreement"](three))


def test_too_few_attacks_are_not_compared_unless_a_preset_chose_them():
    two = {"fgsm-linf": WEAK, "pgd40-linf": STRONG}
    for name in ("agreement", "optimality"):
        assert FIGURES[name](records_of(two, stages=False)) is None
        assert FIGURES[name](records_of(THREE, stages=False)) is not None
        assert FIGURES[name](records_of(two)) is not None
        assert FIGURES[name](records_of({"pgd40-linf": STRONG})) is None
        assert "three" in FIGURES[name].needs


def test_attacks_are_compared_at_radii_alone_at_which_all_of_them_ran():
    """In a sweep that was stopped between two attacks, or where one was added at further radii."""
    sizes = {"fgsm-linf": 0.2, "pgd40-linf": 0.3, "fmn100-linf": 0.2}
    found = {name: np.full((2, 40), size) for name, size in sizes.items()}
    whole = records_of(found, seeds=2)
    assert (Alone.of(whole, "linf").radii, Alone.of(whole, "linf").even) == ([0.1, 0.2, 0.4], True)
    assert _attacks.warnings(whole)
    assert FIGURES["optimality"](whole) is not None
    rows = whole.rows
    late = (rows.method == "pgd40-linf") & (rows.seed == 1) & (rows.eps > 0.1)
    stopped = dataclasses.replace(whole, rows=rows[~late])
    alone = Alone.of(stopped, "linf")
    assert (alone.radii, alone.even, alone.eps) == ([0.1], False, 0.1)
    assert _attacks.warnings(stopped) == []
    assert "eps 0.1" in texts(FIGURES["agreement"](stopped))
    assert FIGURES["optimality"](stopped) is None
    never = (rows.method == "pgd40-linf") & (rows.eps > 0)
    unseen = dataclasses.replace(whole, rows=rows[~never])
    assert Alone.of(unseen, "linf") is None


# --- optimality -----------------------------------------------------------------------------------


def test_optimality_is_the_share_of_the_area_that_there_is_to_win():
    # The lowest known sizes, to 0.4: 0.1, 0.1, 0.2, 0.4, 0.4 make 1.2 of 5 * 0.4 = 2.
    best = [0.0, 0.1, 0.1, 0.2, 0.4, INF]
    alone = Alone.of(records_of(THREE, best=best), "linf")
    # fgsm: 0.4, 0.2 and three times 0.4 make 1.8; fmn 1.5, pgd 1.3.
    expected = [1 - (1.8 - 1.2) / 0.8, 1 - (1.5 - 1.2) / 0.8, 1 - (1.3 - 1.2) / 0.8]
    np.testing.assert_allclose(alone.optimality(), expected)


def test_optimality_ends_at_1_and_at_0():
    found = {"a-linf": [0.0, 0.1, 0.2], "b-linf": [0.0, INF, INF]}
    np.testing.assert_allclose(Alone.of(records_of(found), "linf").optimality(), [1.0, 0.0])


def test_where_nothing_was_broken_no_attack_has_an_optimality():
    found = {"a-linf": [0.0, INF], "b-linf": [0.0, INF]}
    records = records_of(found)
    assert np.isnan(Alone.of(records, "linf").optimality()).all()
    FIGURES["optimality"](records)


def test_bars_of_optimality_are_sorted(three):
    [axes] = FIGURES["optimality"](three).axes
    widths = [patch.get_width() for patch in axes.patches]
    assert widths == sorted(widths, reverse=True)
    np.testing.assert_allclose(sorted(Alone.of(three, "linf").optimality()), sorted(widths))


# --- experiments with the network -----------------------------------------------------------------


@pytest.fixture(scope="module")
def probed():
    return synthetic.make("one", images=200)


def test_convergence_is_drawn_against_gradients_and_against_seconds(probed):
    by_work, by_time, *_ = FIGURES["convergence"](probed).axes
    pgd = labelled(by_work, "pgd40-linf")
    curve = probed.panels["convergence/linf/accuracy"][1]
    np.testing.assert_allclose(pgd.get_ydata(), curve[1:31])  # it stopped after 30
    np.testing.assert_array_equal(pgd.get_xdata(), np.arange(1, 31))
    # 0.03 s for 30 gradients of 40 images are 0.025 s a gradient of a thousand.
    np.testing.assert_allclose(labelled(by_time, "pgd40-linf").get_xdata()[-1], 0.75)
    assert labelled(by_work, "apgd100-ce-linf").get_color() != pgd.get_color()


def test_the_longest_step_stands_on_top_and_the_lowest_cells_are_marked(probed):
    axes = FIGURES["step_grid"](probed).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.1", "0.01"]
    assert [text.get_text() for text in axes.texts] == ["80", "60", "50", "90", "80", "70"]
    [mark] = axes.lines
    assert (int(mark.get_xdata()[0]), int(mark.get_ydata()[0])) == (2, 0)


# --- radii by class -------------------------------------------------------------------------------


def radii_of(upper, reached):
    upper, reached = np.asarray(upper, float), np.asarray(reached, np.int64)
    blank = np.full(upper.shape, "")
    return Radii("linf", np.zeros(upper.shape), upper, blank, blank, reached)


def test_quantiles_of_a_class_leave_out_mistakes_and_know_infinity():
    labels = np.array([0] * 21 + [1])
    radii = radii_of([0.0, *np.arange(1, 20), INF, 5.0], [1] * 22)
    # Of 20 right answers, 1 to 19 and infinity.
    np.testing.assert_array_equal(class_radii.quantiles([radii], labels, 0), [1, 5, 10, 15, 19])
    radii = radii_of([0.0, *np.arange(1, 18), INF, INF, INF, 5.0], [1] * 22)
    assert class_radii.quantiles([radii], labels, 0)[-1] == INF
    assert np.isnan(class_radii.quantiles([radii], labels, 7)).all()


def test_the_median_of_a_pair_needs_ten_broken_images():
    labels = np.array([3] * 25)
    upper = [0.0, INF, *np.arange(1, 12), *np.arange(1, 10), 7.0, 8.0, 9.0]
    reached = [5, -1, *[5] * 11, *[6] * 9, 7, 7, 7]
    medians = class_radii.pair_medians([radii_of(upper, reached)], labels)
    assert medians[3, 5] == 6
    assert np.isfinite(medians).sum() == 1


def test_whiskers_that_go_on_have_an_arrow():
    upper = np.where(np.arange(40) % 4 == 0, INF, 0.1)
    labels = np.tile(np.arange(2), 20)
    boxes = FIGURES["class_radii"](
        records_of({"a-linf": upper, "b-linf": upper}, labels=labels)
    ).axes[0]
    arrows = [line for line in boxes.lines if line.get_marker() == ">"]
    assert [line.get_ydata()[0] for line in arrows] == [0]  # every second image of class 0


# --- sentences ------------------------------------------------------------------------------------


def standing(broken, images=1000, eps=0.2):
    """Sizes of which the first `broken` are within eps."""
    return np.where(np.arange(images) < broken, eps, INF)


def test_the_report_says_where_pgd_misses_what_others_find():
    found = {
        "pgd40-linf": standing(200), "fgsm-linf": standing(100), "ddn100-linf": standing(600),
        "fmn100-linf": standing(300), "cw-linf": standing(240),
    }  # fmt: skip
    [sentence] = _attacks.warnings(records_of(found))
    assert "at eps 0.2 pgd40-linf leaves 80.0 % of 1,000 images standing" in sentence
    assert "ddn100-linf 40.0 %, which is 40.0 points below" in sentence
    assert "fmn100-linf by 10.0 at 0.2" in sentence
    assert "fgsm" not in sentence
    assert "cw" not in sentence  # 4 points are not far


def test_attacks_that_miss_little_each_may_together_be_far_below_pgd():
    """Two break 45 images each, and none in common: 4.5 points alone, 9 together."""
    found = {
        "pgd40-linf": standing(0), "ddn100-linf": standing(45), "fmn100-linf": standing(45)[::-1]
    }  # fmt: skip
    [sentence] = _attacks.warnings(records_of(found))
    assert "all attacks together 91.0 %, which is 9.0 points below" in sentence
    assert "So are" not in sentence
    assert _attacks.warnings(records_of(found | {"pgd40-linf": standing(45)})) == []


def test_a_gap_counts_if_its_whole_interval_does():
    """60 of 1,000 images are 6 points, give or take 1.5."""
    for broken, certain in ((60, False), (80, True)):
        found = {"pgd40-linf": standing(0), "ddn100-linf": standing(broken)}
        assert bool(_attacks.warnings(records_of(found))) == certain


def test_the_best_of_pgd_is_what_others_are_held_to():
    found = {
        "pgd40-linf": standing(0), "pgd20-targeted-linf": standing(590), "fmn-linf": standing(600)
    }  # fmt: skip
    assert _attacks.warnings(records_of(found)) == []


def test_a_gap_must_be_there_in_every_network():
    two = lambda *broken: np.stack([standing(count) for count in broken])
    found = {"pgd40-linf": two(0, 0), "fmn100-linf": two(600, 30)}
    assert _attacks.warnings(records_of(found, seeds=2)) == []
    found = {"pgd40-linf": two(0, 0), "fmn100-linf": two(600, 500)}
    [sentence] = _attacks.warnings(records_of(found, seeds=2))
    assert "55.0 points below" in sentence
    assert "of all networks" in sentence


def test_a_run_without_pgd_has_no_such_sentence():
    found = {"fgsm-linf": standing(0), "fmn100-linf": standing(600)}
    assert _attacks.warnings(records_of(found)) == []
    assert _attacks.warnings(synthetic.trained_only()) == []


def test_what_was_never_broken_is_estimated_from_attacks_and_restarts():
    """Two attacks on six images, and two restarts on the five of them that were looked at."""
    records = records_of({"a-linf": STRONG, "b-linf": OTHER})
    panels = {
        "uint8/linf": np.array([3, 4]), "probe/linf/eps": np.asarray(0.2),
        "probe/linf/places": np.array([0, 1, 3, 4, 5]),
        "restarts/linf/broken": np.array([[False, False, False, True, False], [False] * 5]),
    }  # fmt: skip
    records = dataclasses.replace(records, panels=records.panels | panels)
    [summary] = _attacks.summaries(records)
    assert (summary.norm, summary.survive, summary.wrong) == ("Linf", "75.0 %", "4")
    # Image 1 twice, 3 and 4 once, 5 never: 3/4 of 2 * 1 / (2 * 2), and at most the one left.
    assert (summary.images, summary.broken, summary.once) == ("5", "3", "2")
    assert re.fullmatch(r"0\.4 \(0\.\d to 1\.0\)", summary.unseen)


def test_a_run_that_was_not_looked_at_has_no_summary():
    assert _attacks.summaries(synthetic.trained_only()) == []
    records = records_of(THREE)
    kept = {k: v for k, v in records.panels.items() if not k.startswith(("probe/", "restarts/"))}
    [summary] = _attacks.summaries(dataclasses.replace(records, panels=kept))
    assert (summary.survive, summary.unseen) == ("83.3 %", "-")
