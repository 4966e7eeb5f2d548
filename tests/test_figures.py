"""Figures are held to the numbers they draw, artist by artist."""

import dataclasses
import itertools
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import synthetic_records as synthetic
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from robust_mnist import statistics
from robust_mnist.data.pixels import to_float
from robust_mnist.figures import FIGURES, OVERLAYS, _curves, _images, _save, _style, plot, save, svg
from robust_mnist.figures.training import METRICS, training_curves


SWEPT = [name for name in FIGURES if name not in {"training", "digits"}]


@pytest.fixture(scope="module")
def records():
    return synthetic.make("one", images=200)


@pytest.fixture(scope="module")
def several():
    """A run of four networks in one norm, whose lab attack fooled nobody."""
    return synthetic.make("four", seeds=4, norms=("linf",), smallest=None, images=200)


class Drawn(dict):
    """Figures of one run, each drawn when a test first asks for it."""

    def __init__(self, records):
        super().__init__()
        self.records = records

    def __missing__(self, name):
        self[name] = FIGURES[name](self.records)
        return self[name]


@pytest.fixture(scope="module")
def drawn(records):
    return Drawn(records)


def labelled(axes, label):
    """The one line, area or container of `axes` whose label begins so."""
    artists = [*axes.lines, *axes.collections, *axes.containers]
    [found] = [artist for artist in artists if str(artist.get_label()).startswith(label)]
    return found


def texts(figure):
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def edges(area):
    """Corners of a filled area: lowest and highest y for each x."""
    corners = pd.DataFrame(area.get_paths()[0].vertices, columns=["x", "y"])
    return corners.groupby("x")["y"].agg(["min", "max"])


# --- every figure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_no_panel_is_empty(name, drawn):
    for axes in drawn[name].axes:
        assert axes.has_data() or axes.texts


@pytest.mark.parametrize("name", FIGURES)
def test_the_heading_names_the_run_and_the_data(name, drawn):
    assert "run one" in texts(drawn[name])
    assert "mnist" in texts(drawn[name])


@pytest.mark.parametrize("name", SWEPT)
def test_a_run_without_the_data_has_no_such_figure(name):
    assert FIGURES[name](synthetic.trained_only()) is None


def test_a_run_without_anything_has_no_figure_at_all():
    bare = dataclasses.replace(
        synthetic.trained_only(), history=pd.DataFrame(), rows=pd.DataFrame(), panels={}
    )
    assert [name for name, chart in FIGURES.items() if chart(bare) is not None] == []


def test_names_that_look_like_formulas_or_have_no_letters_in_the_font_are_drawn():
    records = synthetic.trained_only("$x_{ <b> \N{SNOWMAN} \N{GRINNING FACE} \u6570")
    figure = FIGURES["digits"](records)
    svg(figure, "digits")  # warnings about missing letters are errors here
    assert r"\$x_{ <b> \N{SNOWMAN}" in texts(figure).replace("\u2603", r"\N{SNOWMAN}")


def test_drawing_leaves_no_style_behind(records):
    before = dict(mpl.rcParams)
    FIGURES["digits"](records)
    assert dict(mpl.rcParams) == before


def test_a_method_has_one_color_in_every_figure(drawn):
    robust = labelled(drawn["robust_accuracy"].axes[0], "fgsm-linf alone")
    plain = next(a for a in drawn["step_size"].axes if a.get_title("left") == "fgsm-linf")
    assert to_hex(robust.lines[0].get_color()) == to_hex(labelled(plain, "plain").get_color())
    for norm in ("linf", "l2"):
        assert _style.method_color(f"unheard-of-{norm}") == _style.method_color("unheard-of")
        assert _style.method_color(f"pgd40-{norm}") == _style.BLUE


def test_figures_need_no_jax():
    code = (
        "import sys, pandas; from robust_mnist import figures, report;"
        "row = {'epoch': 1, 'seed': 0, 'train_cross_entropy': 1.0, 'valid_cross_entropy': 1.0,"
        "'valid_mse': .1, 'valid_accuracy': .5};"
        "figures.svg(figures.training_curves(pandas.DataFrame([row])), 'a');"
        "sys.exit(int('jax' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- files ----------------------------------------------------------------------------------------


def test_saving_twice_gives_the_same_files_and_nothing_else(tmp_path, records):
    for folder in ("a", "b"):
        save(FIGURES["digits"](records), tmp_path / folder, "digits")
    names = ["digits.png", "digits.svg"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_svg_holds_neither_date_nor_script_nor_font(drawn):
    text = svg(drawn["training"], "training")
    assert "<dc:date>" not in text
    assert "<script" not in text
    assert "font-family" not in text  # letters are outlines


def test_an_svg_places_its_lines_to_a_hundredth_of_a_point():
    figure = Figure(figsize=(4, 3), dpi=72)
    axes = figure.subplots()
    axes.plot([0, 1 / 3, 1], [0, 1 / 7, 1], color="#123456")
    [path] = re.findall(r'<path d="([^"]*)"[^>]*stroke: #123456', svg(figure, "line"))
    found = np.array([word for word in path.split() if word not in "ML"], dtype=float)
    expected = axes.transData.transform(axes.lines[0].get_xydata())
    expected[:, 1] = 3 * 72 - expected[:, 1]  # SVG counts from the top
    np.testing.assert_allclose(found.reshape(-1, 2), expected, atol=0.01)
    assert all(len(word.partition(".")[2]) <= 2 for word in path.split())


# --- single figures -------------------------------------------------------------------------------


def test_digits_are_the_panels_images_under_their_labels(drawn, records):
    axes = drawn["digits"].axes
    assert len(axes) == 30
    for panel, image, label in zip(
        axes, records.panels["digits/images"], records.panels["digits/labels"], strict=True
    ):
        np.testing.assert_array_equal(panel.images[0].get_array(), image.reshape(28, 28))
        assert panel.get_title() == str(label)


def test_training_curves_are_the_history_on_two_logarithmic_axes(drawn, records):
    [axes] = drawn["training"].axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    for column, (label, _, _) in METRICS.items():
        line = labelled(axes, label)
        np.testing.assert_array_equal(line.get_xdata(), records.history["epoch"])
        np.testing.assert_allclose(line.get_ydata(), records.history[column])
    last = records.history["valid_accuracy"].iloc[-1]
    assert f"epoch 500, validation accuracy {100 * last:.1f} %" in texts(drawn["training"])


def test_training_bands_reach_from_the_lowest_to_the_highest_seed(several):
    figure = FIGURES["training"](several)
    [axes] = figure.axes
    assert len(axes.collections) == len(METRICS)
    for band, column in zip(axes.collections, METRICS, strict=True):
        expected = several.history.groupby("epoch")[column].agg(["min", "max"])
        np.testing.assert_allclose(edges(band), expected)
    assert "mean of 4 networks; bands: from the lowest to the highest" in texts(figure)


@pytest.mark.parametrize("decades", [1, 4, 9])
def test_the_labels_of_a_training_curve_keep_their_distance(decades):
    history = synthetic.history()
    history["train_cross_entropy"] *= 10.0 ** -(decades * history["epoch"] / 500)
    figure = training_curves(history)
    figure.draw_without_rendering()
    [axes] = figure.axes
    low, high = axes.get_ylim()
    boxes = [
        label.get_window_extent()
        for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert len(boxes) >= 2
    for below, above in itertools.pairwise(sorted(boxes, key=lambda box: box.y0)):
        assert below.y1 < above.y0


def test_training_curves_can_be_drawn_from_the_first_record_on():
    first = synthetic.history().head(1)
    zero = first.assign(epoch=0)
    for history in (first, zero, pd.concat([zero, first])):
        svg(training_curves(history), "training")


def test_the_predicted_bar_is_green_where_right_and_red_where_wrong(drawn, records):
    labels = records.panels["test/labels"]
    predicted = records.panels["test/probabilities"].argmax(axis=1)
    assert 0 < np.sum(predicted == labels) < 40  # both kinds are there
    panels = drawn["predictions"].axes
    assert len(panels) == 80
    for image, chart, label, choice in zip(
        panels[::2], panels[1::2], labels, predicted, strict=True
    ):
        [bars] = [one for one in chart.containers if isinstance(one, BarContainer)]
        colors = [to_hex(bar.get_facecolor()) for bar in bars]
        right = choice == label
        assert colors[choice] == (_images.RIGHT if right else _images.WRONG)
        assert colors.count(_style.BLUE) == 9
        # And without colour: a mark in the title, a hatch on the bar.
        assert image.get_title() == (f"{label} ✓" if right else f"{label} ✗ {choice}")
        assert [bar.get_hatch() for bar in bars].count("////") == (0 if right else 1)
    assert f"{np.sum(predicted == labels)} of the first 40" in texts(drawn["predictions"])


def test_the_lab_attack_has_a_row_of_five_for_each_step_and_does_not_clip(drawn, records):
    axes = drawn["lab_attack"].axes
    assert len(axes) == 10
    for row in range(2):
        attacked = records.panels["lab/attacked"][row]
        np.testing.assert_array_equal(
            axes[5 * row + 3].images[0].get_array(), attacked.reshape(28, 28)
        )
    assert attacked.min() < 0
    assert "step 1234 is the smallest" in texts(drawn["lab_attack"])
    assert "unclipped" in texts(drawn["lab_attack"])
    assert "uses the image clipped" in FIGURES["lab_attack"].limits


def test_universal_perturbations_stand_under_their_shares_and_above_those_of_pairs(drawn, records):
    *images, matrix = drawn["universal"].axes
    panels = records.panels
    assert len(images) == 11
    for place, axes in enumerate(images):
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown.ravel(), panels["universal/perturbations"][place])
    share = f"{100 * panels['universal/fooled'][3]:.1f} %"
    assert images[3].get_title("center") == f"3: {share}"
    assert images[10].get_title("center") == "all: -"
    numbers = matrix.collections[0].get_array().reshape(10, 10)
    np.testing.assert_allclose(numbers[2, 7], 100 * panels["universal/flow"][2, 7])
    assert "Linf eps 0.1" in texts(drawn["universal"])
    in_l2 = {"universal/norm": np.asarray("l2"), "universal/eps": np.asarray(2.0)}
    other = dataclasses.replace(records, panels=panels | in_l2)
    assert "L2 eps 2" in texts(FIGURES["universal"](other))


def test_the_lab_attack_says_so_when_no_step_fools_the_network(several):
    figure = FIGURES["lab_attack"](several)
    assert len(figure.axes) == 5
    assert "no step up to 1e+16 fools" in texts(figure)


def test_the_step_without_a_ball_has_a_logarithmic_axis_and_the_others_eps(drawn, records):
    first, *others = drawn["step_size"].axes
    assert first.get_title("left").startswith("gradient-step")
    assert first.get_xscale() == "log"
    assert [axes.get_title("left") for axes in others] == ["fgsm-linf", "fgm-l2"]
    for axes, norm in zip(others, ("linf", "l2"), strict=True):
        assert axes.get_xscale() == "linear"
        worst = labelled(axes, "worst case")
        expected = statistics.survival(records.radii[f"upper/{norm}"], worst.get_xdata())
        np.testing.assert_allclose(worst.get_ydata(), expected)


def test_the_plain_reading_is_the_rows_with_their_wilson_band(drawn, records):
    rows = records.rows
    for axes in drawn["step_size"].axes:
        method = axes.get_title("left").split()[0]
        expected = rows[(rows["kind"] == "step") & (rows["method"] == method)]
        np.testing.assert_allclose(labelled(axes, "plain").get_ydata(), expected["accuracy"])
        np.testing.assert_allclose(edges(labelled(axes, "95 %")), expected[["low", "high"]])


def test_the_curve_of_an_attack_ends_where_it_was_last_run(records):
    rows = records.rows
    late = (rows["method"] == "pgd40-linf") & (rows["eps"] > 0.04)
    axes = FIGURES["robust_accuracy"](dataclasses.replace(records, rows=rows[~late])).axes[0]
    end = lambda method: labelled(axes, f"_{method}").get_xdata()[-1]
    last = rows[~late & (rows["method"] == "pgd40-linf")]["eps"].max()
    assert end("pgd40-linf") == last < end("fgsm-linf")


@pytest.mark.parametrize(("panel", "norm"), [(0, "linf"), (1, "l2")])
def test_the_worst_case_is_the_exact_survival_function(panel, norm, drawn, records):
    axes = drawn["robust_accuracy"].axes[panel]
    upper, end = records.radii[f"upper/{norm}"], synthetic.GRIDS[norm][-1]
    line = labelled(axes, "worst case")
    assert line.get_drawstyle() == "steps-post"
    jumps = np.unique(upper[(upper > 0) & (upper < end)])
    np.testing.assert_array_equal(line.get_xdata(), [0, *jumps, end])
    shares = [np.mean(upper > eps) for eps in line.get_xdata()]
    np.testing.assert_allclose(line.get_ydata(), shares, atol=1e-12)
    assert np.all(np.diff(line.get_ydata()) <= 0)


def test_the_band_has_the_kolmogorov_half_width_and_stays_within_0_and_1(drawn):
    axes = drawn["robust_accuracy"].axes[0]
    half = statistics.band_half_width(200)
    line, band = labelled(axes, "worst case"), edges(labelled(axes, "95 % band"))
    accuracy = pd.Series(line.get_ydata(), line.get_xdata())
    at = band.index[1:-1]  # an edge of a step carries two heights
    steps = accuracy.reindex(at).dropna()
    assert len(steps) > 3
    np.testing.assert_allclose(
        band.loc[steps.index, "min"], np.clip(steps - half, 0, 1), atol=1e-12
    )
    assert band.to_numpy().min() >= 0
    assert band.to_numpy().max() <= 1
    assert f"±{100 * half:.1f} points" in texts(drawn["robust_accuracy"])


def test_radii_alone_can_be_plotted(records):
    [radii] = records.radii_of("linf")
    [axes] = plot(radii).axes
    line = labelled(axes, "worst case")
    assert line.get_xdata()[-1] == pytest.approx(0.1)  # the largest radius known
    np.testing.assert_allclose(line.get_ydata(), statistics.survival(radii.upper, line.get_xdata()))
    labelled(axes, "certified")


def test_certified_accuracy_starts_at_the_right_answers_and_leaves_an_open_region(drawn, records):
    axes = drawn["robust_accuracy"].axes[0]
    lower = records.radii["lower/linf"]
    line = labelled(axes, "certified")
    assert line.get_ydata()[0] == pytest.approx(np.mean(lower >= 0))
    inside = slice(1, -1)
    np.testing.assert_allclose(
        line.get_ydata()[inside], [np.mean(lower > eps) for eps in line.get_xdata()[inside]]
    )
    labelled(axes, "open")
    l2 = drawn["robust_accuracy"].axes[1]
    assert not [one for one in l2.lines if str(one.get_label()).startswith("certified")]


def test_markers_are_the_rows_of_each_method(drawn, records):
    rows = records.rows
    for axes, norm in zip(drawn["robust_accuracy"].axes, ("linf", "l2"), strict=True):
        for method in synthetic.METHODS[norm]:
            chosen = rows[(rows["kind"] == "attacked") & (rows["method"] == method)]
            points = labelled(axes, f"{method} alone").lines[0]
            np.testing.assert_allclose(points.get_xydata(), chosen[["eps", "accuracy"]])


def test_seeds_are_drawn_one_by_one_with_mean_and_range(several):
    [axes] = FIGURES["robust_accuracy"](several).axes
    upper = several.radii["upper/linf"]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.5]
    assert len(thin) == 4
    for line, radii in zip(thin, upper, strict=True):
        np.testing.assert_allclose(line.get_ydata(), statistics.survival(radii, line.get_xdata()))
    mean = labelled(axes, "their mean")
    np.testing.assert_allclose(
        mean.get_ydata(),
        np.mean([statistics.survival(radii, mean.get_xdata()) for radii in upper], axis=0),
    )
    labelled(axes, "from the lowest to the highest of 4 networks")
    sampling = labelled(axes, "95 % band of one network")
    [low, high] = sampling.lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * statistics.band_half_width(200))


def test_a_row_of_the_confusion_flow_is_the_whole_class(records):
    from robust_mnist.figures.confusion_flow import flow

    labels = records.panels["flow/labels"].astype(np.int64)
    radii = records.radii_of("linf")
    for eps in synthetic.GRIDS["linf"]:
        shares = flow(radii, labels, eps)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        right = [np.mean(radii[0].upper[labels == digit] > eps) for digit in range(10)]
        np.testing.assert_allclose(np.diag(shares), right)


def test_the_confusion_flow_starts_at_0_and_grows(drawn):
    titles = [axes.get_title("left") for axes in drawn["confusion_flow"].axes]
    for norm in ("Linf", "L2"):
        eps = [float(t.split()[2].rstrip(":")) for t in titles if t.startswith(norm)]
        assert eps[0] == 0
        assert len(eps) == 4
        assert eps == sorted(set(eps))


def test_the_gallery_shows_original_witness_and_difference(drawn, records):
    axes = drawn["gallery"].axes
    assert len(axes) == 2 * 2 * 10 * 3
    original, witness, difference = axes[:3]
    image = records.panels["gallery/linf/images"][0].reshape(28, 28)
    found = records.panels["gallery/linf/witnesses"][0].reshape(28, 28)
    np.testing.assert_array_equal(original.images[0].get_array(), image)
    np.testing.assert_array_equal(witness.images[0].get_array(), found)
    np.testing.assert_allclose(difference.images[0].get_array(), found - to_float(image))
    radius = records.panels["gallery/linf/upper"][0]
    assert f"r ≤ {radius:.3g}" in original.get_title()


def test_the_gallery_tells_unbroken_images_and_classes_without_a_right_answer(records):
    panels = dict(records.panels)
    for name in ("images", "witnesses", "labels", "reached", "upper"):
        array = panels[f"gallery/linf/{name}"]
        panels[f"gallery/linf/{name}"] = np.delete(array, [3, 13], axis=0)  # nobody reads a 3
    panels["gallery/linf/upper"] = panels["gallery/linf/upper"].copy()
    panels["gallery/linf/upper"][0] = np.inf
    panels["gallery/linf/witnesses"] = panels["gallery/linf/witnesses"].copy()
    panels["gallery/linf/witnesses"][0] = np.nan
    figure = FIGURES["gallery"](dataclasses.replace(records, panels=panels))
    assert figure.axes[0].get_title() == "0\nnone up to 0.1"
    assert [axes.texts[0].get_text() for axes in figure.axes[1:3]] == ["none\nfound"] * 2
    assert figure.axes[9].get_title() == "3\nnone right"
    assert figure.axes[12].get_title().startswith("4 →")


# --- curves ---------------------------------------------------------------------------------------


def test_a_staircase_has_every_corner_and_no_other():
    stairs = _curves.staircase(np.array([0.0, 0.1, 0.1, 0.3, np.inf]), end=0.2)
    np.testing.assert_array_equal(stairs.x, [0, 0.1, 0.2])
    np.testing.assert_allclose(stairs.y, [0.8, 0.4, 0.4])


def test_a_certified_staircase_counts_a_radius_up_to_itself():
    first = np.array([-np.inf, 0.0, 0.1, 0.2])
    stairs = _curves.certified([first], end=0.2)
    np.testing.assert_array_equal(stairs.x, [0, 0, 0.1, 0.2])
    np.testing.assert_allclose(stairs.y, [0.75, 0.5, 0.25, 0.25])
    mean = _curves.certified([first, np.array([0.0, 0.0, 0.0, 0.1])], end=0.2)
    np.testing.assert_array_equal(mean.x, stairs.x)
    np.testing.assert_allclose(mean.y, [0.875, 0.375, 0.125, 0.125])


def test_straight_lines_are_named_and_lead_through_the_same_points(records, monkeypatch):
    stairs = "M 1 2 \nL 3 2 \nL 3 4 \nL 5 6 \nC 1 2 3 4 5 7 \nL 5 8 \nz\nM 5 8 \nL 9 8 "
    short = "M 1 2 \nH 3 \nV 4 \nL 5 6 \nC 1 2 3 4 5 7 \nL 5 8 \nz\nM 5 8 \nH 9 "
    assert _save._straight(stairs) == short

    def points(text):
        for path in re.findall(' d="([^"]+)"', text):
            place = ["", ""]
            for command, *numbers in map(str.split, filter(str.strip, path.split("\n"))):
                over, up = command == "H", command == "V"
                place = [*numbers, place[1]] if over else [place[0], *numbers] if up else numbers
                yield place

    ours = svg(FIGURES["robust_accuracy"](records), "a")
    monkeypatch.setattr(_save, "_straight", lambda path: path)
    whole = svg(FIGURES["robust_accuracy"](records), "a")
    assert list(points(ours)) == list(points(whole))
    assert len(ours) < 0.95 * len(whole)


def test_thinning_moves_no_curve_visibly_and_keeps_its_jumps():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(size=20_000))
    smooth = np.linspace(1, 0.5, x.size)
    jump = np.where(np.arange(x.size) < 12_345, 0.9, 0.1)
    kept, *curves = _curves.thin(x, smooth, jump)
    assert kept.size < 1_000
    for thinned, exact in zip(curves, (smooth, jump), strict=True):
        seen = thinned[np.searchsorted(kept, x, side="right") - 1]
        assert np.max(np.abs(seen - exact)) < 0.0041


# --- several runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(records):
    return [records, synthetic.make("two", salt=1, images=200)]


def test_an_overlay_has_the_curve_of_every_run(runs):
    figure = OVERLAYS["overlay_robust_accuracy"](runs)
    assert len(figure.axes) == 2
    for axes, norm in zip(figure.axes, ("linf", "l2"), strict=True):
        for records in runs:
            line = labelled(axes, f"{records.name} (±")
            expected = statistics.survival(records.radii[f"upper/{norm}"], line.get_xdata())
            np.testing.assert_allclose(line.get_ydata(), expected)
    assert len(OVERLAYS["overlay_training"](runs).axes) == 4


def test_paired_differences_are_counted_image_by_image(runs):
    from robust_mnist.figures import differences

    found = differences(runs)
    assert len(found) == len(synthetic.GRIDS["linf"]) + len(synthetic.GRIDS["l2"])
    for row in found.itertuples():
        first, second = (records.radii[f"upper/{row.norm}"] > row.eps for records in runs)
        assert row.only_first == np.sum(first & ~second)
        assert row.only_second == np.sum(second & ~first)
        assert row.difference == pytest.approx((row.only_second - row.only_first) / 200)
        assert row.low <= row.difference <= row.high
    figure = OVERLAYS["paired_differences"](runs)
    for axes, norm in zip(figure.axes, ("linf", "l2"), strict=True):
        points = labelled(axes, "two minus one").lines[0]
        expected = 100 * found.loc[found["norm"] == norm, "difference"]
        np.testing.assert_allclose(points.get_xydata()[:, 1], expected)


def test_runs_are_compared_where_both_were_attacked(records):
    from robust_mnist.figures import differences

    other = synthetic.make("two", salt=1, images=200)
    spared = other.rows[other.rows["eps"] != 0.01]
    other = dataclasses.replace(other, rows=spared)
    found = differences([records, other])
    assert 0.01 not in set(found.loc[found["norm"] == "linf", "eps"])


def test_runs_without_a_common_norm_have_nothing_to_compare(records):
    runs = [records, synthetic.trained_only()]
    assert OVERLAYS["overlay_robust_accuracy"](runs) is None
    assert OVERLAYS["paired_differences"](runs) is None
    assert OVERLAYS["overlay_training"](runs) is not None
