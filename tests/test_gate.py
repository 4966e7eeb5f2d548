"""Verdicts on timings: the statistics, the exact counts, the launches, and the two commands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from robust_mnist import cli


ROOT = Path(__file__).parents[1]
KEY = "cpu-0123456789"
MACHINE = {
    "schema": 1, "key": KEY, "quick": False, "platform": "cpu", "device_kind": "A CPU",
    "device_count": 1, "threads": 2, "plugin": "", "xla_flags": "", "matmul_precision": "default",
    "x64": False, "versions": {"jax": "0.10.2", "jaxlib": "0.10.2"},
}  # fmt: skip


# --- the rule -----------------------------------------------------------------------------------


def simulate(rng, effect, sd, pairs, shape):
    """Means and standard deviations of simulated log-ratios, and the words said of them."""
    from robust_mnist import gate

    ratios = rng.normal(np.log1p(effect), sd, (*shape, pairs))
    mean, spread = ratios.mean(axis=-1), ratios.std(axis=-1, ddof=1)
    floors = np.full(shape, max(0.03, gate.noise_floor(0.0)))
    words, _ = gate.decide(mean, spread, np.full(shape, pairs), floors)
    return words


@pytest.mark.parametrize("benchmarks", [1, 8, 40])
@pytest.mark.parametrize("pairs", [3, 4, 6, 12])
@pytest.mark.parametrize("sd", [0.005, 0.03, 0.1])
def test_code_that_did_not_change_is_seldom_blamed(benchmarks, pairs, sd):
    words = simulate(np.random.default_rng(pairs), 0.0, sd, pairs, (3000, benchmarks))
    assert (words == "REGRESSED").any(axis=-1).mean() <= 0.01
    assert (words == "IMPROVED").any(axis=-1).mean() <= 0.01


@pytest.mark.parametrize("pairs", [6, 8, 12])
def test_ten_percent_are_found_as_often_as_the_power_says(pairs):
    from robust_mnist import gate

    words = simulate(np.random.default_rng(1), 0.1, 0.03, pairs, (4000, 1))
    level = 0.01 / 2
    said = gate.detection_power(np.log(1.1), 0.03, np.array([pairs]), 0.03, level=level)[0]
    found = (words == "REGRESSED").mean()
    # Alone, Benjamini and Hochberg ask for half the level: two directions were tested.
    assert abs(found - said) < 0.02
    assert found > {6: 0.85, 8: 0.98, 12: 0.999}[pairs]


def test_the_power_counts_with_the_number_of_benchmarks():
    from robust_mnist import gate

    rng = np.random.default_rng(2)
    effects = np.zeros(20)
    effects[3] = 0.1
    words = simulate(rng, effects[:, None], 0.03, 8, (4000, 20))
    said = gate.detection_power(np.log(1.1), 0.03, np.array([8]), 0.03, level=0.01 / 40)[0]
    assert abs((words[:, 3] == "REGRESSED").mean() - said) < 0.03


def test_equivalence_is_proven_as_often_as_its_power_says_and_seldom_falsely():
    from robust_mnist import gate

    for effect, sd, pairs in ((0.0, 0.02, 12), (0.01, 0.02, 12), (0.0, 0.02, 4)):
        words = simulate(np.random.default_rng(3), effect, sd, pairs, (4000, 1))
        said = gate.equivalence_power(np.log1p(effect), sd, np.array([pairs]), 0.03)[0]
        assert abs((words == "UNCHANGED").mean() - said) < 0.02
    # At the very edge of the floor the claim is wrong, and made in at most one of twenty cases.
    for edge in (0.03, 1 / 1.03 - 1):
        words = simulate(np.random.default_rng(4), edge, 0.02, 12, (4000, 1))
        assert (words == "UNCHANGED").mean() < 0.06


def test_slower_and_faster_are_mirror_images():
    from robust_mnist import gate

    ratios = np.random.default_rng(5).normal(0.05, 0.02, (80, 6))
    swap = {"REGRESSED": "IMPROVED", "IMPROVED": "REGRESSED"}
    floors = dict.fromkeys(map(str, range(80)), 0.03)
    one = gate.judge({str(i): row.tolist() for i, row in enumerate(ratios)}, floors)
    other = gate.judge({str(i): (-row).tolist() for i, row in enumerate(ratios)}, floors)
    assert {v.word for v in one.values()} >= {"REGRESSED", "INCONCLUSIVE"}
    for name in one:
        assert other[name].word == swap.get(one[name].word, one[name].word)
        assert other[name].ratio == pytest.approx(1 / one[name].ratio)
        assert other[name].p == pytest.approx(one[name].p)


def test_intervals_and_p_values_are_scipys():
    from robust_mnist import gate

    ratios = np.random.default_rng(6).normal(0.02, 0.03, (5, 7))
    series = {str(i): row.tolist() for i, row in enumerate(ratios)}
    verdicts = gate.judge(series, dict.fromkeys(series, 0.03))
    tests = [stats.ttest_1samp(row, 0.0) for row in ratios]
    slower = [stats.ttest_1samp(row, 0.0, alternative="greater").pvalue for row in ratios]
    adjusted = stats.false_discovery_control([*slower, *(1 - np.array(slower))])
    for i, (row, test) in enumerate(zip(ratios, tests, strict=True)):
        verdict, interval = verdicts[str(i)], test.confidence_interval(0.95)
        assert np.log([verdict.low, verdict.high]) == pytest.approx([interval.low, interval.high])
        assert verdict.p == pytest.approx(adjusted[i if row.mean() > 0 else i + 5])
        assert verdict.ratio == pytest.approx(np.exp(row.mean()))


def test_many_benchmarks_ask_more_of_each():
    from robust_mnist import gate

    row = [0.09, 0.12, 0.10, 0.13, 0.06, 0.11]
    still = {f"still {i}": [0.01, -0.01, 0.02, -0.02, 0.01, -0.01] for i in range(300)}
    alone = gate.judge({"slow": row}, {"slow": 0.03})["slow"]
    among = gate.judge({"slow": row} | still, dict.fromkeys(["slow", *still], 0.03))["slow"]
    assert (alone.word, among.word) == ("REGRESSED", "INCONCLUSIVE")
    assert among.p == pytest.approx(min(1, alone.p * 301))
    assert among.power < alone.power


def test_a_change_below_the_floor_is_no_regression_however_sure():
    from robust_mnist import gate

    row = [0.02, 0.0201, 0.0199, 0.02, 0.02, 0.0201]
    words = [gate.judge({"x": row}, {"x": floor})["x"].word for floor in (0.01, 0.03)]
    assert words == ["REGRESSED", "UNCHANGED"]


def test_the_same_launches_on_both_sides_are_unchanged():
    from robust_mnist import gate

    verdict = gate.judge({"x": [0.0] * 6}, {"x": 0.03})["x"]
    assert (verdict.word, verdict.ratio, verdict.low, verdict.high) == ("UNCHANGED", 1, 1, 1)


@pytest.mark.parametrize("change", [0.0, 1.0])
@pytest.mark.parametrize("pairs", [1, 2])
def test_two_pairs_decide_nothing_and_say_how_many_are_missing(pairs, change):
    from robust_mnist import gate

    verdict = gate.judge({"x": [change] * pairs}, {"x": 0.03})["x"]
    assert (verdict.word, verdict.further, verdict.p) == ("INCONCLUSIVE", 6 - pairs, 1)
    assert verdict.power is None


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.05), (0.08, 0.05)])
def test_the_further_pairs_decide_with_eighty_percent(mean, sd):
    from robust_mnist import gate

    row = stats.norm.ppf((np.arange(5) + 0.5) / 5)
    row = mean + sd * (row - row.mean()) / row.std(ddof=1)
    verdict = gate.judge({"x": row.tolist()}, {"x": 0.03})["x"]
    assert verdict.word == "INCONCLUSIVE"
    effect = np.expm1(mean)
    for pairs, enough in ((5 + verdict.further, True), (5 + verdict.further - 2, False)):
        words = simulate(np.random.default_rng(7), effect, sd, pairs, (4000, 1))
        assert ((words != "INCONCLUSIVE").mean() > 0.79) == enough


def test_a_question_that_100_pairs_would_leave_open_has_no_number():
    from robust_mnist import gate

    # Exactly at the floor, neither claim can be made.
    row = np.log(1.03) + np.array([0.05, -0.05, 0.05, -0.05])
    assert gate.judge({"x": row.tolist()}, {"x": 0.03})["x"].further is None


def test_the_noise_floor_is_half_the_interval_of_six_pairs():
    from robust_mnist import gate

    row = np.array([1, -1, 1, -1, 1, -1]) * 0.02
    verdict = gate.judge({"x": row.tolist()}, {"x": 0.03})["x"]
    assert gate.noise_floor(float(row.std(ddof=1))) == pytest.approx(verdict.high - 1)


# --- counts -------------------------------------------------------------------------------------


def counts(a, b):
    from robust_mnist import gate

    listed = [side if isinstance(side, list) else [side] * 2 for side in (a, b)]
    return [(change.word, change.text) for change in gate.exact_changes("x", *listed)]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"flops": 100}, {"flops": 100}, []),
        ({"flops": 1000}, {"flops": 1001}, [("REGRESSED", "flops 1,000 -> 1,001")]),
        ({"compilations": 2}, {"compilations": 3}, [("REGRESSED", "compilations 2 -> 3")]),
        ({"temporary_bytes": 9}, {"temporary_bytes": 0}, [("IMPROVED", "temporary_bytes 9 -> 0")]),
        ({"flops": 7}, {}, [("REGRESSED", "flops 7 -> not measured")]),
        ({"flops": 7}, {"flops": "many"}, [("REGRESSED", "flops 7 -> not measured")]),
        ({"flops": 7}, {"flops": {}}, [("REGRESSED", "flops 7 -> not measured")]),
        ({}, {"flops": 7}, [("NOTE", "flops not measured -> 7")]),
        ({}, {"operations": {"dot": 3}}, [("NOTE", "operations not measured -> 3")]),
        ({"items": 1}, {}, []),
        ([{"items": 1}, {"items": 2}], {"items": 3}, []),
        (
            {"items": 1000},
            {"items": 500},
            [("INCONCLUSIVE", "items 1,000 -> 500: the work is another, its time is not compared")],
        ),
    ],
)
def test_counts_are_equal_or_named(a, b, expected):
    assert counts(a, b) == expected


def test_counts_that_vary_within_a_side_are_named_and_not_judged():
    varying = [{"flops": 1}, {"flops": 2}]
    said = "flops differ between launches of {} and are not gated"
    assert counts(varying, {"flops": 2}) == [("NOTE", said.format("A"))]
    assert counts({"flops": 1}, varying) == [("NOTE", said.format("B"))]
    assert counts(varying, [{"flops": 0}, {"flops": 9}]) == [
        ("NOTE", said.format(side)) for side in "AB"
    ]


@pytest.mark.parametrize("fact", ["flops", "operations"])
def test_counts_that_vary_above_all_there_were_are_regressed(fact):
    value = lambda count: {fact: {"dot": count} if fact == "operations" else count}
    a, b = [value(1), value(2)], [value(4), value(3)]
    assert counts(a, b) == [("REGRESSED", f"{fact} at most 2 -> at least 3")]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (1, ("REGRESSED", "operations 21 -> 22: fusion 12 -> 13")),
        (-6, ("NOTE", "operations 21 -> 15: fusion 12 -> 6")),
    ],
)
def test_more_operations_are_regressed_and_fewer_are_told(more, expected):
    a = {"fusion": 12, "dot": 6, "copy": 3}
    said = counts({"operations": a}, {"operations": a | {"fusion": 12 + more}})
    assert said == [expected]


def test_operations_are_told_with_the_largest_change_first():
    a, b = {"add": 5, "dot": 6, "copy": 40}, {"dot": 6, "copy": 33, "exp": 1, "add": 6}
    [(word, text)] = counts({"operations": a}, {"operations": b})
    assert (word, text) == ("NOTE", "operations 51 -> 46: copy 40 -> 33, add 5 -> 6, exp 0 -> 1")
    many = {f"op{i}": 1 for i in range(20)}
    assert counts({"operations": many}, {"operations": {}})[0][1].endswith("op15 1 -> 0, 12 more")


# --- result files -------------------------------------------------------------------------------


def content(medians, *, facts=None, minute=0, **machine):
    """The JSON of a result file of one launch; medians in milliseconds."""
    facts = facts or {}
    return {
        "machine_info": MACHINE | machine,
        "commit_info": {"id": "f" * 40, "dirty": False},
        "benchmarks": [
            {
                "name": f"bench_{name}",
                "stats": {"median": ms / 1e3, "data": [ms / 1e3]},
                "extra_info": facts.get(name, {}),
            }
            for name, ms in medians.items()
        ],
        "datetime": f"2026-01-01T00:{minute:02}:00+00:00",
        "version": "5.3.1",
    }


def save(folder, launches, **more):
    """A folder of launches; the names run against the order of time."""
    folder.mkdir(parents=True, exist_ok=True)
    for minute, medians in enumerate(launches):
        path = folder / f"{len(launches) - minute:03}.json"
        path.write_text(json.dumps(content(medians, minute=minute, **more)))
    return folder


def noisy(factor=1.0, *, launches=6, seed=0, names=("load", "inference[64]")):
    """Launches with 1 % of noise."""
    rng = np.random.default_rng(seed)
    return [{n: 2 * factor * np.exp(rng.normal(0, 0.01)) for n in names} for _ in range(launches)]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a bench command in an empty folder; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(*words):
        code = cli.main(["bench", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def data(run, *words):
    code, out, err = run(*words, "--json")
    assert out, err
    return code, json.loads(out)


def test_equal_launches_are_unchanged_and_cost_nothing(run, tmp_path):
    a, b = save(tmp_path / "a", noisy(seed=1)), save(tmp_path / "b", noisy(seed=2))
    code, out, err = run("compare", a, b)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "verdict: UNCHANGED"
    assert "floor is 5 %; robust-mnist bench calibrate" in out


def test_a_slowdown_is_named_with_its_size_and_exit_code_3(run, tmp_path):
    a, b = save(tmp_path / "a", noisy(seed=1)), save(tmp_path / "b", noisy(1.2, seed=2))
    code, out, _ = run("compare", a, b)
    assert code == 3
    [row] = [line for line in out.splitlines() if line.startswith("inference[64]")]
    assert "% slower" in row
    assert row.endswith("REGRESSED")
    assert out.splitlines()[-1].startswith("verdict: REGRESSED (load 20.")
    code, out, _ = run("compare", b, a)
    assert code == 0
    assert "16.8 % faster" in out
    assert out.splitlines()[-1].startswith("verdict: IMPROVED (load ")


def test_json_holds_the_same(run, tmp_path):
    a, b = save(tmp_path / "a", noisy(seed=1)), save(tmp_path / "b", noisy(1.2, seed=2))
    code, found = data(run, "compare", a, b)
    assert (code, found["verdict"], found["key"], found["pairs"]) == (3, "REGRESSED", KEY, 6)
    [row, _] = found["benchmarks"]
    assert (row["name"], row["word"], row["floor"]) == ("load", "REGRESSED", 0.05)
    assert row["low"] < row["ratio"] < row["high"]
    assert found["overall"]["word"] == "REGRESSED"
    assert found["a"]["commit"] == "f" * 12


def test_launches_are_paired_in_order_of_time(run, tmp_path):
    # A machine that slows down by a half: only pairs of the same minute agree.
    drift = [{"load": 1.1**minute} for minute in range(6)]
    a, b = save(tmp_path / "a", drift), save(tmp_path / "b", [*drift, {"load": 9.0}])
    code, found = data(run, "compare", a, b)
    assert (code, found["verdict"], found["pairs"]) == (0, "UNCHANGED", 6)
    assert found["notes"][0] == "1 of the launches left out, without a partner"


def test_a_copy_of_a_launch_is_none(run, tmp_path):
    a, b = save(tmp_path / "a", noisy(launches=1)), save(tmp_path / "b", noisy(1.2, launches=1))
    for number in range(5):
        for side in (a, b):
            shutil.copy(side / "001.json", side / f"copy-{number}.json")
    code, found = data(run, "compare", a, b)
    assert (code, found["pairs"], found["verdict"]) == (0, 1, "INCONCLUSIVE")


@pytest.mark.parametrize("later", [True, False])
def test_launches_that_were_not_made_in_turns_are_named(run, tmp_path, later):
    a, b = save(tmp_path / "a", noisy()), save(tmp_path / "b", noisy())
    if later:
        for path in b.iterdir():
            path.write_text(path.read_text().replace("2026-01-01", "2026-01-02"))
    _, out, _ = run("compare", a, b)
    assert ("not in turns" in out) == later


def test_time_of_other_work_is_not_compared(run, tmp_path):
    names = ("load", "inference[64]")
    a = save(tmp_path / "a", noisy(names=names), facts={"load": {"items": 100}})
    b = save(tmp_path / "b", noisy(names=names), facts={"load": {"items": 50}})
    code, found = data(run, "compare", a, b)
    assert (code, found["verdict"]) == (0, "INCONCLUSIVE")
    assert [row["name"] for row in found["benchmarks"]] == ["inference[64]"]
    assert run("compare", a, b, "--strict")[0] == 3
    assert "items 100 -> 50" in run("compare", a, b)[1].splitlines()[-1]


def test_one_file_against_another_decides_nothing_but_counts(run, tmp_path):
    a = save(tmp_path / "a", [{"load": 1}], facts={"load": {"compilations": 2}})
    b = save(tmp_path / "b", [{"load": 1}], facts={"load": {"compilations": 3}})
    code, out, _ = run("compare", a / "001.json", b / "001.json")
    assert code == 3
    assert "INCONCLUSIVE, 5 further pairs needed" in out
    assert "REGRESSED: load: compilations 2 -> 3" in out
    assert out.splitlines()[-1] == "verdict: REGRESSED (load: compilations 2 -> 3)"
    code, out, _ = run("compare", a / "001.json", a)
    assert code == 0
    assert out.splitlines()[-1] == "verdict: INCONCLUSIVE (5 further pairs needed)"
    assert run("compare", a, a, "--strict")[0] == 3


def test_what_vanished_is_a_regression_and_what_is_new_is_named(run, tmp_path):
    a, b = save(tmp_path / "a", noisy()), save(tmp_path / "b", noisy(names=("load", "attack")))
    code, found = data(run, "compare", a, b)
    assert code == 3
    assert (found["vanished"], found["new"]) == (["inference[64]"], ["attack"])
    _, out, _ = run("compare", a, b)
    assert out.splitlines()[-1] == "verdict: REGRESSED (inference[64] vanished)"
    assert any(line.split() == ["attack", "NEW"] for line in out.splitlines())


def test_results_may_lack_what_the_code_here_has_retired(run, tmp_path):
    for part in ("robust_mnist", "benchmarks"):
        (tmp_path / part).mkdir()
    (tmp_path / "benchmarks" / "RETIRED").write_text("inference[64] is measured by load\n")
    a, b = save(tmp_path / "a", noisy(seed=1)), save(tmp_path / "b", noisy(names=("load",)))
    code, out, _ = run("compare", a, b)
    assert code == 0
    assert "RETIRED: is measured by load" in out


def test_compilations_that_were_counted_differently_are_not_compared(run, tmp_path):
    facts = lambda count: {"load": {"compilations": count}}
    a = save(tmp_path / "a", noisy(seed=1), facts=facts(0))
    for more, expected in (({}, 3), ({"counting": "empty caches"}, 0)):
        b = save(tmp_path / f"b{expected}", noisy(seed=2), facts=facts(6), **more)
        code, out, _ = run("compare", a, b)
        assert code == expected
        assert ("counted in different ways" in out) == (expected == 0)


def test_a_last_line_is_short_and_every_commit_is_named(run, tmp_path):
    names = [f"x{i}" for i in range(30)]
    a = save(tmp_path / "a", noisy(names=names))
    b = save(tmp_path / "b", noisy(names=names), facts={name: {"flops": 2} for name in names})
    for path in a.glob("*.json"):
        path.write_text(path.read_text().replace('"extra_info": {}', '"extra_info": {"flops": 1}'))
    (a / "006.json").write_text((a / "006.json").read_text().replace("f" * 40, "e" * 40))
    code, out, _ = run("compare", a, b)
    assert code == 3
    assert out.splitlines()[-1].endswith("and 26 more)")
    assert f"({'e' * 12}, {'f' * 12})" in out.splitlines()[0]


def test_a_summary_that_cannot_be_written_loses_no_verdict(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    a, b = save(tmp_path / "a", noisy(seed=1)), save(tmp_path / "b", noisy(1.2, seed=2))
    code, out, err = run("compare", a, b)
    assert (code, err) == (3, "")
    assert "note: the summary of this step cannot be written" in out
    assert out.splitlines()[-1].startswith("verdict: REGRESSED")


def test_nothing_in_common_is_still_an_answer(run, tmp_path):
    a, b = save(tmp_path / "a", [{"x": 1}]), save(tmp_path / "b", [{"y": 1}])
    code, found = data(run, "compare", a, b)
    assert (code, found["benchmarks"], found["overall"]) == (3, [], None)


def test_other_environments_are_not_compared_and_what_differs_is_named(run, tmp_path):
    a = save(tmp_path / "a", noisy())
    b = save(tmp_path / "b", noisy(), key="cpu-other", threads=4, versions={"jax": "0.12"})
    code, out, err = run("compare", a, b)
    assert (code, out) == (4, "")
    [line] = err.splitlines()
    for said in ("threads 2 and 4", "jax 0.10.2 and 0.12", "jaxlib 0.10.2 and none", "cpu-other"):
        assert said in line
    assert "x64" not in line
    [line] = run("compare", b, a)[2].splitlines()
    assert "threads 4 and 2" in line


def test_quick_runs_are_not_compared_with_full_ones(run, tmp_path):
    a, b = save(tmp_path / "a", noisy()), save(tmp_path / "b", noisy(), quick=True)
    code, _, err = run("compare", a, b)
    assert code == 4
    assert "--quick" in err


@pytest.mark.parametrize(
    ("text", "expected", "said"),
    [
        ("{", 2, "cannot be read as JSON"),
        ("[]", 2, "no result of nox -s bench"),
        ('{"benchmarks": []}', 2, "no result of nox -s bench"),
        ('{"machine_info": {"node": "x"}, "benchmarks": []}', 2, "no result of nox -s bench"),
        (json.dumps(content({"x": 1}, schema=7)), 4, "schema 7"),
        (json.dumps(content({"x": 0})), 2, "more than 0 s"),
        (json.dumps(content({"x": 1e300})), 2, "less than 1e+09 s"),
        (json.dumps(content({})), 2, "at least one benchmark"),
        (json.dumps(content({"x": float("nan")})), 2, "more than 0 s"),
        (json.dumps(content({"x": 1})).replace("0.001", '"x"'), 2, "no result of nox -s bench"),
        (json.dumps(content({"x": 1})).replace("0.001", "9" * 400), 2, "no result of nox -s bench"),
        (json.dumps(content({"x": 1}, facts={"x": "ab"})), 2, "no result of nox -s bench"),
        (None, 4, "holds no result"),
    ],
)
def test_files_that_cannot_be_compared_are_one_line(run, tmp_path, text, expected, said):
    good, bad = save(tmp_path / "good", noisy()), tmp_path / "bad"
    bad.mkdir()
    if text is not None:
        (bad / "result.json").write_text(text)
    for words in ((good, bad), (bad, good)):
        code, out, err = run("compare", *words)
        assert (code, out) == (expected, "")
        [line] = err.splitlines()
        assert said in line
        assert "bad" in line
        assert line.rpartition("; ")[2].startswith(("name another", "run both sides"))


def test_a_missing_baseline_is_no_pass(run, tmp_path):
    good = save(tmp_path / "good", noisy())
    for words, expected in ((("none", good), 4), ((good, "none"), 2), (("", good), 4)):
        code, _, err = run("compare", *words)
        assert code == expected
        assert "is missing" in err
    assert run("compare", "x" * 5000, good)[0] == 4


def test_code_and_results_do_not_mix(run, tmp_path):
    (tmp_path / "code" / "robust_mnist").mkdir(parents=True)
    (tmp_path / "code" / "benchmarks").mkdir()
    code, _, err = run("compare", save(tmp_path / "good", noisy()), "code")
    assert code == 2
    assert "give two" in err


@pytest.mark.parametrize(
    "words",
    [
        ["compare"],
        ["compare", "a"],
        ["compare", "a", "b", "--pairs", "0"],
        ["calibrate", "--launches", "3"],
    ],
)
def test_mistakes_in_flags_are_exit_code_2(run, words):
    assert run(*words)[0] == 2


def test_a_summary_of_a_workflow_gets_the_table(run, tmp_path, monkeypatch):
    names = ("load", "odd|name <b>")
    a, b = save(tmp_path / "a", noisy(names=names)), save(tmp_path / "b", noisy(1.2, names=names))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    run("compare", a, b)
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert lines[0] == "before"
    assert "| benchmark | A | B | change |" in "\n".join(lines)
    assert any(line.startswith("| odd\\|name &lt;b&gt; |") for line in lines)
    assert lines[-2].startswith("verdict: REGRESSED (load 20.")


def test_a_summary_stays_below_a_mebibyte(run, tmp_path, monkeypatch):
    names = [f"{i:04}{'ö' * 400}" for i in range(900)]
    a = save(tmp_path / "a", noisy(names=names, launches=1))
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    for _ in range(3):
        run("compare", a, a)
        assert path.stat().st_size < 2**20
    assert path.stat().st_size > 2**20 - 2000
    assert "at most 1 MiB" in path.read_text()


# --- code ---------------------------------------------------------------------------------------


CONFTEST = f"""
def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true")


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.clear()
    machine_info.update({MACHINE!r}, quick=config.option.quick)
"""
BENCH = """
import time

from robust_mnist import COMPILATIONS, SECONDS


def bench_sleep(benchmark):
    benchmark.extra_info["compilations"] = COMPILATIONS
    benchmark.pedantic(time.sleep, (SECONDS,), rounds=5)


def bench_steady(benchmark):
    benchmark.pedantic(time.sleep, (0.004,), rounds=5)
"""


def git(folder, *words):
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write_code(folder, *, seconds=0.004, compilations=2):
    (folder / "robust_mnist").mkdir(parents=True, exist_ok=True)
    code = f"SECONDS = {seconds}\nCOMPILATIONS = {compilations}\n"
    (folder / "robust_mnist" / "__init__.py").write_text(code)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose benchmarks sleep, with one commit; temporary files go beside it."""
    folder = tmp_path / "repository"
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "benchmarks" / "conftest.py").write_text(CONFTEST)
    (folder / "benchmarks" / "bench_sleep.py").write_text(BENCH)
    shutil.copy(ROOT / "benchmarks" / "pytest.toml", folder / "benchmarks")
    write_code(folder)
    (folder / ".gitignore").write_text("/runs/\n/reports/\n__pycache__/\n.pytest_cache/\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    # A worker of these tests is no reason for the benchmarks to switch themselves off.
    for name in [name for name in os.environ if "XDIST" in name or name == "PYTEST_ADDOPTS"]:
        monkeypatch.delenv(name)
    # All other plugins only take time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_benchmark.plugin")
    return folder


@pytest.fixture
def bench(repository, run, monkeypatch):
    """Run a bench command in the repository, without asking JAX for the environment's key."""
    from robust_mnist import gate

    monkeypatch.chdir(repository)
    monkeypatch.setattr(gate, "environment_key", lambda: KEY)
    return run


@pytest.fixture
def launched(monkeypatch):
    """Launches that take no time: what the code says, with 1 % of noise; the trees in order."""
    from robust_mnist.gate import _launch

    trees, rng = [], np.random.default_rng(0)
    trees_of_name = lambda words: [w for w in words if w.startswith("--benchmark-json=")]

    def fake(words, tree, _environment):
        done = subprocess.CompletedProcess(words, 0, str(tree / "robust_mnist"), "")
        if not (found := trees_of_name(words)):
            return done
        facts = {}
        exec((tree / "robust_mnist" / "__init__.py").read_text(), facts)
        trees.append(tree)
        medians = {"sleep": facts["SECONDS"] * 1e3 * np.exp(rng.normal(0, 0.01)), "steady": 2.0}
        made = content(
            medians, minute=len(trees) % 60, quick="--quick" in words,
            facts={"sleep": {"compilations": facts["COMPILATIONS"]}},
        )  # fmt: skip
        Path(found[0].partition("=")[2]).write_text(json.dumps(made))
        return done

    monkeypatch.setattr(_launch, "_run", fake)
    return trees


def kept(repository):
    return sorted(p.relative_to(repository).as_posix() for p in repository.glob("runs/**/*.json"))


def test_real_launches_find_a_planted_slowdown_and_a_compilation(bench, repository, tmp_path):
    write_code(repository, seconds=0.03, compilations=3)
    code, out, err = bench("compare", "HEAD", ".", "--pairs", "4")
    assert code == 3, out + err
    assert "sleep: compilations 2 -> 3" in out.splitlines()[-1]
    [row] = [line for line in out.splitlines() if line.startswith("sleep")]
    assert row.endswith("REGRESSED")
    assert "slower" in row
    # Nothing is left of the worktrees, and the lock is free.
    assert git(repository, "worktree", "list").count("\n") == 0
    assert [p.name for p in (tmp_path / "temporary").iterdir()] == ["robust-mnist-bench.lock"]
    assert len(kept(repository)) == 8
    assert "launches 8/8" in err


def test_versions_take_turns_abba(bench, repository, launched):
    write_code(repository, seconds=0.006)
    git(repository, "commit", "-qam", "slow")
    code, out, _ = bench("compare", "HEAD~1", "HEAD")
    assert code == 3
    a = launched[0]
    assert "".join("A" if tree == a else "B" for tree in launched) == "ABBAABBAABBA"
    assert "slower" in out
    # From above: A and B are not mixed up.
    _, found = data(bench, "compare", "HEAD~1", "HEAD")
    assert found["benchmarks"][0]["ratio"] == pytest.approx(1.5, rel=0.03)


def test_further_pairs_add_to_the_first_and_a_rerun_measures_nothing(bench, repository, launched):
    words = ("compare", "HEAD", "HEAD")
    assert data(bench, *words)[1]["pairs"] == 6
    assert data(bench, *words)[1]["pairs"] == 6
    assert len(launched) == 12
    assert data(bench, *words, "--pairs", "2")[1]["pairs"] == 8
    assert data(bench, *words, "--pairs", "1")[1]["pairs"] == 9
    assert data(bench, *words)[1]["pairs"] == 9
    assert len(launched) == 18
    assert data(bench, *words, "--quick", "--pairs", "1")[1]["pairs"] == 1
    assert len(kept(repository)) == 20


@pytest.mark.parametrize("more", [[], ["--pairs", "6"]])
def test_ctrl_c_loses_the_launch_in_flight_and_the_same_command_continues(
    bench, repository, launched, monkeypatch, more
):
    from robust_mnist.gate import _launch

    fake = _launch._run

    def interrupted(words, tree, environment):
        if len(launched) == 5 and any("json" in word for word in words):
            raise KeyboardInterrupt
        return fake(words, tree, environment)

    monkeypatch.setattr(_launch, "_run", interrupted)
    code, out, err = bench("compare", "HEAD", "HEAD", *more)
    assert (code, out) == (130, "")
    assert "the same command continues" in err
    assert len(kept(repository)) == 5
    assert git(repository, "worktree", "list").count("\n") == 0
    monkeypatch.setattr(_launch, "_run", fake)
    assert data(bench, "compare", "HEAD", "HEAD", *more)[1]["pairs"] == 6
    assert len(launched) == 12
    assert not list(repository.rglob(".*.tmp.json"))


def test_a_real_ctrl_c_leaves_no_worktree(repository, tmp_path):
    (repository / "benchmarks" / "bench_sleep.py").write_text(
        "import pathlib, time\n\ndef bench_sleep(benchmark):\n"
        f"    pathlib.Path({str(tmp_path / 'started')!r}).touch()\n    time.sleep(60)\n"
    )
    git(repository, "commit", "-qam", "endless")
    script = (
        "import signal, sys\nfrom robust_mnist import cli, gate\n"
        # What a shell starts in the background ignores Ctrl-C, and so would this process.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"gate.environment_key = lambda: {KEY!r}\n"
        "sys.exit(cli.main(['bench', 'compare', 'HEAD', 'HEAD']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script], cwd=repository, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "robust-mnist: interrupted; the same command continues"
    assert git(repository, "worktree", "list").count("\n") == 0
    assert [p.name for p in (tmp_path / "temporary").iterdir()] == ["robust-mnist-bench.lock"]


@pytest.mark.usefixtures("launched")
def test_changed_files_are_told_apart_from_older_launches(bench, repository):
    code, found = data(bench, "compare", "HEAD", ".", "--pairs", "3")
    assert (code, found["verdict"]) == (0, "UNCHANGED")
    write_code(repository, seconds=0.006)
    code, found = data(bench, "compare", "HEAD", ".", "--pairs", "3")
    assert (code, found["verdict"], found["pairs"]) == (3, "REGRESSED", 3)
    write_code(repository)
    assert data(bench, "compare", "HEAD", ".", "--pairs", "1")[1]["pairs"] == 4
    assert len({Path(name).parent for name in kept(repository)}) == 2


def test_code_that_changes_while_it_is_measured_gives_no_result(
    bench, repository, launched, monkeypatch
):
    from robust_mnist.gate import _launch

    fake = _launch._run

    def edited(words, tree, environment):
        if tree == repository and len(launched) == 2:
            write_code(repository, seconds=0.006)
        return fake(words, tree, environment)

    monkeypatch.setattr(_launch, "_run", edited)
    code, _, err = bench("compare", "HEAD", ".")
    assert code == 2
    assert "changed while it was measured" in err
    assert len(kept(repository)) == 2


@pytest.mark.usefixtures("launched")
def test_a_benchmark_may_vanish_with_a_reason(bench, repository, monkeypatch):
    from robust_mnist.gate import _launch

    fake = _launch._run
    listed = "# one a line\n\nsteady took no time at all\n"

    def without(words, tree, environment):
        done = fake(words, tree, environment)
        paths = [Path(w.partition("=")[2]) for w in words if "json" in w]
        if paths and (tree / "benchmarks" / "RETIRED").exists():
            result = json.loads(paths[0].read_text())
            del result["benchmarks"][1]
            paths[0].write_text(json.dumps(result))
        return done

    monkeypatch.setattr(_launch, "_run", without)
    retired = repository / "benchmarks" / "RETIRED"
    for text, expected in ((listed, 0), ("load is not this one\n", 3)):
        retired.write_text(text)
        git(repository, "add", ".")
        git(repository, "commit", "-qm", "retire")
        code, out, _ = bench("compare", "main", "HEAD~0", "--pairs", "1")
        assert code == 0  # neither side has it
        code, out, _ = bench("compare", git(repository, "rev-list", "--max-parents=0", "HEAD"), ".")
        assert code == expected
        assert ("RETIRED: took no time at all" in out) == (expected == 0)
        assert ("VANISHED" in out) == (expected == 3)
    retired.write_text("steady\n")
    code, _, err = bench("compare", "HEAD", ".")
    assert code == 2
    assert "RETIRED, line 1: steady needs a reason" in err


def test_a_path_goes_before_a_revision_and_says_so(bench, repository, launched):
    shutil.copytree(repository, repository / "main", ignore=shutil.ignore_patterns(".git", "runs"))
    _, out, _ = bench("compare", "HEAD", "main", "--pairs", "1")
    assert "note: main is a folder and a git revision; the folder is taken" in out
    assert launched[1] == repository / "main"


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize("name", ["--all", "HEAD:robust_mnist", "nonesuch", "HEAD..HEAD", "", " "])
def test_what_is_no_revision_is_refused(name):
    from robust_mnist import gate
    from robust_mnist.errors import InputError

    with pytest.raises(InputError, match="B is missing") as caught:
        gate.resolve(name, "B")
    assert caught.value.exit_code == 2
    assert gate.resolve("HEAD", "B").state == git(Path(), "rev-parse", "HEAD")


@pytest.mark.usefixtures("launched")
def test_a_revision_without_benchmarks_is_refused(bench, repository):
    git(repository, "rm", "-rq", "--cached", "benchmarks")
    git(repository, "commit", "-qm", "none")
    code, _, err = bench("compare", "HEAD~1", "HEAD")
    assert code == 2
    assert "HEAD has no robust_mnist/ and benchmarks/ to measure; name" in err
    assert git(repository, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    ("line", "expected", "said"),
    [
        ("raise SystemError('the cat')", 1, "the cat"),
        ("def bench_x(benchmark): assert 'left' == 'right'", 1, "assert 'left' == 'right'"),
    ],
)
def test_a_failing_launch_ends_it_with_what_it_printed(bench, repository, line, expected, said):
    (repository / "benchmarks" / "bench_sleep.py").write_text(f"{line}\n")
    code, out, err = bench("compare", ".", "HEAD")
    assert (code, out) == (expected, "")
    assert said in err
    assert err.splitlines()[-1].startswith("robust-mnist: ")
    assert kept(repository) == []


def test_a_launch_that_hangs_is_ended(bench, repository, monkeypatch):
    from robust_mnist.gate import _launch

    monkeypatch.setattr(_launch, "_QUICK_LIMIT_S", 5)
    write_code(repository, seconds=600)
    code, out, err = bench("compare", ".", ".", "--quick")
    assert (code, out) == (1, "")
    assert "a launch was ended after 5 s" in err
    assert kept(repository) == []


def test_a_launch_on_the_wrong_device_is_exit_code_5(bench, repository):
    with (repository / "benchmarks" / "conftest.py").open("a") as stream:
        stream.write("def pytest_configure():\n    import pytest\n")
        stream.write("    pytest.exit('not on a GPU', returncode=5)\n")
    code, out, err = bench("compare", ".", "HEAD")
    assert (code, out) == (5, "")
    assert "not on a GPU" in err


def test_code_of_another_schema_cannot_be_compared(bench, repository):
    path = repository / "benchmarks" / "conftest.py"
    path.write_text(CONFTEST.replace("'schema': 1", "'schema': 0"))
    code, _, err = bench("compare", ".", "HEAD")
    assert code == 4
    assert ". cannot be compared by this version: its result file has schema 0" in err


def test_the_package_of_the_tree_is_the_one_measured(bench, repository, monkeypatch):
    # An installed copy that hides the tree's own must not be measured in its place.
    (repository / "robust_mnist" / "__init__.py").rename(repository / "robust_mnist" / "moved.py")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code, _, err = bench("compare", ".", ".")
    assert code == 1
    assert "a launch of . would import" in err


@pytest.mark.parametrize(
    ("commit", "expected"), [("0123456789ab", 1), ("0.1.0", 0), (None, 0), ("", 0)]
)
@pytest.mark.usefixtures("launched")
def test_a_launch_of_another_commit_is_noticed(bench, repository, monkeypatch, commit, expected):
    own = git(repository, "rev-parse", "--short=12", "HEAD") + "+"
    monkeypatch.setitem(MACHINE, "commit", own if commit is None else commit)
    code, _, err = bench("compare", "HEAD", "HEAD", "--pairs", "1")
    assert code == expected
    assert ("measured 0123456789ab" in err) == bool(expected)


@pytest.mark.usefixtures("repository")
def test_who_waits_for_other_benchmarks_says_so(capsys):
    import fcntl
    import threading

    from robust_mnist.console import Console
    from robust_mnist.gate import _launch

    path = Path(tempfile.gettempdir()) / "robust-mnist-bench.lock"
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.3, lambda: fcntl.flock(other, fcntl.LOCK_UN)).start()
        start = time.monotonic()
        with _launch._alone_on_this_machine(Console()):
            assert time.monotonic() - start > 0.25
    assert f"process {os.getpid()} waits: other benchmarks hold {path}" in capsys.readouterr().err


def test_the_key_of_the_environment_is_asked_for_in_another_process(monkeypatch, repository):
    import jax

    from robust_mnist import bench, gate

    monkeypatch.chdir(repository)  # whose package is not the one to ask
    monkeypatch.setenv("JAX_PLATFORMS", jax.default_backend())
    assert gate.environment_key() == bench.environment_key(bench.environment())
    monkeypatch.setenv("JAX_PLATFORMS", "nonesuch")
    with pytest.raises(gate.LaunchFailed, match="JAX_PLATFORMS=nonesuch asks for") as caught:
        gate.environment_key()
    assert caught.value.exit_code == 5


def test_judging_never_imports_jax():
    script = "import sys\nfrom robust_mnist.commands import gate\nsys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- calibration --------------------------------------------------------------------------------


def timings(medians, **more):
    from robust_mnist.records import Timing, Timings

    return [
        Timings(
            path=Path("x"), key=KEY, created=f"{i}", commit="c", machine=MACHINE | more,
            benchmarks={n: Timing(n, ms / 1e3, (ms / 1e3,), {}) for n, ms in launch.items()},
        )
        for i, launch in enumerate(medians)
    ]  # fmt: skip


def test_the_spread_is_that_of_neighbours_and_hardly_sees_drift():
    from robust_mnist import gate

    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(0, 0.02, 400))
    drift = np.exp(np.linspace(0, 0.5, 400))
    content = gate.calibrate(
        timings([{"still": n, "drifting": n * d} for n, d in zip(noise, drift, strict=True)]),
        quick=False,
    )
    for name in ("still", "drifting"):
        entry = content["benchmarks"][name]["full"]
        # A log-ratio of two launches spreads by the square root of two more than a launch.
        assert entry["sd"] == pytest.approx(0.02 * np.sqrt(2), rel=0.15)
        assert entry["noise_floor"] == pytest.approx(gate.noise_floor(entry["sd"]))


def test_a_launch_that_was_disturbed_hardly_moves_the_floor():
    from robust_mnist import gate

    def floor(disturbed):
        rng = np.random.default_rng(0)
        medians = np.exp(rng.normal(0, 0.02, 24))
        medians[7] *= disturbed
        content = gate.calibrate(timings([{"x": median} for median in medians]), quick=False)
        return content["benchmarks"]["x"]["full"]["noise_floor"]

    assert floor(disturbed=2.0) < 1.3 * floor(disturbed=1.0) < 0.06


@pytest.mark.parametrize("sd", [0.005, 0.05])
def test_the_rule_seldom_blames_the_launches_it_was_calibrated_with(sd):
    from robust_mnist import gate

    shares = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        medians = [{f"b{i}": np.exp(rng.normal(0, sd)) for i in range(10)} for _ in range(12)]
        found = gate.calibrate(timings(medians), quick=False)["lists"]["full"]["false_alarms"]
        assert found["comparisons"] >= 1000
        assert found["low"] <= found["count"] / found["comparisons"] <= found["high"]
        shares.append(found["count"] / found["comparisons"])
    assert np.mean(shares) <= 0.01


def test_false_alarms_are_counted_by_the_very_rule():
    from robust_mnist import gate

    # Two kinds of launches, far apart: some pairings are bound to look like a regression.
    medians = np.log(np.array([[1.0], [1.0], [1.0], [2.0], [2.0], [2.01]]))
    alarms = gate.false_alarms(medians, np.array([0.03]), comparisons=2000)
    # Only if all three pairs go from the fast kind to the slow: 3! 3! of the 6! orders.
    assert alarms.mean() == pytest.approx(36 / 720, abs=0.015)


def test_four_launches_are_too_few_for_false_alarms():
    from robust_mnist import gate

    content = gate.calibrate(timings(noisy(launches=4)), quick=True)
    assert content["lists"]["quick"]["false_alarms"] is None
    table = gate.calibration_table(content, "quick")
    assert table[-1] == ("any benchmark", "", "", "needs 6 launches", "")


def test_calibrate_keeps_its_launches_and_continues(bench, repository, launched, monkeypatch):
    from robust_mnist.gate import _launch

    fake = _launch._run

    def interrupted(words, tree, environment):
        if len(launched) == 4 and any("json" in word for word in words):
            raise KeyboardInterrupt
        return fake(words, tree, environment)

    monkeypatch.setattr(_launch, "_run", interrupted)
    assert bench("calibrate", "--launches", "6")[0] == 130
    assert len(kept(repository)) == 4
    monkeypatch.setattr(_launch, "_run", fake)
    code, out, _ = bench("calibrate", "--launches", "6")
    assert code == 0
    assert len(launched) == 6
    assert "not independent" in out
    assert "% of 2000" in out
    assert (repository / "reports" / "data" / "bench" / KEY / "calibration.json").is_file()
    assert bench("calibrate", "--launches", "6", "--overwrite")[0] == 0
    assert len(launched) == 12


@pytest.mark.usefixtures("launched")
def test_quick_and_full_calibrations_stand_beside_each_other(bench, repository):
    path = repository / "reports" / "data" / "bench" / KEY / "calibration.json"
    assert bench("calibrate", "--launches", "4")[0] == 0
    full = json.loads(path.read_text())
    assert bench("calibrate", "--launches", "4", "--quick")[0] == 0
    both = json.loads(path.read_text())
    assert both["lists"].keys() == {"full", "quick"}
    assert both["benchmarks"]["sleep"].keys() == {"full", "quick"}
    assert both["benchmarks"]["sleep"]["full"] == full["benchmarks"]["sleep"]["full"]
    assert both["lists"]["full"] == full["lists"]["full"]


def test_a_calibrated_floor_takes_the_place_of_five_percent(run, tmp_path):
    from robust_mnist import gate

    a, b = save(tmp_path / "a", noisy(seed=1)), save(tmp_path / "b", noisy(1.1, seed=2))
    noise = [{"load": ms, "inference[64]": 1} for ms in (1, 1.2, 1, 1.2, 1, 1.2)]
    gate.save_calibration(gate.calibrate(timings(noise), quick=False), tmp_path / "floors")
    _, found = data(run, "compare", a, b, "--calibration", "floors")
    floors = {row["name"]: row["floor"] for row in found["benchmarks"]}
    assert floors["inference[64]"] == 0.03
    assert floors["load"] == pytest.approx(gate.noise_floor(np.log(1.2) / 0.6745), rel=1e-3)
    words = {row["name"]: row["word"] for row in found["benchmarks"]}
    assert words == {"inference[64]": "REGRESSED", "load": "UNCHANGED"}
    assert found["calibrated"]
    assert found["notes"] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", 2),
        ("[]", 2),
        ('{"schema": 1}', 2),
        ('{"schema": 9, "benchmarks": {}, "lists": {}}', 4),
        ('{"schema": 1, "benchmarks": {"x": {"full": {"noise_floor": -1}}}, "lists": {}}', 2),
        ('{"schema": 1, "benchmarks": {"x": {"full": {"noise_floor": "1"}}}, "lists": {}}', 2),
    ],
)
def test_a_damaged_calibration_is_one_line(run, tmp_path, text, expected):
    a = save(tmp_path / "a", noisy())
    (tmp_path / "floors" / KEY).mkdir(parents=True)
    (tmp_path / "floors" / KEY / "calibration.json").write_text(text)
    code, _, err = run("compare", a, a, "--calibration", "floors")
    assert code == expected
    [line] = err.splitlines()
    assert "calibration.json" in line


def test_calibrate_needs_the_code(run):
    code, _, err = run("calibrate")
    assert code == 2
    assert "robust_mnist/ and benchmarks/" in err
