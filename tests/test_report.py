"""The page is one safe file that holds every number; publishing leaves the machine behind."""

import dataclasses
import html.parser
import json
import re

import numpy as np
import pytest
import synthetic_records as synthetic

from robust_mnist import report
from robust_mnist.errors import InputError
from robust_mnist.figures import FIGURES, OVERLAYS
from robust_mnist.records import RunFolder
from robust_mnist.report import _build, _facts, _one, _paths, _publish, _several, _svg


class Page(html.parser.HTMLParser):
    """What a browser would see of a page."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.open = [], [], []
        self.raw = text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, name):
        return [attributes[name] for _, attributes in self.elements if attributes.get(name)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    records = synthetic.make("one", images=200, norms=("linf",))
    # Few pictures: how many there are is the concern of the figures' own tests.
    few = {k: v[:8] for k, v in records.panels.items() if k.startswith(("digits/", "test/"))}
    records = dataclasses.replace(records, panels=records.panels | few)
    run = synthetic.write(records, tmp_path_factory.mktemp("runs") / "one")
    report.build([run])
    return run


@pytest.fixture(scope="module")
def page(run):
    return Page(run.report.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    runs = [
        synthetic.write(synthetic.make("base", images=200), folder / "base"),
        synthetic.write(
            synthetic.make("other", salt=1, norms=("linf",), images=200), folder / "other"
        ),
    ]
    out = report.build(runs, folder / "page" / "both.html")
    return out, Page(out.read_text(encoding="utf-8"))


def trained(folder, name="trained", **info):
    records = synthetic.trained_only(name)
    records = dataclasses.replace(records, info=records.info | info)
    return synthetic.write(records, folder)


# --- one file, safe and whole ---------------------------------------------------------------------


def check_standing_alone(page):
    """Nothing is loaded, nothing runs, every name inside is unique and every reference resolves."""
    assert not {"script", "iframe", "object", "embed", "link", "form"} & {
        t for t, _ in page.elements
    }
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        link = attributes.get("href") or attributes.get("src") or "#"
        assert link.startswith(("#", "data:image/png;base64,"))
    text = re.sub(r"data:image/png;base64,[\w+/=\s]+", "", page.raw)
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = [link[1:] for link in page.values("href") if link.startswith("#")]
    assert set(links) | set(re.findall(r"url\(#([^)]+)\)", page.raw)) <= set(ids)
    assert set(page.values("aria-labelledby")) <= set(ids)
    assert not page.open


def test_the_page_stands_alone(page):
    check_standing_alone(page)


def test_the_comparison_stands_alone(comparison):
    check_standing_alone(comparison[1])


def plots(page):
    """Attributes of the drawings; what holds their letters is not one."""
    return [of for tag, of in page.elements if tag == "svg" and of["class"] == "plot"]


def test_every_figure_is_on_the_page_with_its_caption_and_a_spoken_label(page):
    drawings = plots(page)
    assert len(drawings) == len(FIGURES)
    for name, chart in FIGURES.items():
        assert name in page.values("id")
        assert chart.reading in page.text
        assert chart.limits in page.text
    spoken = {drawing["aria-label"] for drawing in drawings}
    assert spoken == {f"{chart.title}. {chart.reading}" for chart in FIGURES.values()}


def test_figures_take_the_colors_of_the_page(page):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page.raw, re.DOTALL))
    assert "currentColor" in drawings
    assert "#1c2128" not in drawings
    assert not re.search(r'<path[^>]*d="M 0 [\d.]+ L 720 ', drawings)  # a sheet of paper


def test_a_wrong_bar_keeps_its_red_hatch_on_the_page(page):
    """The hatch is a pattern that the bar refers to from its style."""
    [name] = re.findall(r"\.(c\d+)\{[^}]*fill: url\(#predictions-\w+\)", page.raw)
    [drawing] = [d for d in re.findall(r"<svg.*?</svg>", page.raw, re.DOTALL) if "Predictions" in d]
    assert f'class="{name}"' in drawing


def test_the_page_is_made_for_light_dark_print_and_phones(page):
    assert "width=device-width" in page.raw
    assert "prefers-color-scheme: dark" in page.raw
    assert "@media print" in page.raw
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_on_a_narrow_screen_checks_are_stacked_and_figures_tell_that_they_scroll(page):
    assert ".drawing::before" in page.raw
    classes = page.values("class")
    assert classes.count("scroll drawing") == len(FIGURES)
    assert classes.count("words stack") == 1
    named = [
        attributes["data-name"] for _, attributes in page.elements if "data-name" in attributes
    ]
    assert set(named) == {"Measured", "Turns at"}


def test_a_hostile_name_is_text(run):
    name = "<script>alert(1)</script>\"'&"
    records = run.load()
    facts = {"model_name": name, "created": name, "command": f"robust-mnist {name}"}
    records = dataclasses.replace(records, name=name, info=records.info | facts)
    drawing = (run.figures / "digits.svg").read_text(encoding="utf-8")
    page = Page(_one.page(records, dict.fromkeys(FIGURES) | {"digits": drawing}, f"runs/{name}"))
    check_standing_alone(page)
    assert page.text.count(name) >= 4
    assert "<script" not in page.raw


def test_a_hostile_run_name_is_text_in_a_comparison(tmp_path):
    runs = [trained(tmp_path / str(i), "<script>x</script>") for i in range(2)]
    runs = [dataclasses.replace(run.load(), name="<script>x</script>") for run in runs]
    page = Page(_several.page(runs, dict.fromkeys(OVERLAYS)))
    check_standing_alone(page)
    assert "<script>x</script> (2)" in page.text


# --- what it says ---------------------------------------------------------------------------------


def test_the_headline_is_the_clean_accuracy_with_its_interval(page, run):
    rows = run.load().rows
    clean = rows[(rows["kind"] == "clean")].iloc[0]
    expected = f"Test accuracy {100 * clean.accuracy:.2f} % {100 * clean.low:.2f} to"
    assert f"{expected} {100 * clean.high:.2f} (95 % interval, 200 images)" in page.text
    assert "170,000 on cpu" in page.text
    assert "2.5 s of compilation apart" in page.text


def test_every_accuracy_is_in_the_table_with_its_interval(page, run):
    rows = run.load().rows
    for row in rows[rows["kind"].isin(["attacked", "worst", "certified"])].itertuples():
        cell = f"{100 * row.accuracy:.2f} % {100 * row.low:.2f} to {100 * row.high:.2f}"
        assert cell in page.text
    for column in ("fgsm-linf", "pgd40-linf", "worst case", "certified by ibp-linf"):
        assert column in page.text


def test_an_unfinished_page_names_the_images_of_every_norm(page):
    records = synthetic.make(images=200)
    begun = records.info | {"unfinished": {"plan": "ab", "done": 1, "of": 2, "flags": []}}
    records = dataclasses.replace(records, info=begun)
    shown = lambda records: Page(_one.page(records, dict.fromkeys(FIGURES), "r")).text
    told = "found, by now on {}: on these, further attacks can only lower"
    assert told.format("200 test images") in shown(records)
    rows = records.rows.copy()
    rows.loc[rows.norm == "l2", "images"] = 50
    text = shown(dataclasses.replace(records, rows=rows))
    images = "200 test images in Linf and 50 test images in L2"
    assert told.format(images) in text
    assert f"Accuracy at eps {images}; below each" in text
    assert "the band is ±9.52 points in Linf and ±18.84 points in L2." in text
    assert "by now" not in page.text


def test_what_certify_or_close_proved_is_not_ascribed_to_the_one_certifier_of_the_sweep(run):
    from robust_mnist.report import _readings

    records = run.load()
    rows = records.rows.copy()
    proven = rows["kind"].eq("certified") & rows["norm"].eq("linf")
    rows.loc[proven & rows["method"].eq("all") & rows["eps"].eq(rows["eps"].max()), "correct"] += 1
    last = lambda rows: _readings.tables(dataclasses.replace(records, rows=rows))[0].methods[-2:]
    assert last(records.rows)[-1] == "certified by ibp-linf"
    assert last(rows) == ["ibp-linf", "certified"]


def test_the_trust_panel_shows_every_finding_with_a_mark_beside_the_color(page, run):
    for finding in run.info()["audit"]:
        assert finding["title"] in page.text
        assert finding["meaning"] in page.text
    for mark in ("✓ ok", "! look", "✗ fail"):
        assert page.text.count(mark) == 2  # once explained, once used


def test_the_page_opens_with_how_many_checks_complain_and_the_panel_with_those(page):
    line = "✗ Trust: 1 of 3 checks ok, 1 to look at (steps), 1 failed (bounds), 3 not run"
    assert page.text.index(line) < page.text.index("Results")
    assert ("a", {"href": "#trust"}) in page.elements
    order = [page.text.index(f"{check}: meaning") for check in ("bounds", "steps", "box")]
    assert order == sorted(order)
    # What needs a person is unfolded.
    folded = [
        "open" not in attributes
        for tag, attributes in page.elements
        if tag == "details" and "class" not in attributes
    ]
    assert folded == [False, False, True]
    missing = "Not run: transfer, seeds (needs several seeds); black box (needs Square)."
    assert missing in page.text


def test_hostile_answers_and_verdicts_of_no_kind_are_text_and_no_reason_for_trust(run):
    odd = "<b onclick=x>\"'&"
    finding = dict.fromkeys(("check", "title", "verdict", "number", "threshold", "meaning"), odd)
    records = run.load()
    records = dataclasses.replace(records, info=records.info | {"audit": [finding]})
    page = Page(_one.page(records, dict.fromkeys(FIGURES), "runs/one"))
    check_standing_alone(page)
    assert page.text.count(odd) == 7
    assert ("td", {"class": "fail"}) in page.elements
    assert "Trust: 0 of 1 checks ok, 1 failed" in page.text


def test_settings_versions_hashes_and_commands_are_on_the_page(page, run):
    info = run.info()
    sweep = f"robust-mnist sweep --run {run.path}"
    for fact in (
        info["data"]["sha256"],
        info["models"]["seed-0"],
        info["environment"]["commit"],
        info["command"],
        "784, 50, 50, 10",
        "2.4.6",
        f"robust-mnist train --out {run.path}",
        f"{sweep} --norm linf --eps 0,0.005,0.01,0.02,0.03,0.05,0.1 --methods pgd40-linf",
        f"{sweep} --methods gradient-step",
        f"robust-mnist report {run.path}",
    ):
        assert fact in page.text


def test_a_run_that_was_only_trained_says_what_is_missing_and_how_to_make_it(tmp_path):
    run = trained(tmp_path / "run")
    page = Page(report.build([run]).read_text(encoding="utf-8"))
    check_standing_alone(page)
    drawn = {path.name for path in run.figures.iterdir()}
    assert drawn == {"training.svg", "training.png", "digits.svg", "digits.png"}
    assert page.text.count("Not shown.") == len(FIGURES) - 2
    assert "No sweep was run." in page.text
    assert f"robust-mnist sweep --run {run.path}" in page.text
    assert "Test accuracy" in page.text
    assert report.text_table(run.load()) == ""


def test_a_figure_that_can_no_longer_be_drawn_does_not_stay_behind(tmp_path):
    for name in ("gallery.png", "mine.png"):
        (tmp_path / name).write_bytes(b"old")
    assert _build.save_all({"gallery": None}, tmp_path) == {"gallery": None}
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_building_without_a_run_is_refused(tmp_path):
    from robust_mnist.records import RunFolder

    with pytest.raises(InputError, match="at least one run"):
        report.build([])
    with pytest.raises(InputError, match="holds no run"):
        report.build([RunFolder(tmp_path)])


def test_the_terminal_gets_the_same_numbers(run):
    records = run.load()
    lines = report.text_table(records, eps=[0.0, 0.02]).splitlines()
    rows = records.rows
    for method in synthetic.METHODS["linf"]:
        [line] = [line for line in lines if line.split()[0] == method]
        chosen = rows[(rows["method"] == method) & (rows["kind"] == "attacked")]
        values = [
            f"{100 * chosen.loc[chosen['eps'] == eps, 'accuracy'].item():.2f}" for eps in (0, 0.02)
        ]
        assert line.split()[1:] == values
    assert max(map(len, lines)) < 80


def test_work_is_added_up_where_every_attack_was_counted():
    records = synthetic.make("counted", seeds=2, images=50)
    rows, info = records.rows, records.info
    given = lambda cells: dataclasses.replace(records, info=info | {"cells": cells})
    assert _facts.work(records, "linf") is None
    counted = {
        name: cell | {"forward": 3e5, "backward": 2e5} for name, cell in info["cells"].items()
    }
    certifier = rows[(rows["kind"] == "certified") & (rows["norm"] == "linf")]["method"].iloc[0]
    cells = counted | {f"linf/{certifier}": info["cells"]["linf/pgd40-linf"]}
    records = given(cells)
    images = 2 * info["data"]["test"]
    forward, backward = 2 * 3e5 / images, 2 * 2e5 / images
    [row] = [row for row in _facts.timings(records) if row[0] == "linf/all attacks"]
    assert row[1:3] == ["24.0", "3.0"]
    assert row[-2:] == [f"{forward:,.1f}", f"{backward:,.1f}"]
    lines = [line for line in report.text_table(records).splitlines() if "passes" in line]
    assert len(lines) == 2  # one a norm
    assert f" {forward:,.0f} forward and {backward:,.0f} backward passes per image" in lines[0]
    assert max(map(len, lines)) < 80
    # Without those of one attack, the sum would not be all the work.
    records = given(cells | {"linf/pgd40-linf": info["cells"]["linf/pgd40-linf"]})
    assert _facts.work(records, "linf") is None
    assert _facts.work(records, "l2") is not None


def test_of_a_method_without_totals_what_warns_is_told():
    records = synthetic.make("merged", images=50)
    counts = {"close": 3.0, "nonfinite": 6.0}
    of = {"pgd40-linf": counts, "fgsm-linf": {}, "ibp-linf": counts}
    cells = records.info["cells"] | {f"linf/{method}": held for method, held in of.items()}
    records = dataclasses.replace(records, info=records.info | {"cells": cells})
    rows = {row[0]: row[1:] for row in _facts.timings(records)}
    assert rows["linf/pgd40-linf"] == ["", "", "", "3", "6", "", ""]
    assert "linf/fgsm-linf" not in rows
    assert "ibp-linf" in Page(_one.page(records, dict.fromkeys(FIGURES), "r")).text


def test_the_terminal_says_when_numbers_are_means():
    records = synthetic.make("four", seeds=4, norms=("linf",), images=50)
    assert report.text_table(records).startswith("accuracy in %, mean of 4 networks")


def test_captions_and_legends_speak_of_the_same_bands():
    """With several networks the bars are their range, not a Wilson interval."""
    chart = FIGURES["robust_accuracy"]
    for seeds in (1, 3):
        records = synthetic.make("some", seeds=seeds, norms=("linf",), images=50)
        page = Page(_one.page(records, dict.fromkeys(FIGURES) | DRAWN, "runs/some"))
        assert chart.reading_of(records) in page.text
        assert ("Wilson" in chart.reading_of(records)) == (seeds == 1)
        assert ("lowest to the highest" in chart.reading_of(records)) == (seeds > 1)
        assert "UTC" in page.text


DRAWN = {"robust_accuracy": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'}


# --- several runs ---------------------------------------------------------------------------------


def test_a_comparison_stands_beside_its_figures(comparison):
    out, page = comparison
    drawn = {path.name for path in out.with_name("both-figures").iterdir()}
    assert drawn == {f"{name}.{suffix}" for name in OVERLAYS for suffix in ("svg", "png")}
    assert len(plots(page)) == len(OVERLAYS)
    assert "base against other" in page.text


def test_a_run_that_lacks_a_norm_is_named(comparison):
    assert "other was not attacked in L2, so L2 is left out." in comparison[1].text


def test_differences_are_signed_from_the_baseline(comparison):
    runs = [synthetic.make("base", images=200)]
    runs.append(synthetic.make("other", salt=1, norms=("linf",), images=200))
    from robust_mnist.figures import differences

    for row in differences(runs).itertuples():
        cells = f"{100 * row.first:.2f} % {100 * row.second:.2f} % {100 * row.difference:+.2f}"
        assert cells in comparison[1].text


def test_a_difference_beyond_doubt_has_no_p_of_0():
    base, other = (synthetic.make(name, images=1500, norms=("linf",)) for name in "ab")
    upper = np.where(other.radii["upper/linf"] > 0, 1e-9, 0.0)
    other = dataclasses.replace(other, radii=other.radii | {"upper/linf": upper})
    page = _several.page([base, other], dict.fromkeys(OVERLAYS))
    assert "< 1e-99" in Page(page).text


@pytest.mark.parametrize(
    "change",
    [{"test_sha256": "ef" * 32}, {"test": 100}],
    ids=["other images", "fewer images"],
)
def test_runs_on_other_test_images_are_refused(change, tmp_path):
    first = trained(tmp_path / "a")
    data = first.info()["data"] | change
    second = trained(tmp_path / "b", data=data)
    with pytest.raises(InputError, match=r"same test images only: b saw .* a saw"):
        report.build([first, second], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_runs_that_differ_in_their_training_images_only_are_compared(tmp_path):
    first = trained(tmp_path / "a")
    second = trained(tmp_path / "b", data=first.info()["data"] | {"sha256": "ef" * 32})
    assert report.build([first, second], tmp_path / "out.html").is_file()


def test_runs_from_before_test_images_had_a_hash_are_told_apart_by_all_data(tmp_path):
    old = {k: v for k, v in trained(tmp_path / "c").info()["data"].items() if k != "test_sha256"}
    first = trained(tmp_path / "a", data=old)
    report.build([first, trained(tmp_path / "b")], tmp_path / "out.html")
    other = trained(tmp_path / "d", data=old | {"sha256": "ef" * 32})
    with pytest.raises(InputError, match="same test images only"):
        report.build([first, other], tmp_path / "out.html")


def test_runs_with_other_labels_are_refused(tmp_path):
    records = synthetic.make("a", images=50, norms=("linf",))
    panels = records.panels | {"flow/labels": records.panels["flow/labels"][::-1]}
    runs = [
        synthetic.write(records, tmp_path / "a"),
        synthetic.write(dataclasses.replace(records, panels=panels), tmp_path / "b"),
    ]
    with pytest.raises(InputError, match="same test images"):
        report.build(runs)


# --- publishing -----------------------------------------------------------------------------------


def test_publishing_copies_what_is_small_and_nothing_else(run, tmp_path):
    done = report.publish(run, tmp_path)
    assert done.folder == tmp_path / "one"
    found = {p.relative_to(done.folder).as_posix() for p in done.folder.rglob("*") if p.is_file()}
    figures = {f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("svg", "png")}
    assert found == figures | {"run.json", "report.html", "rows.csv", "history.csv"}
    assert found == set(done.written)
    assert done.left_out == []
    for name in ("rows.csv", "history.csv", "figures/gallery.png"):
        assert (done.folder / name).read_bytes() == (run.path / name).read_bytes()


def test_a_published_run_names_no_path_of_this_machine(tmp_path):
    home = tmp_path / "home of me"
    run = trained(
        home / "lab",
        command=f"robust-mnist run --data '{home}/my data' --out '{home}/lab'",
        data=synthetic.trained_only().info["data"] | {"origin": f"{home}/my data"},
    )
    run.report.write_text("the page with all paths", encoding="utf-8")
    done = report.publish(run, tmp_path / "reports")
    for name in done.written:
        assert b"home of me" not in (done.folder / name).read_bytes()
        assert str(tmp_path).encode() not in (done.folder / name).read_bytes()
    info = json.loads((done.folder / "run.json").read_text(encoding="utf-8"))
    assert info["command"] == "robust-mnist run --data 'my data' --out lab"
    assert info["data"]["origin"] == "my data"


def test_a_large_file_is_named_instead_of_published(tmp_path):
    run = trained(tmp_path / "run")
    run.report.write_text("the page", encoding="utf-8")
    with (run.path / "rows.csv").open("a", encoding="utf-8") as stream:
        line = (run.path / "rows.csv").read_text(encoding="utf-8").splitlines()[-1]
        stream.writelines([line + "\n"] * (report.LIMIT // len(line) + 1))
    done = report.publish(run, tmp_path / "reports")
    assert done.left_out == ["rows.csv"]
    assert not (done.folder / "rows.csv").exists()


def test_a_page_that_has_grown_too_large_leaves_no_older_one_behind(tmp_path, monkeypatch):
    run = trained(tmp_path / "run")
    report.build([run])
    done = report.publish(run, tmp_path / "reports")
    assert (done.folder / "report.html").is_file()
    size = (done.folder / "report.html").stat().st_size
    monkeypatch.setattr(_publish, "LIMIT", size - 1)
    done = report.publish(run, tmp_path / "reports")
    assert "report.html" in done.left_out
    assert not (done.folder / "report.html").exists()


def test_publishing_again_removes_what_the_run_no_longer_has(tmp_path):
    run = trained(tmp_path / "run")
    report.build([run])
    done = report.publish(run, tmp_path / "reports")
    (run.figures / "digits.svg").unlink()
    (done.folder / "mine.txt").write_text("precious")
    report.publish(run, tmp_path / "reports")
    assert not (done.folder / "figures" / "digits.svg").exists()
    assert (done.folder / "figures" / "digits.png").exists()
    assert (done.folder / "mine.txt").exists()


def test_a_name_that_another_run_has_taken_is_refused(tmp_path):
    first, second = trained(tmp_path / "a" / "lab"), trained(tmp_path / "b" / "lab")
    for run in (first, second):
        run.report.write_text("the page", encoding="utf-8")
    report.publish(first, tmp_path / "reports")
    report.publish(second, tmp_path / "reports")  # the same settings: a repetition
    second.update({"settings": {"epochs": 7}})
    with pytest.raises(InputError, match="other settings; rename"):
        report.publish(second, tmp_path / "reports")
    report.publish(second, tmp_path / "reports", overwrite=True)


def test_publishing_before_reporting_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no report; make it with"):
        report.publish(trained(tmp_path / "run"), tmp_path / "reports")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/data", "data"),
        ("/home/me/my data", "my data"),
        (r"C:\Users\me\data", "data"),
        (r"C:\Users\my self\data", "data"),
        ("run --data /home/me/x --out runs/lab", "run --data x --out runs/lab"),
        ("read from /home/me/x.csv: 3 columns", "read from x.csv: 3 columns"),
        ("see ~/notes/x", "see x"),
        ("https://host.org/a/b", "https://host.org/a/b"),
        ("runs/lab and n/a or 1/2", "runs/lab and n/a or 1/2"),
        ("it isn't /etc/passwd", "it isn't passwd"),
    ],
)  # fmt: skip
def test_absolute_paths_lose_all_but_their_last_part(text, expected):
    assert _paths.without_paths(text) == expected
    assert _paths.without_paths({"a": [text, 1, None]}) == {"a": [expected, 1, None]}


# --- figures inside the page ----------------------------------------------------------------------


def test_identifiers_of_two_figures_never_meet():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'viewBox="0 0 1 1"><defs><clipPath id="c"><rect/></clipPath><path id="g" d="M 0 0"/>'
        '</defs><g id="unused" clip-path="url(#c)"><use xlink:href="#g" style="fill: #1c2128"/>'
        "</g></svg>"
    )
    shared = _svg.Shared()
    one, two = (_svg.inline(svg, name, "<label>", shared) for name in ("one", "two"))
    assert 'id="one-c"' in one
    assert 'clip-path="url(#one-c)"' in one
    assert 'href="#s0"' in one
    assert 'href="#s0"' in two
    assert "<path" not in one + two
    assert re.findall(r"<path[^>]*>", shared.element()) == ['<path id="s0" d="M 0 0" />']
    assert "unused" not in one
    assert 'class="c0"' in one
    assert "style" not in one + two
    assert ".c0{fill: currentColor}" in shared.element()
    assert "&lt;label&gt;" in one
    assert not set(re.findall(r'id="([^"]+)"', one)) & set(re.findall(r'id="([^"]+)"', two))


def test_what_was_published_before_a_setting_existed_is_the_same_run(run, tmp_path):
    report.publish(run, tmp_path / "reports")
    published = RunFolder(tmp_path / "reports" / run.path.name)
    info = published.info()
    del info["settings"]["epochs"]  # 500, which is the default
    (published.path / "run.json").write_text(json.dumps(info))
    report.publish(run, tmp_path / "reports")
    assert published.info()["settings"] == run.info()["settings"]
