"""What lies between proven and broken: its area, where it is closed, what the page says of it."""

import dataclasses
import io

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
import synthetic_records as synthetic
from test_report import Page, check_standing_alone

from robust_mnist import statistics
from robust_mnist.figures import FIGURES, thumbnail
from robust_mnist.records import ABOUT_CERTIFICATES, Sandwich
from robust_mnist.report import _certificates, _closed, _commands, _facts, _one, _open_images


GRID = synthetic.GRIDS["linf"]
CLOSED = {
    "norm": "linf", "eps": 0.02, "seed": 0, "images": 50, "certified": 30, "attacked": 19,
    "open": 1, "domains": 1_234, "seconds": 2.0, "compile_seconds": 7.5,
}  # fmt: skip


def known(lower, upper, certifier="crown-linf", **radii):
    """A run in which the bounds are these, in Linf and on the usual grid."""
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    records = synthetic.make("known", images=lower.shape[-1], norms=("linf",), seeds=_seeds(lower))
    named = np.where(lower > 0, certifier, np.where(lower == 0, "clean", ""))
    arrays = {"lower/linf": lower, "upper/linf": upper, "certifier/linf": named, **radii}
    return dataclasses.replace(records, radii=records.radii | arrays)


def _seeds(array):
    return 1 if array.ndim == 1 else len(array)


def closed_at(records, eps):
    """The same run after branch and bound has proven every image that was open at `eps`."""
    lower, upper = records.radii["lower/linf"], records.radii["upper/linf"]
    is_open = (lower < eps) & (upper > eps)
    certifier = np.where(is_open, "beta-crown-linf", records.radii["certifier/linf"])
    found = {"lower/linf": np.where(is_open, eps, lower), "certifier/linf": certifier}
    return dataclasses.replace(records, radii=records.radii | found)


def page_of(records):
    blank = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'
    drawings = dict.fromkeys(FIGURES) | {"sandwich": blank}
    return Page(_one.page(records, drawings, "runs/known"))


# --- the area of the gap --------------------------------------------------------------------------


def test_the_area_of_the_gap_is_the_mean_length_of_what_is_left_of_each_interval():
    # A mistake, a closed one, two that are open, one never broken, one proven beyond the grid.
    lower = [-np.inf, 0.02, 0.0, 0.01, 0.03, 0.2]
    upper = [0.0, 0.02 + 1e-12, 0.01, 0.04, np.inf, np.inf]
    sandwich = Sandwich.of(known(lower, upper), "linf")
    assert sandwich.end == GRID[-1] == 0.1
    np.testing.assert_allclose(sandwich.widths[0], [0, 0, 0.01, 0.03, 0.07, 0], atol=1e-9)
    assert sandwich.area.value == pytest.approx(0.11 / 6)


def test_the_area_is_that_between_the_curves():
    records = synthetic.make("one", images=200, norms=("linf",))
    sandwich = Sandwich.of(records, "linf")
    [radii] = records.radii_of("linf")
    eps = (np.arange(100_000) + 0.5) / 100_000 * sandwich.end
    between = radii.attacked_accuracy(eps) - radii.certified_accuracy(eps)
    assert sandwich.area.value == pytest.approx(between.mean() * sandwich.end, rel=1e-4)


def test_the_area_of_several_networks_pairs_them_on_their_images():
    """Two networks whose errors cancel image by image leave no sampling error."""
    lower = np.array([[0.01] * 20 + [0.02] * 20, [0.02] * 20 + [0.01] * 20])
    area = Sandwich.of(known(lower, np.full((2, 40), 0.03)), "linf").area
    np.testing.assert_allclose(area, 0.015)


def test_a_run_that_is_closed_everywhere_has_no_gap():
    lower = np.array([0.005, 0.02, -np.inf])
    upper = np.where(lower > 0, np.nextafter(lower, 1), 0.0)
    sandwich = Sandwich.of(known(lower, upper), "linf")
    np.testing.assert_allclose(sandwich.area, 0, atol=1e-12)
    assert sandwich.exact == list(GRID[1:])


def test_what_nobody_certified_has_no_sandwich():
    records = synthetic.make("one", images=50)
    assert Sandwich.of(records, "l2") is None  # swept, and nothing proven
    assert Sandwich.of(records, "l1") is None  # not swept
    assert Sandwich.of(synthetic.trained_only(), "linf") is None


@pytest.mark.parametrize(("share", "images"), [(0.9, 200), (0.02, 400), (0.002, 5_000)])
def test_the_interval_of_a_mean_holds_it_in_95_of_100_samples_also_where_few_images_are_open(
    share, images
):
    rng = np.random.default_rng(0)
    hits, samples = 0, 1_000
    for _ in range(samples):
        values = np.zeros(images)
        count = rng.binomial(images, share)
        values[:count] = rng.exponential(size=count)
        low, high = statistics.mean_interval(values)
        hits += low <= share <= high
    assert 0.93 < hits / samples < 0.98


def test_the_interval_of_a_mean_is_students_where_nothing_is_skewed():
    values = np.tile([0.0, 1.0], 50)
    half = 1.959964 * np.std(values, ddof=1) / 10
    np.testing.assert_allclose(statistics.mean_interval(values), [0.5 - half, 0.5 + half])
    low, high = statistics.mean_interval(np.append(np.zeros(99), 1.0))
    other = statistics.mean_interval(np.append(np.ones(99), 0.0))
    np.testing.assert_allclose(other, [1 - high, 1 - low])
    assert high - 0.01 > 0.01 - low  # the longer arm is on the side of the rare and large
    assert statistics.mean_interval(np.full(3, 0.25)) == (0.25, 0.25)


# --- certifiers -----------------------------------------------------------------------------------


def test_a_certifier_adds_what_no_cheaper_one_proves_and_together_they_prove_what_is_proven():
    cheap, dear = np.array([0.01, 0.02, -np.inf, 0.03]), np.array([0.02, 0.02, 0.02, 0.005])
    records = known(
        [0.02, 0.02, 0.03, 0.03], [np.inf] * 4, ["dear", "cheap", "last", "cheap"],
        **{"lower/linf/dear": dear, "lower/linf/cheap": cheap},
    )  # fmt: skip
    cost = {"cells": 1.0, "compile_seconds": 3.0}
    cells = {"linf/dear": cost | {"seconds": 8.0}, "linf/cheap": cost | {"seconds": 0.5}}
    records = dataclasses.replace(records, info=records.info | {"cells": cells})
    sandwich = Sandwich.of(records, "linf")
    # What was run on open images alone has no cost of its own, and comes last.
    assert list(sandwich.alone) == ["cheap", "dear", "last"]
    assert sandwich.added(0.02) == {"cheap": 2, "dear": 2, "last": 0}
    assert sandwich.added(0.03) == {"cheap": 1, "dear": 0, "last": 1}
    for eps in GRID[1:]:
        assert sum(sandwich.added(eps).values()) == int(np.sum(sandwich.radii[0].lower >= eps))
    first, second, third = _certificates.certifiers(records, sandwich)
    assert (first.name, first.median, first.rate) == ("cheap", "0.015", "8")
    assert (second.seconds, second.compiling, second.rate) == ("8.0", "3.0", "0")
    assert (third.name, third.median, third.seconds, third.rate) == ("last", "-", "-", "-")
    assert third.proven[-1] == "1"


def test_what_ran_on_open_images_alone_says_what_it_took_and_on_how_many():
    records = known([0.02, 0.03], [np.inf] * 2, ["dear", "quick"])
    cost = {"cells": 2.0, "settled": 1.0, "compile_seconds": 3.0}
    cells = {
        "linf/dear, on open images": cost | {"images": 4.0, "domains": 1_234.0, "seconds": 8.0},
        "linf/quick, on open images": cost | {"images": 50.0, "domains": 0.0, "seconds": 0.5},
        "linf/pgd40-linf, on open images": cost | {"images": 5.0, "domains": 0.0, "seconds": 0.1},
    }
    counted = {"linf/pgd40-linf": {"forward": 4.0, "backward": 2.0, "close": 0.0, "nonfinite": 0.0}}
    counted["linf/pgd40-linf"] |= {"seconds": 7.0, "compile_seconds": 1.0}
    records = dataclasses.replace(records, info=records.info | {"cells": counted | cells})
    first, second = _certificates.certifiers(records, Sandwich.of(records, "linf"))
    assert (first.name, first.median, first.seconds, first.rate) == ("quick", "-", "0.5", "100")
    assert (second.name, second.median, second.seconds, second.rate) == ("dear", "-", "8.0", "0")
    assert (first.domains, second.domains, second.compiling) == ("", "1,234", "3.0")
    page = page_of(records)
    check_standing_alone(page)
    assert "- 8.0 1,234 domains 3.0 0" in page.text
    # What attacks took there is no part of what the sweep's took, and counts no passes.
    assert _facts.work(records, "linf")["seconds"] == 7.0


# --- the figure -----------------------------------------------------------------------------------


def drawn_texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


def test_the_figure_has_a_panel_for_certified_norms_alone_with_the_gap_over_it():
    records = synthetic.make("one", images=200)
    [axes] = FIGURES["sandwich"](records).axes
    sandwich = Sandwich.of(records, "linf")
    assert axes.get_title("left") == f"Linf norm: gap {sandwich.area.text}"
    [area] = [one for one in axes.collections if str(one.get_label()).startswith("open")]
    assert area.get_paths()[0].vertices[:, 1].max() <= 1
    bands = [one for one in axes.collections if "band" in str(one.get_label())]
    half = statistics.band_half_width(200)
    [radii] = records.radii_of("linf")
    for band, values in zip(bands, (radii.upper, radii.lower), strict=True):
        corners = band.get_paths()[0].vertices
        lowest = corners[corners[:, 0] == 0][:, 1].min()
        assert lowest == pytest.approx(np.mean(values > 0) - half)
    assert FIGURES["sandwich"](synthetic.make("none", certified=False, images=50)) is None


def test_exact_is_stamped_where_no_image_is_open_and_nowhere_else():
    records = synthetic.make("one", images=200, norms=("linf",))
    assert 0.01 not in Sandwich.of(records, "linf").exact
    closed = closed_at(records, 0.01)
    exact, [radii] = Sandwich.of(closed, "linf").exact, closed.radii_of("linf")
    for eps in GRID[1:]:
        assert (eps in exact) == (radii.certified_accuracy([eps]) == radii.attacked_accuracy([eps]))
    figure = FIGURES["sandwich"](closed)
    [axes] = figure.axes
    [marks] = [line for line in axes.lines if str(line.get_label()).startswith("exact")]
    upper = closed.radii["upper/linf"]
    np.testing.assert_array_equal(marks.get_xdata(), exact)
    np.testing.assert_allclose(marks.get_ydata(), [np.mean(upper > eps) for eps in exact])
    assert f"exact {100 * np.mean(upper > 0.01):.1f} %" in drawn_texts(figure)
    assert max(axes.get_yticks()) <= 1


def test_one_open_image_of_one_network_takes_the_stamp_away():
    lower, upper = np.full((2, 4), 0.02), np.full((2, 4), 0.05)
    assert 0.02 in Sandwich.of(known(lower, upper), "linf").exact
    lower[1, 3] = 0.019
    assert 0.02 not in Sandwich.of(known(lower, upper), "linf").exact


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed():
    return closed_at(synthetic.make("one", images=200, norms=("linf",)), 0.02)


def test_the_page_says_the_gap_the_exact_radii_and_each_certifier(closed):
    page, sandwich = page_of(closed), Sandwich.of(closed, "linf")
    check_standing_alone(page)
    assert sandwich.area.text in page.text
    assert "No image is open at eps 0.02" in page.text
    for name in ("ibp-linf", "beta-crown-linf"):
        assert f"{name} {sandwich.added(0.005)[name]:,} of" in page.text
    # In the table of accuracies, beside the radius.
    assert "0.02 exact" in page.text
    assert "0.01 exact" not in page.text
    assert "exact: no image is open" in " ".join(tile["note"] for tile in _one.tiles(closed))


def test_open_images_are_listed_widest_first_with_their_number(closed):
    sandwich = Sandwich.of(closed, "linf")
    found = _open_images.listed(closed, sandwich, None)
    assert found.eps == "0.01"
    assert found.count == int(np.sum(sandwich.open_at(0.01)))
    assert len(found.images) == _open_images.LIMIT < found.count
    lower, upper = closed.radii["lower/linf"], closed.radii["upper/linf"]
    widths = []
    for image in found.images:
        assert lower[image.place] < 0.01 < upper[image.place]
        assert image.label == str(closed.panels["flow/labels"][image.place])
        assert float(image.lower) == pytest.approx(lower[image.place], rel=1e-3, abs=1e-12)
        widths.append(min(upper[image.place], sandwich.end) - lower[image.place])
    assert widths == sorted(widths, reverse=True)
    text = page_of(closed).text
    assert f"Open at eps 0.01: {found.count}, of which the 20 widest" in text


def test_an_open_image_that_was_never_broken_says_so_and_a_closed_radius_lists_none():
    records = known([0.005, 0.005], [np.inf, 0.008])
    [image] = _open_images.listed(records, Sandwich.of(records, "linf"), None).images
    assert (image.upper, image.method, image.reached) == ("\N{INFINITY}", "-", "-")
    assert image.width == "0.0950"
    text = page_of(known([0.01, 0.005], [0.02, 0.008])).text
    assert "No image is open at eps 0.01." in text


def test_open_images_of_several_networks_name_the_seed():
    lower = np.array([[0.005, 0.02], [0.02, 0.001]])
    records = known(lower, np.full((2, 2), 0.03))
    found = _open_images.listed(records, Sandwich.of(records, "linf"), None)
    assert [(image.seed, image.place) for image in found.images] == [("1", 1), ("0", 0)]


def test_pictures_of_open_images_are_those_of_the_package_and_of_no_other_data(closed):
    assert _open_images.pictures(closed) is None  # another hash
    dataset = synthetic.mnist()
    data = closed.info["data"] | {"sha256": dataset.sha256}
    records = dataclasses.replace(closed, info=closed.info | {"data": data})
    images = _open_images.pictures(records)
    np.testing.assert_array_equal(images, dataset.test_images)
    page = page_of(records)
    check_standing_alone(page)
    assert len([tag for tag, _ in page.elements if tag == "img"]) == _open_images.LIMIT
    elsewhere = records.info | {"data": data | {"origin": "embedded", "name": "mine"}}
    assert _open_images.pictures(dataclasses.replace(records, info=elsewhere)) is None


def test_a_thumbnail_holds_every_pixel():
    image = synthetic.mnist().test_images[0]
    read = mpl.image.imread(io.BytesIO(thumbnail(image)))
    np.testing.assert_array_equal(np.rint(255 * read[..., 0]).ravel(), image)


def test_time_and_domains_are_shown_where_a_radius_was_closed(closed):
    kept = [{"domains": n, "seconds": n / 10} for n in [*range(1, 20), 2000]]
    kept.append({"domains": 1, "seconds": None})  # which is open
    entries = [CLOSED, CLOSED | {"eps": 0.03, "open": 0, "per_image": kept}]
    records = dataclasses.replace(closed, info=closed.info | {"closed": entries})
    first, second = _closed.closed(records)
    assert (first.domains, first.seconds, first.open) == ("1,234", "2.0", "1")
    assert first.per_image == [("24.7", ""), ("0.04", "")]
    assert [quantiles for _, quantiles in second.per_image] == ["10 / 19 / 2,000", "1 / 1.9 / 200"]
    page = page_of(records)
    check_standing_alone(page)
    assert "robust-mnist close --run runs/known --norm linf --eps 0.03" in page.text
    assert page.text.count(ABOUT_CERTIFICATES) == 1
    other = [entry | {"eps": 8 / 255} for entry in records.info["closed"]]
    exactly = dataclasses.replace(records, info=records.info | {"closed": other})
    lines = dict(_commands.commands(exactly, "runs/known"))
    assert lines["branch and bound at eps 0.0313725 (Linf)"].endswith(f"--eps {8 / 255!r}")
    assert "Linf 0.03 0 50 30 19 0 exact 1,234 2.0 7.5 24.7 10 / 19 / 2,000" in page.text
    # The radius closed last is the one whose open images are listed.
    assert "pen at eps 0.03" in page.text
    by_name = dataclasses.replace(records, info=records.info | {"closed": dict(enumerate(entries))})
    assert _closed.closed(by_name) == [first, second]
    assert "Branch and bound" not in page_of(closed).text


def test_a_run_without_certificates_has_no_section_and_says_what_makes_one():
    records = synthetic.make("none", certified=False, images=50, norms=("linf",))
    page = Page(_one.page(records, dict.fromkeys(FIGURES), "runs/none"))
    check_standing_alone(page)
    assert "certificates" not in page.values("id")
    assert "#certificates" not in page.values("href")
    assert "exact" not in page.text
    assert "Not shown. In no norm was an image certified." in page.text
