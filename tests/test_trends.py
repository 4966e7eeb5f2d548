"""Result files across devices and along time: held to hand computations on real and planted data.

The files in `data/bench` are real, of one machine with two threads and with one. Everything that
calls itself synthetic is made up here, and stands for no device.
"""

import contextlib
import csv
import html.parser
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats


BENCH = Path(__file__).parent / "data" / "bench"
TWO, ONE = BENCH / "cpu-2-threads", BENCH / "cpu-1-thread"


def raw(folder):
    """What the files say, without the code under test."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def raw_medians(folder, name):
    return [
        benchmark["stats"]["median"]
        for content in raw(folder)
        for benchmark in content["benchmarks"]
        if benchmark["name"] == f"bench_{name}"
    ]


def raw_facts(folder, name):
    return [
        benchmark["extra_info"]
        for content in raw(folder)
        for benchmark in content["benchmarks"]
        if benchmark["name"] == f"bench_{name}"
    ]


KEY = "cpu-0000000000"


def synthetic_file(path, benchmarks, *, key=KEY, created=1, commit="a" * 40, **machine):
    """Write a made-up result file; a benchmark is its rounds, or its rounds and its facts."""
    machine = {
        "schema": 1, "key": key, "platform": key.partition("-")[0],
        "device_kind": f"Synthetic {key}", "threads": 2, "versions": {"jax": "0.10.2"},
        "matmul_precision": "default", "x64": False,
    } | machine  # fmt: skip
    entries = []
    for name, value in benchmarks.items():
        rounds, facts = value if isinstance(value, tuple) else (value, {})
        data = {"median": float(np.median(rounds)), "data": list(rounds)}
        entries.append({"name": f"bench_{name}", "stats": data, "extra_info": facts})
    content = {
        "machine_info": machine,
        "commit_info": {"id": commit, "dirty": False},
        "datetime": f"2026-01-{created:02d}T00:00:00+00:00",
        "benchmarks": entries,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def compare(*paths):
    from robust_mnist import records, trends

    return trends.compare([one for path in paths for one in records.read_timings(path)])


def row(found, name, device):
    table = found.table
    [one] = table[(table["benchmark"] == name) & (table["device"] == device)].to_dict("records")
    return one


def run(capsys, *words):
    from robust_mnist import cli

    code = cli.main(["bench", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def real():
    return compare(TWO, ONE)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What two environments made, compared in a step of a workflow: words, folder and summary."""
    from robust_mnist import cli

    folder = tmp_path_factory.mktemp("compared")
    (folder / "summary.md").write_text("before\n")
    words = ["bench", "accelerators", str(TWO), str(ONE), "--out", str(folder / "out")]
    said, complaints = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complaints),
    ):
        patched.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
        assert cli.main(words) == 0
    assert complaints.getvalue() == ""
    return said.getvalue(), folder / "out", folder / "summary.md"


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures, for tests of what else is written."""
    monkeypatch.setattr("robust_mnist.figures.TIMING_FIGURES", {})
    monkeypatch.setattr("robust_mnist.report._accelerators.TIMING_FIGURES", {})


@pytest.fixture(autouse=True)
def _no_summary(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


# --- the table ------------------------------------------------------------------------------------


def test_environments_with_the_same_device_are_told_apart_and_the_first_cpu_is_the_baseline(real):
    assert [one.label for one in real.environments] == ["AMD EPYC, 2 threads", "AMD EPYC, 1 thread"]
    assert [len(one.launches) for one in real.environments] == [3, 3]
    assert compare(ONE, TWO).environments[0].label == "AMD EPYC, 1 thread"


def test_a_gpu_given_first_is_still_compared_with_the_cpu(tmp_path):
    gpu = synthetic_file(tmp_path / "gpu.json", {"load": [1.0] * 5}, key="gpu-0000000000")
    cpu = synthetic_file(tmp_path / "cpu.json", {"load": [3.0] * 5})
    assert compare(gpu, cpu).environments[0].platform == "cpu"
    assert row(compare(gpu, cpu), "load", "Synthetic gpu-0000000000")["speedup"] == pytest.approx(3)
    assert compare(gpu).environments[0].platform == "gpu"


@pytest.mark.parametrize(
    "name", ["inference[1024]", "ball_attack[fgsm-linf]", "certifier[ibp-linf]"]
)
def test_a_speed_up_is_welchs_comparison_of_logarithms_of_launches(real, name):
    base, other = np.log(raw_medians(TWO, name)), np.log(raw_medians(ONE, name))
    interval = stats.ttest_ind(base, other, equal_var=False).confidence_interval(0.95)
    found = row(real, name, "AMD EPYC, 1 thread")
    assert found["interval"] == "launches"
    assert math.log(found["speedup"]) == pytest.approx(base.mean() - other.mean())
    assert math.log(found["speedup_low"]) == pytest.approx(interval.low)
    assert math.log(found["speedup_high"]) == pytest.approx(interval.high)
    assert math.isnan(row(real, name, "AMD EPYC, 2 threads")["speedup"])


def test_a_topic_is_the_geometric_mean_of_its_benchmarks_with_the_spread_of_whole_launches(real):
    names = [f"inference[{batch}]" for batch in (1, 64, 1024, 10000)]
    base, other = (
        np.log([raw_medians(side, name) for name in names]).mean(axis=0) for side in (TWO, ONE)
    )
    interval = stats.ttest_ind(base, other, equal_var=False).confidence_interval(0.95)
    found = real.headline.set_index("topic").loc["inference"]
    assert found["benchmarks"] == 4
    assert math.log(found["speedup"]) == pytest.approx(base.mean() - other.mean())
    assert math.log(found["speedup_low"]) == pytest.approx(interval.low)


def test_facts_beside_a_timing_are_those_of_the_files(real):
    name = "training[1-network]"
    facts = raw_facts(TWO, name)
    found = row(real, name, "AMD EPYC, 2 threads")
    assert found["peak_share"] == pytest.approx(np.median([f["peak_share"] for f in facts]))
    assert found["peak_bytes"] == facts[0]["peak_bytes"]
    stages = [np.median([f[s] for f in facts]) for s in ("trace_s", "lower_s", "compile_s")]
    assert found["compile_s"] == pytest.approx(sum(stages))
    assert found["seconds"] == pytest.approx(stats.gmean(raw_medians(TWO, name)))
    assert math.isnan(found["own_peak_share"])


def test_robust_accuracy_stands_with_its_wilson_interval(real):
    name = "break[pgd40-linf]"
    facts = raw_facts(TWO, name)[0]
    correct = round(facts["robust_accuracy"] * facts["items"])
    ends = stats.binomtest(correct, facts["items"]).proportion_ci(method="wilson")
    found = row(real, name, "AMD EPYC, 2 threads")
    assert (found["robust_low"], found["robust_high"]) == pytest.approx((ends.low, ends.high))
    assert correct == facts["items"] - int(facts["flags"], 16).bit_count()


def test_fewer_launches_are_bootstrapped_over_rounds_and_said_to_be_too_narrow(tmp_path, capsys):
    draws = np.random.default_rng(0)
    rounds = [list(np.exp(draws.normal(m, 0.1, size=40))) for m in (0.0, -1.0)]
    a = synthetic_file(tmp_path / "a.json", {"load": rounds[0]})
    b = synthetic_file(tmp_path / "b.json", {"load": rounds[1]}, key="gpu-0000000000")
    found = row(compare(a, b), "load", "Synthetic gpu-0000000000")
    assert found["interval"] == "rounds"
    # The median of 40 normal draws has a standard error of 1.25 * 0.1 / sqrt(40), on either side.
    half = 1.96 * math.sqrt(2) * 1.25 * 0.1 / math.sqrt(40)
    width = math.log(found["speedup_high"] / found["speedup_low"]) / 2
    assert 0.6 * half < width < 1.6 * half
    assert found["speedup_low"] < found["speedup"] < found["speedup_high"]
    _, out, _ = run(capsys, "accelerators", a, b, "--out", tmp_path / "out")
    assert "within one launch only, so too narrow" in out


def test_two_rounds_are_too_few_for_any_interval(tmp_path):
    a = synthetic_file(tmp_path / "a.json", {"load": [2.0, 2.0]})
    b = synthetic_file(tmp_path / "b.json", {"load": [1.0, 1.0]}, key="gpu-0000000000")
    found = row(compare(a, b), "load", "Synthetic gpu-0000000000")
    assert found["speedup"] == pytest.approx(2.0)
    assert math.isnan(found["speedup_low"])


def test_a_copy_of_a_file_is_no_second_launch(tmp_path):
    from robust_mnist import records, trends

    (tmp_path / "copy.json").write_bytes((TWO / "launch-1.json").read_bytes())
    files = [*records.read_timings(TWO), *records.read_timings(tmp_path / "copy.json")]
    assert [len(one.launches) for one in trends.group(files + files)] == [3]


def test_a_missing_benchmark_is_a_gap_that_is_named(tmp_path, capsys):
    a = synthetic_file(tmp_path / "a.json", {"load": [2.0] * 5, "inference[1]": [1.0] * 5})
    b = synthetic_file(tmp_path / "b.json", {"load": [1.0] * 5}, key="gpu-0000000000")
    found = compare(a, b)
    assert "Not measured on Synthetic gpu-0000000000: inference[1]." in found.notes
    code, out, _ = run(capsys, "accelerators", a, b, "--out", tmp_path / "out")
    assert code == 0
    assert "inference   not measured on both" in out


def test_different_commits_are_named(tmp_path, real):
    a = synthetic_file(tmp_path / "a.json", {"load": [2.0] * 5}, commit="a" * 40)
    b = synthetic_file(tmp_path / "b.json", {"load": [1.0] * 5}, key="gpu-00", commit="b" * 40)
    [note] = [note for note in compare(a, b).notes if "code" in note]
    assert "a" * 12 in note
    assert "b" * 12 in note
    assert not [note for note in real.notes if "code" in note]


# --- inference ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "text", "batch"),
    [
        # Half as fast at 64, twice at 1024: even halfway between, on logarithmic axes.
        ([0.1, 0.5, 2.0, 9.0], "from about 256", 256.0),
        # log2 of the speed-up goes from -1 to 3, so it is 0 a quarter of the way.
        ([0.5, 8.0, 9.0, 9.0], "from about 2.8", 64**0.25),
        ([2.0, 0.5, 2.0, 9.0], "from about 256", 256.0),
        ([1.1, 2.0, 3.0, 4.0], "from 1", math.nan),
        ([0.1, 0.2, 0.3, 0.9], "never up to 10000", math.nan),
        ([0.1, 2.0, 0.3, 0.9], "at 64, but not at 10000", math.nan),
        ([1.0, 1.0, 1.0, 1.0], "never up to 10000", math.nan),
    ],
)
def test_the_crossover_is_interpolated_where_the_device_wins_for_good(ratios, text, batch):
    from robust_mnist import trends

    times = {b: (1.0, 1.0 / ratio) for b, ratio in zip((1, 64, 1024, 10000), ratios, strict=True)}
    found = trends.crossover(times)
    assert found.text == text
    assert found.batch == pytest.approx(batch, nan_ok=True)


def test_no_common_batch_has_no_crossover():
    from robust_mnist import trends

    assert trends.crossover({}).text == "not measured"


PEAKS = {"matmul_float32": 1e12, "triad": 1e11, "dispatch_s": 1e-5, "float32_error": 1e-7}


@pytest.mark.parametrize(
    ("facts", "name", "share"),
    [
        ({"flops": 1e6, "bytes": 1e5}, "dispatch-bound", 0.01),
        ({"flops": 1e6, "bytes": 5e7}, "memory-bound", 0.5),
        ({"flops": 8e8, "bytes": 1e5}, "compute-bound", 0.8),
        ({"flops": 1e6, "argument_bytes": 4e7, "output_bytes": 1e7}, "memory-bound", 0.5),
        ({"flops": 8e8}, "compute-bound", 0.8),
    ],
)
def test_inference_is_bound_by_the_largest_of_three_least_times(tmp_path, facts, name, share):
    path = synthetic_file(tmp_path / "a.json", {"inference[64]": ([1e-3] * 5, facts)}, peaks=PEAKS)
    found = row(compare(path), "inference[64]", "Synthetic cpu-0000000000")
    assert found["bound"] == name
    assert found["bound_share"] == pytest.approx(share)


@pytest.mark.parametrize(
    "peaks", [None, {}, {"triad": 0, "dispatch_s": -1}, {"triad": "fast"}, [1]]
)
def test_without_peaks_nothing_is_said_about_bounds(tmp_path, peaks):
    facts = {"flops": 1e6, "bytes": 1e5}
    path = synthetic_file(tmp_path / "a.json", {"inference[64]": ([1e-3] * 5, facts)}, peaks=peaks)
    found = compare(path)
    assert row(found, "inference[64]", "Synthetic cpu-0000000000")["bound"] == ""
    from robust_mnist.report import _accelerators

    assert "peaks not measured" in _accelerators.markdown(found)


# --- agreement ------------------------------------------------------------------------------------


ON_ONE = "on Synthetic gpu-0000000000; true float32 on Synthetic cpu-0000000000"


def flags(broken):
    return np.packbits(broken).tobytes().hex()


def pair(tmp_path, *, differ, near, images=20, apart=2**-20, error=(1e-7, 1e-7), **changed):
    """Synthetic files of a CPU and a GPU whose flags differ at the first `differ` images.

    One logit lies `apart` between the devices.
    """
    broken = np.arange(images) % 2 == 0
    other = broken.copy()
    other[:differ] ^= True
    paths = []
    for name, found, err, more in (
        ("cpu", broken, error[0], {}),
        ("gpu", other, error[1], changed),
    ):
        facts = {"eps": 0.1, "items": images, "robust_accuracy": 0.5, "flags": flags(found)}
        facts |= {"near_zero": near} | more
        logits = [[0.0, 1.0], [2.0, 3.0 if name == "cpu" else 3.0 + apart]]
        benchmarks = {
            "break[a]": ([1.0] * 5, facts),
            "ball_attack[a]": [1.0] * 5,
            "ball_attack[b]": [1.0] * 5,
            "inference[1]": ([1.0] * 5, {"logits": logits}),
        }
        path = tmp_path / f"{name}.json"
        peaks = PEAKS | {"float32_error": err}
        paths.append(synthetic_file(path, benchmarks, key=f"{name}-0000000000", peaks=peaks))
    return compare(*paths)


def test_real_flags_and_logits_are_compared_image_by_image(real):
    [found] = real.agreements
    for flips in found.flips:
        a, b = (raw_facts(side, flips.benchmark)[-1] for side in (TWO, ONE))
        assert flips.differ == (int(a["flags"], 16) ^ int(b["flags"], 16)).bit_count()
        assert flips.images == 1000
    for name, difference in found.logits.items():
        a, b = (np.array(raw_facts(side, name)[-1]["logits"]) for side in (TWO, ONE))
        assert difference == np.abs(a - b).max()
    assert len(found.flips) == 3
    assert len(found.logits) == 4
    assert found.why == "true float32 on both"


@pytest.mark.parametrize(
    ("differ", "near", "verdict"), [(0, 0, "agree"), (3, 3, "agree"), (3, 2, "disagree")]
)
def test_flags_may_differ_as_often_as_margins_are_near_zero(tmp_path, differ, near, verdict):
    found = pair(tmp_path, differ=differ, near=near)
    [agreement] = found.agreements
    assert agreement.verdict == verdict
    assert agreement.flips[0].differ == differ
    assert agreement.logit_difference == 2**-20
    marks = {
        r["benchmark"]: r["numbers"] for r in found.table.to_dict("records") if not r["baseline"]
    }
    assert marks == {
        "break[a]": verdict, "ball_attack[a]": verdict, "ball_attack[b]": "",
        "inference[1]": "agree",
    }  # fmt: skip
    from robust_mnist import report

    assert ("numbers disagree" in report.accelerators_text(found)) == (verdict == "disagree")


@pytest.mark.parametrize(("differ", "verdict"), [(4, "agree"), (5, "disagree")])
def test_one_flag_in_two_hundred_may_differ(tmp_path, differ, verdict):
    [found] = pair(tmp_path, differ=differ, near=0, images=800).agreements
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("apart", "errors", "verdict"),
    [
        (2.9e-5, (1e-7, 1e-7), "agree"),  # of 50 (1e-7 + 1e-7) 3 = 3e-5
        (3.1e-5, (1e-7, 1e-7), "disagree"),
        (0.05, (1e-7, 4e-4), "agree"),
        (0.1, (1e-7, 4e-4), "disagree"),
        (0.1, (1e-7, None), "agree"),  # what rounding does there is not known
    ],
)
def test_logits_may_differ_as_far_as_products_are_off(tmp_path, apart, errors, verdict):
    found = pair(tmp_path, differ=0, near=0, apart=apart, error=errors)
    [agreement] = found.agreements
    assert agreement.verdict == verdict
    rows = found.table[(found.table["benchmark"] == "inference[1]") & ~found.table["baseline"]]
    assert rows["numbers"].tolist() == [verdict]
    from robust_mnist import report

    [headline] = [
        line for line in report.accelerators_text(found).splitlines() if "inference " in line
    ][:1]
    assert headline.endswith("of 1, numbers disagree" if verdict == "disagree" else "of 1")


@pytest.mark.parametrize(
    "changed", [{"eps": 0.2}, {"items": 16}, {"flags": "ff"}, {"flags": "zz"}, {"near_zero": None}]
)
def test_flags_of_other_images_are_not_compared(tmp_path, changed):
    [found] = pair(tmp_path, differ=0, near=0, **changed).agreements
    assert found.verdict == "not measured"
    assert len(found.skipped) == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        ((1e-7, 2e-7), "true float32 on both"),
        (
            (1e-7, 4.9e-4),
            f"products with 10 bits of mantissa (TF32), float32_error 4.9e-04 {ON_ONE}",
        ),
        (
            (1e-7, 3.1e-3),
            f"products with 7 bits of mantissa (bfloat16), float32_error 3.1e-03 {ON_ONE}",
        ),
    ],
)
def test_the_measured_error_of_a_product_explains_the_difference(tmp_path, error, why):
    [found] = pair(tmp_path, differ=0, near=0, error=error).agreements
    assert found.why == why


# --- what is written ------------------------------------------------------------------------------


def test_the_first_lines_tell_the_device_the_topics_the_agreement_and_the_crossover(written):
    lines = written[0].splitlines()
    assert lines[0] == "AMD EPYC, 1 thread against AMD EPYC, 2 threads"
    words = [line.split()[0] for line in lines[1:7]]
    assert words == ["training", "inference", "attacks", "certifiers", "numbers", "wins"]
    assert re.fullmatch(r"  training +[\d.]+x \[[\d.]+, [\d.]+\] of 2", lines[1])
    assert lines[5].startswith("  numbers     agree: 0 of 3,000 flags differ, 0 % (near zero: 0); ")
    assert "GPU: not measured." in lines
    assert len(lines) <= 12


def test_one_environment_alone_is_shown_and_said_to_be_alone(tmp_path, capsys):
    code, out, _ = run(capsys, "accelerators", TWO, "--out", tmp_path)
    assert code == 0
    assert "nothing to compare it with" in out
    assert "GPU: not measured." in out
    assert "inference[64]" in out
    assert len(pd.read_csv(tmp_path / "accelerators.csv")) == 13
    assert not (tmp_path / "figures" / "speedup.svg").exists()
    assert (tmp_path / "figures" / "inference_time.svg").exists()


def test_every_file_is_written(written):
    _, out, _ = written
    from robust_mnist.figures import TIMING_FIGURES

    expected = {f"figures/{name}.{end}" for name in TIMING_FIGURES for end in ("svg", "png")}
    expected |= {f"accelerators.{end}" for end in ("html", "csv", "md")}
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == expected
    with (out / "accelerators.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 26
    found = next(r for r in rows if r["benchmark"] == "inference[1]" and r["baseline"] == "False")
    expected = stats.gmean(raw_medians(TWO, "inference[1]")) / stats.gmean(
        raw_medians(ONE, "inference[1]")
    )
    assert float(found["speedup"]) == pytest.approx(expected)


@pytest.mark.usefixtures("undrawn")
def test_json_holds_the_table_and_no_nan(tmp_path, capsys):
    code, out, _ = run(capsys, "accelerators", TWO, ONE, "--out", tmp_path, "--json")
    data = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert len(data["benchmarks"]) == 26
    assert data["agreement"] == {"AMD EPYC, 1 thread": "agree"}


def test_the_summary_of_a_step_is_appended_to(written):
    _, out, summary = written
    text = summary.read_text()
    assert text == "before\n" + (out / "accelerators.md").read_text()
    assert "| AMD EPYC, 1 thread | agree |" in text
    assert "![" not in text
    assert "<img" not in text


@pytest.mark.usefixtures("undrawn")
def test_the_summary_never_exceeds_what_github_takes(tmp_path, capsys, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("x" * 600_000)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    many = {f"load[{'n' * 700}{i}]": [1.0] * 5 for i in range(1500)}
    path = synthetic_file(tmp_path / "a.json", many)
    run(capsys, "accelerators", path, "--out", tmp_path / "out")
    assert 900_000 < summary.stat().st_size <= 1_000_000
    assert summary.read_text().endswith("Cut here: the rest is in the files beside this one.\n")
    assert 700_000 < (tmp_path / "out" / "accelerators.md").stat().st_size <= 1_000_000


HOSTILE = "load[<script>alert(1)</script>|`![x](http://x)$y$]"


@pytest.fixture
def hostile(tmp_path):
    facts = {"robust_accuracy": "much", "items": True, "flops": 10**400, "logits": [[1], [1, 2]]}
    return [
        synthetic_file(
            tmp_path / f"{name}.json",
            {HOSTILE: ([1.0] * 5, facts), "break[a]": ([1.0] * 5, facts)},
            key=f"{name}-<b>", device_kind=f"<img src=x>|\n{name}", commit="</td>",
            matmul_precision="<i>", versions=["none"],
        )
        for name in ("cpu", "gpu")
    ]  # fmt: skip


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href") and not v.startswith("#")]


def test_hostile_names_end_up_as_text(tmp_path, hostile, capsys):
    code, out, _ = run(capsys, "accelerators", *hostile, "--out", tmp_path / "out")
    assert code == 0
    assert "<img src=x>| gpu against <img src=x>| cpu" in out
    page = Tags((tmp_path / "out" / "accelerators.html").read_text())
    assert not {"script", "img", "b", "i"} & set(page.tags)
    assert page.addresses == []
    text = (tmp_path / "out" / "accelerators.md").read_text()
    assert "<" not in text
    assert "](" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) >= 6
            assert "`" not in line.replace("\\`", "")


def test_the_page_needs_no_network_and_holds_every_table(written):
    _, out, _ = written
    text = (out / "accelerators.html").read_text()
    page = Tags(text)
    assert page.addresses == []
    assert page.tags.count("table") == 8
    assert text.count('class="plot"') == 4
    assert "prefers-color-scheme: dark" in text


def test_nothing_of_it_imports_jax(tmp_path):
    code = (
        "import sys; from robust_mnist import cli; "
        f"bench = lambda *words: cli.main(['bench', *words, '--out', {str(tmp_path)!r}]); "
        f"assert bench('accelerators', {str(BENCH)!r}) == 0; "
        f"assert bench('history', {str(TWO)!r}) == 0; "
        "assert not {'jax', 'equinox', 'optax'} & set(sys.modules)"
    )
    env = {k: v for k, v in os.environ.items() if k != "GITHUB_STEP_SUMMARY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- files that are no results --------------------------------------------------------------------


def broken_file(tmp_path, kind):
    path = tmp_path / "in" / "file.json"
    path.parent.mkdir()
    content = json.loads((TWO / "launch-1.json").read_text())
    if kind == "missing":
        return path
    if kind == "empty folder":
        return path.parent
    if kind == "broken JSON":
        path.write_text('{"machine_info": ')
    elif kind == "foreign JSON":
        path.write_text('{"name": "package", "version": "1"}')
    elif kind == "other schema":
        content["machine_info"]["schema"] = 99
        path.write_text(json.dumps(content))
    elif kind == "no schema":
        del content["machine_info"]["schema"]
        path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("command", ["accelerators", "history"])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("missing", 2),
        ("broken JSON", 2),
        ("foreign JSON", 2),
        ("no schema", 2),
        ("other schema", 4),
        ("empty folder", 4),
    ],
)
def test_what_is_no_result_is_one_line_and_an_exit_code(tmp_path, capsys, command, kind, code):
    path = broken_file(tmp_path, kind)
    found, out, err = run(capsys, command, path, "--out", tmp_path / "out")
    assert found == code
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err
    assert not (tmp_path / "out").exists()


# --- figures --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(real):
    from robust_mnist.figures import TIMING_FIGURES

    return {name: chart(real.table) for name, chart in TIMING_FIGURES.items()}


def test_no_panel_of_a_figure_is_empty(drawn):
    assert len(drawn) == 4
    for figure in drawn.values():
        for axes in figure.axes:
            assert axes.has_data()


def test_dots_stand_at_the_speed_ups_and_bars_at_their_ends(drawn, real):
    shown = real.table[real.table["speedup"].notna()]
    dots, ends = [], []
    for axes in drawn["speedup"].axes:
        dots += [x for line in axes.lines if line.get_marker() == "o" for x in line.get_xdata()]
        ends += [tuple(s[:, 0]) for c in axes.collections for s in c.get_segments()]
    assert sorted(dots) == pytest.approx(sorted(shown["speedup"]))
    expected = sorted(zip(shown["speedup_low"], shown["speedup_high"], strict=True))
    assert np.array(sorted(ends)) == pytest.approx(np.array(expected))


def test_a_speed_up_of_other_numbers_is_hollow(tmp_path):
    from robust_mnist.figures import TIMING_FIGURES

    figure = TIMING_FIGURES["speedup"](pair(tmp_path, differ=3, near=0).table)
    attacks = next(axes for axes in figure.axes if axes.get_title(loc="left") == "attacks")
    faces = [
        line.get_markerfacecolor() for line in attacks.lines for _ in line.get_xdata()
        if line.get_marker() == "o"
    ]  # fmt: skip
    assert faces.count("none") == 2
    assert len(faces) == 3


def test_the_crossover_is_marked_where_it_was_computed(tmp_path):
    from robust_mnist import trends
    from robust_mnist.figures import TIMING_FIGURES

    times = {"cpu": [1.0, 1.0, 8.0, 80.0], "gpu": [2.0, 2.0, 2.0, 4.0]}
    paths = [
        synthetic_file(
            tmp_path / f"{name}.json",
            {f"inference[{b}]": [t] * 5 for b, t in zip((1, 64, 1024, 10000), own, strict=True)},
            key=f"{name}-0000000000",
        )
        for name, own in times.items()
    ]
    table = compare(*paths).table
    [axes] = TIMING_FIGURES["inference_time"](table).axes
    [mark] = [line for line in axes.lines if line.get_linestyle() == "--"]
    expected = trends.crossover_of(table, "Synthetic gpu-0000000000").batch
    assert list(mark.get_xdata()) == [expected, expected]
    # From half as fast to four times: a third of the way from 64 to 1024 in logarithms.
    assert expected == pytest.approx(64 * 16 ** (1 / 3))


def test_there_is_no_figure_of_what_was_not_measured(tmp_path):
    from robust_mnist.figures import TIMING_FIGURES

    table = compare(synthetic_file(tmp_path / "a.json", {"load": [1.0] * 5})).table
    assert [chart(table) for chart in TIMING_FIGURES.values()] == [None] * 4


# --- history --------------------------------------------------------------------------------------


def planted(draws, levels, noise=0.02):
    return list(np.log(levels) + draws.normal(0.0, noise, size=len(levels)))


def test_a_planted_step_is_found_where_it_is():
    from robust_mnist import trends

    draws = np.random.default_rng(7)
    found = [trends.change_points(planted(draws, [1.0] * 9 + [1.2] * 9)) for _ in range(200)]
    assert np.mean([one == [9] for one in found]) >= 0.95


def test_two_planted_steps_are_both_found():
    from robust_mnist import trends

    draws = np.random.default_rng(8)
    levels = [1.0] * 8 + [0.7] * 8 + [0.9] * 8
    found = [trends.change_points(planted(draws, levels)) for _ in range(100)]
    assert np.mean([one == [8, 16] for one in found]) >= 0.95


@pytest.mark.parametrize("launches", [6, 8, 12, 30])
@pytest.mark.parametrize("noise", ["normal", "laplace"])
def test_noise_alone_has_no_change_points_in_95_percent_of_series(launches, noise):
    from robust_mnist import trends

    draws = getattr(np.random.default_rng(launches), noise)
    found = [trends.change_points(list(draws(0.0, 0.05, size=launches))) for _ in range(200)]
    assert np.mean([one == [] for one in found]) >= 0.95


def test_the_fit_is_the_cheapest_of_all_divisions():
    from itertools import combinations

    from robust_mnist import trends

    draws = np.random.default_rng(9)
    for _ in range(20):
        values = planted(draws, [1.0] * 4 + [1.3] * 4 + [1.1] * 3)
        price = trends.penalty(values)

        def cost(points, values=values, price=price):
            pieces = np.split(values, points)
            if min(map(len, pieces)) < 3:
                return math.inf
            return sum(np.abs(p - np.median(p)).sum() for p in pieces) + price * len(points)

        every = [list(c) for k in range(4) for c in combinations(range(1, len(values)), k)]
        assert cost(trends.change_points(values)) == pytest.approx(min(map(cost, every)))


def test_the_cost_of_every_beginning_is_its_deviation_from_the_median():
    from robust_mnist.trends import _changes

    values = [*np.random.default_rng(4).normal(size=15), 0.5, 0.5]
    expected = [np.abs(values[:k] - np.median(values[:k])).sum() for k in range(1, 18)]
    assert _changes._deviations(values) == pytest.approx(expected)


def test_a_disturbed_launch_makes_no_change_point():
    from robust_mnist import trends

    values = planted(np.random.default_rng(3), [1.0] * 20)
    values[11] += 1.0
    assert trends.change_points(values) == []
    assert trends.change_points([0.0] * 20) == []
    assert trends.change_points([0.0] * 3 + [1.0] * 2) == []


def series(tmp_path, seconds, **machine):
    for day, value in enumerate(seconds, 1):
        benchmarks = {"load": [value] * 3}
        if day > 2:
            benchmarks["help"] = [1.0] * 3
        synthetic_file(
            tmp_path / "in" / f"{day}.json", benchmarks, created=day,
            commit=f"{day}".ljust(40, "0"), quick=day % 2 == 0, **machine,
        )  # fmt: skip
    return tmp_path / "in"


def test_a_change_is_told_in_percent_with_the_commits_on_either_side(tmp_path, capsys):
    folder = series(tmp_path, [1.0, 1.02, 0.99, 1.01, 1.5, 1.51, 1.49, 1.5])
    code, out, _ = run(capsys, "history", folder, "--out", tmp_path / "out")
    assert code == 0
    [line] = [line for line in out.splitlines() if line.startswith("load")]
    # The medians of the logarithms of 1, 1.02, 0.99, 1.01 and of 1.5, 1.51, 1.49, 1.5.
    change = 1.5 / math.sqrt(1.0 * 1.01) - 1
    assert line.endswith(f"{change:+.1%} 400000000000 -> 500000000000")
    [point] = pd.read_csv(tmp_path / "out" / "changes.csv").to_dict("records")
    assert point["launch"] == 5
    assert point["change"] == pytest.approx(change)
    launches = pd.read_csv(tmp_path / "out" / "history.csv")
    assert launches.groupby("benchmark").size().to_dict() == {"help": 6, "load": 8}
    assert (tmp_path / "out" / "figures" / "history.svg").exists()


def test_few_launches_have_a_trend_and_no_change_points(tmp_path, capsys):
    code, out, _ = run(capsys, "history", TWO, "--out", tmp_path)
    assert code == 0
    assert "Change points need 6 launches" in out
    first, *_, last = raw_medians(TWO, "inference[1024]")
    [line] = [line for line in out.splitlines() if line.startswith("inference[1024]")]
    assert f"{last / first - 1:+.1%}" in line
    assert line.split()[1] == "3"


def test_environments_are_never_mixed(tmp_path, capsys):
    code, out, err = run(capsys, "history", BENCH, "--out", tmp_path)
    keys = sorted({content["machine_info"]["key"] for side in (ONE, TWO) for content in raw(side)})
    assert code == 4
    assert out == ""
    assert err.count("\n") == 1
    assert f"--key, of {', '.join(keys)}" in err
    code, out, _ = run(capsys, "history", BENCH, "--key", keys[0], "--out", tmp_path)
    assert code == 0
    assert keys[0] in out
    assert keys[1] not in out
    code, _, err = run(capsys, "history", BENCH, "--key", "cpu-none", "--out", tmp_path)
    assert code == 2
    assert "unknown environment key 'cpu-none'" in err


def test_the_figure_draws_every_launch_and_marks_every_change(tmp_path):
    from robust_mnist import records, trends
    from robust_mnist.figures import HISTORY_FIGURES

    seconds = [1.0, 1.02, 0.99, 1.01, 1.5, 1.51, 1.49, 1.5]
    found = trends.history(records.read_timings(series(tmp_path, seconds)))
    figure = HISTORY_FIGURES["history"](found.launches)
    load, _ = figure.axes
    dots = next(line for line in load.lines if line.get_marker() == "o")
    assert list(dots.get_ydata()) == pytest.approx([100 * (s - 1) for s in seconds])
    levels = [line.get_ydata()[0] for line in load.lines if len(set(line.get_ydata())) == 1]
    assert levels == pytest.approx([0.5, 50.0], rel=0.01)
    [mark] = [line for line in load.lines if line.get_linestyle() == "--"]
    assert list(mark.get_xdata()) == [4.5, 4.5]
    [text] = load.texts
    assert text.get_text() == "+49.3 %"
    few = trends.history(records.read_timings(series(tmp_path / "few", seconds[:4])))
    load, _ = HISTORY_FIGURES["history"](few.launches).axes
    assert len(load.lines) == 1  # dots without a level
