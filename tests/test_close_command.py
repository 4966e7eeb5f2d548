import contextlib
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from test_certify_command import NET, foreign  # noqa: F401 a fixture
from test_cli import complaint

from robust_mnist import checkpoint, sweep
from robust_mnist.commands.certify import _per_image
from robust_mnist.config import seconds
from robust_mnist.errors import InputError
from robust_mnist.records import ABOUT_CERTIFICATES, Exact, OpenDomains, RunFolder
from robust_mnist.sweep import Spent, Tried, _certify, _saving


@pytest.fixture
def closed(run, foreign, small_npz):  # noqa: F811
    """A network from elsewhere, judged at a radius, and what was said of it."""
    np.savez("net.npz", **foreign)
    words = [*NET, "--data", small_npz, "--eps", "0.02", "--out", "net-0.02.npz"]
    code, out, err = run("close", *words, "--quiet", "--json")
    assert (code, err) == (0, "")
    return words, json.loads(out)[0]


def test_a_network_is_closed_kept_and_verified(run, closed, small_npz):
    words, found = closed
    assert found["open"] == 0
    assert found["certified"] + found["attacked"] == found["images"] == 30
    exact = Exact.read("net-0.02.npz")
    assert np.sum(exact.radii.lower >= 0.02) == found["certified"] > 0
    assert np.sum(exact.radii.upper <= 0.02) == found["attacked"] > 0
    # The same command finds all of it in its file.
    code, out, _ = run("close", *words, "--quiet")
    assert (code, out.count("branch-and-bound")) == (0, 0)
    assert f"exactly {found['certified'] / 30:.2%}" in out
    assert out.count(ABOUT_CERTIFICATES) == 1
    check = ["verify", "net-0.02.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    code, out, _ = run(*check, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["replayed"] == told["witnesses"] == found["attacked"]
    assert told["proven"] == told["certificates"] == found["certified"]
    assert run(*check)[1].count(ABOUT_CERTIFICATES) == 1


def test_documents_say_what_a_certificate_is_about():
    """Of which network, and that another evaluation may differ: in one plain sentence each."""
    root = Path(__file__).parents[1]
    for name in ("README.md", "reports/exact/README.md"):
        text = " ".join((root / name).read_text(encoding="utf-8").split())
        assert "about the float32 weights in exact arithmetic" in text, name
        assert "valuation in float32, TF32 or bfloat16 may differ" in text, name


def prepared(kind, folder, finished, foreign, small_npz, eps):  # noqa: F811
    """Flags for a run or a network from elsewhere, and where open domains are kept."""
    shutil.copytree(finished, folder / "mine")
    np.savez("net.npz", **foreign)
    if kind == "run":
        return ["--run", "mine"], folder / "mine" / "open" / f"seed-0-linf-{eps}.npz"
    return [*NET, "--data", small_npz, "--out", "part.npz"], folder / "part.open.npz"


@pytest.mark.parametrize("kind", ["run", "model"])
def test_a_command_goes_on_from_what_the_one_before_it_left(
    kind, run, finished, foreign, small_npz, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    words, beside = prepared(kind, tmp_path, finished, foreign, small_npz, "0.004")
    words = ["close", *words, "--eps", "0.004"]
    given, sizes = [], {"side": 0, "point": 0}
    domain = OpenDomains(**{
        name: np.zeros(sizes.get(name, 1), array.dtype)
        for name, array in vars(OpenDomains.none()).items()
    })  # fmt: skip

    def settle(*_, left, **__):
        left = left if kind == "model" else left[0]
        given.append(sorted(left))
        left["lines"] = domain
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "settle_at" if kind == "model" else "settle_run", settle)
    code, _, err = run(*words)
    assert (code, "not used" in err) == (130, False)
    left = beside.read_bytes()
    assert run(*words)[0] == 130
    assert given == [[], ["lines"]]
    for damaged in (left[:-30], b"no archive"):
        beside.write_bytes(damaged)
        code, _, err = run(*words)
        assert (code, given[-1]) == (130, [])
        assert err.count(f"{beside.name} is not used: ") == 1
        # What is no file of open domains is somebody else's, but for within a run's own folder.
        assert (beside.read_bytes() == damaged) == (kind == "model")
    beside.write_bytes(left)
    # As it is of one radius, it is none of another.
    other = beside.with_name(beside.name.replace("0.004", "0.005"))
    shutil.copy(beside, tmp_path / "copy.npz")
    (tmp_path / "part.npz").unlink(missing_ok=True)
    if kind == "run":
        shutil.copy(tmp_path / "copy.npz", other)
    code, _, err = run(*words[:-1], "0.005")
    assert (code, given[-1]) == (130, [])
    assert "it is of another network, data, norm, radius or version; what is open begins" in err


@pytest.mark.parametrize("kind", ["run", "model"])
def test_what_is_known_is_written_while_there_is_more_to_come(
    kind, run, finished, foreign, small_npz, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    """Verdicts first, then open domains, as a kill can come at any time."""
    from robust_mnist.commands import certify

    words, beside = prepared(kind, tmp_path, finished, foreign, small_npz, "0.02")
    folder = RunFolder(tmp_path / "mine")
    told, written, real = [], [], certify.write_open_domains

    def known():
        arrays = folder.arrays("radii") if kind == "run" else Exact.read("part.npz").radii.arrays()
        return int(np.sum((arrays["lower/linf"] >= 0.02) | (arrays["upper/linf"] <= 0.02)))

    def write(path, about, left):
        assert path.resolve() == beside.resolve()
        written.append(known())
        real(path, about, left)

    def watched(_):
        return contextlib.nullcontext(lambda *one: told.append((one[0], written[-1:], known())))

    monkeypatch.setattr(certify, "write_open_domains", write)
    monkeypatch.setattr(certify, "_watched", watched)
    monkeypatch.setattr(_saving, "SHARE", np.inf)
    monkeypatch.setattr(_certify, "HAND_OVER", 0.0)
    words += ["--eps", "0.02", "--methods", "ibp-linf", "crown-linf", "--domains", "2000"]
    code, out, err = run("close", *words, "--quiet", "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    ended = [isinstance(one, Tried) for one, *_ in told]
    assert ended[:2] == [True, True]
    assert not all(ended)
    for one, last, there in told:
        assert last == [there], one
    decided = [there for *_, there in told]
    assert decided == sorted(decided)
    assert decided[0] < decided[-1] == found["certified"] + found["attacked"]


@pytest.mark.parametrize("where", ["net.npz/part.npz", "folder"])
def test_a_place_that_cannot_be_written_is_refused_before_there_is_work_to_lose(
    where, run, foreign, small_npz, tmp_path, monkeypatch  # noqa: F811
):  # fmt: skip
    np.savez("net.npz", **foreign)
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(checkpoint, "read_npz", None)
    words = [*NET, "--data", small_npz, "--out", where]
    said = complaint(run("close", *words, "--quiet", "--overwrite"))
    assert re.search("net.npz is a file and can hold no|folder: Is a directory; choose", said)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("net.npz", "--out net.npz would replace the network, --model net.npz; name another"),
        ("net", "--out net would replace the network, --model net.open.npz; name another"),
        (
            "other.npz",
            "other.npz must hold activation, .*, got layers.*; put back a copy, or name another",
        ),
    ],
)
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_nothing_is_replaced_but_what_close_has_written(
    out, said, overwrite, run, foreign, small_npz, tmp_path  # noqa: F811
):  # fmt: skip
    model = "net.open.npz" if out == "net" else "net.npz"
    for name in {model, "other.npz"}:
        np.savez(name, **foreign)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    words = ["--activation", "tanh", "--data", small_npz, "--out", out]
    words += ["--eps", "0.02", "--methods", "ibp-linf", "--budget", "0.001", "--quiet", *overwrite]
    assert re.search(said, complaint(run("close", "--model", model, *words)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_somebody_elses_file_in_the_place_of_open_domains_stays(
    run, foreign, small_npz, tmp_path  # noqa: F811
):  # fmt: skip
    for name in ("net.npz", "part.open.npz"):
        np.savez(name, **foreign)
    before = (tmp_path / "part.open.npz").read_bytes()
    words = [*NET, "--data", small_npz]
    words += ["--out", "part.npz", "--eps", "0.02", "--methods", "ibp-linf", "--domains", "1"]
    for more in ((), ("--overwrite",)):
        code, _, err = run("close", *words, *more)
        assert (code, err.count("it holds no open domains, and stays as it is; to keep")) == (0, 1)
        assert "name another --out" in err
        assert (tmp_path / "part.open.npz").read_bytes() == before


@pytest.mark.long
def test_what_is_left_open_is_named_with_its_bounds(run, small_npz, tmp_path):  # noqa: ARG001
    rng = np.random.default_rng(0)
    shapes = {"layers.0": (40, 784), "layers.1": (40, 40), "layers.2": (10, 40)}
    weights = {f"{at}.weight": rng.normal(size=size) / 6 for at, size in shapes.items()}
    np.savez("net.npz", **weights, **{f"{at}.bias": np.zeros(s[0]) for at, s in shapes.items()})
    words = [*NET, "--data", small_npz, "--eps", "0.005", "--out", "part.npz"]
    words += ["--methods", "ibp-linf", "--budget", "0.0001", "--quiet"]
    code, out, _ = run("close", *words, "--json")
    (found,) = json.loads(out)
    assert code == 0
    assert found["open"] == len(found["open_images"]) > 0
    radii = Exact.read("part.npz").radii
    for one in found["open_images"]:
        at = one["image"]
        assert (radii.lower[at], radii.upper[at]) == (one["lower"], one["upper"])
        assert 0 < radii.lower[at] < 0.005 < radii.upper[at] < 1
        assert radii.certifier[at] == "alpha-crown20-linf"
    code, out, _ = run("close", *words)
    nearest = found["open_images"][0]
    assert f"open: image {nearest['image']}, with its radius from {nearest['lower']:.6g}" in out
    check = ["verify", "part.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    code, out, err = run(*check, "--json")
    assert err == ""
    told = json.loads(out)
    # FAB broke some after their radius was certified.
    smaller = int(np.sum((radii.lower > 0) & (radii.lower < 0.005)))
    assert smaller >= found["open"]
    assert (code, told["smaller"], told["smaller_proven"]) == (0, smaller, smaller)
    # A smaller radius that is claimed too large is noticed.
    exact = Exact.read("part.npz")
    near = np.nextafter(np.minimum(0.005, radii.upper), 0)
    lower = np.where((radii.lower > 0) & (radii.lower < 0.005), near, radii.lower)
    radii = dataclasses.replace(exact.radii, lower=lower)
    dataclasses.replace(exact, radii=radii).write("part.npz")
    code, out, _ = run(*check, "--json")
    assert json.loads(out)["smaller_proven"] < smaller
    assert code == 1


def test_a_false_claim_is_noticed(run, closed, small_npz):  # noqa: ARG001
    exact = Exact.read("net-0.02.npz")
    check = ["verify", "net-0.02.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    witness = exact.witness.copy()
    witness[0] = 0.5
    dataclasses.replace(exact, witness=witness).write("net-0.02.npz")
    assert run(*check)[0] == 1
    # Broken images that are said to be certified.
    lower = np.where(exact.radii.upper <= 0.02, 0.02, exact.radii.lower)
    radii = dataclasses.replace(exact.radii, lower=lower, upper=np.full(30, np.inf))
    dataclasses.replace(exact, radii=radii, at=exact.at[:0], witness=exact.witness[:0]).write(
        "net-0.02.npz"
    )
    code, out, _ = run(*check, "--budget", "20s", "--json")
    told = json.loads(out)
    assert told["proven"] < told["certificates"]
    assert told["refuted"] > 0
    assert code == 1


@pytest.fixture
def claims(closed):  # noqa: ARG001 it writes the file
    """What rewrites the file of `closed`, with other radii."""
    exact = Exact.read("net-0.02.npz")

    def rewrite(**arrays):
        dataclasses.replace(exact, radii=dataclasses.replace(exact.radii, **arrays)).write(
            "net-0.02.npz"
        )

    return exact.radii, rewrite


def test_a_radius_below_the_one_asked_for_has_to_be_proven_as_well(run, claims, small_npz):
    radii, rewrite = claims
    check = ["verify", "net-0.02.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    # Wrong images within 0.02, said to be right almost as far.
    below = np.where((radii.upper > 0) & (radii.upper <= 0.02), 0.99 * radii.upper, radii.lower)
    rewrite(lower=np.where(radii.lower >= 0.02, 0.0199, below))
    code, out, _ = run(*check)
    assert code == 1
    proven, claimed = map(int, re.search(r"(\d+) of (\d+) certified radii below", out).groups())
    assert 0 < proven < claimed
    assert f"not verified: {claimed - proven} claims do not hold" in out
    assert run(*check, "--allow-unproven")[0] == 1


def test_certificates_that_the_time_was_too_short_for_are_not_verified(
    run, claims, small_npz, monkeypatch
):
    radii, _ = claims
    monkeypatch.setattr(sweep, "settle_at", lambda *_, **__: (one for one in ()))
    check = ["verify", "net-0.02.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    code, out, _ = run(*check)
    assert code == 1
    late = int(re.search(r"not verified: (\d+) certificates were neither proven", out)[1])
    assert f" 0 refuted, {late} not proven in the time\n" in out
    assert "give it more time, or accept them with --allow-unproven" in out
    assert late == np.sum(radii.lower >= 0.02) > 0
    code, out, _ = run(*check, "--allow-unproven")
    assert (code, "not verified" in out) == (0, False)
    assert f" 0 refuted, {late} not proven in the time" in out


def test_named_images_are_verified_alone(run, claims, small_npz):
    radii, rewrite = claims
    right, wrong = np.flatnonzero(radii.lower >= 0.02)[0], np.flatnonzero(radii.upper == 0)[0]
    broken = np.flatnonzero((radii.upper > 0) & (radii.upper <= 0.02))[0]
    # A false claim, about another image.
    rewrite(upper=np.where(np.arange(30) == broken, radii.upper / 2, radii.upper))
    check = ["verify", "net-0.02.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    code, out, _ = run(*check, "--image", str(right), str(wrong), "--json")
    told = json.loads(out)
    assert (code, told["certificates"], told["proven"]) == (0, 1, 1)
    assert (told["witnesses"], told["replayed"]) == (1, 1)
    assert run(*check, "--image", f"{right},{broken}")[0] == 1
    assert "--image must be below 30, got 30" in complaint(run(*check, "--image", "30"))
    assert "--image must be at least 0, got -1" in complaint(run(*check, "--image", "-1"))
    both = ["--image", "1", "--images", "2"]
    assert "leave --images out" in complaint(run(*check, *both))


@pytest.mark.parametrize(
    "change",
    [
        lambda radii: {"lower": np.where(radii.lower >= 0.02, 0.05, radii.lower)},
        lambda radii: {"lower": np.where(radii.lower >= 0.02, np.nan, radii.lower)},
        lambda radii: {"upper": np.where(radii.lower >= 0.02, 0.02, radii.upper)},
    ],
    ids=["beyond eps", "no number", "broken as well"],
)
def test_a_file_whose_radii_cannot_be_is_refused(run, claims, small_npz, change):
    radii, rewrite = claims
    rewrite(**change(radii))
    check = ["verify", "net-0.02.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    said = complaint(run(*check))
    assert "net-0.02.npz must claim radii below those that are broken, and of at most" in said
    assert "its eps 0.02, some are larger; put back a copy" in said


def test_a_file_that_cannot_be_about_this_network_is_refused(run, closed, small_npz):
    words, _ = closed
    exact = Exact.read("net-0.02.npz")
    check = ["verify", "net-0.02.npz", "--model", "net.npz", "--data", small_npz, "--quiet"]
    dataclasses.replace(exact, activation="gelu").write("net-0.02.npz")
    said = complaint(run(*check))
    assert re.search("verify knows the activations .*, got gelu; put back a copy of net-0", said)
    dataclasses.replace(exact, witness=exact.witness[:, 1:]).write("net-0.02.npz")
    for command in (check, ["close", *words, "--quiet"]):
        said = complaint(run(*command))
        assert "net-0.02.npz must hold 30 images of 784 pixels, got 30 of 783; put back" in said


def test_a_file_with_a_flipped_byte_is_refused(closed, tmp_path):  # noqa: ARG001 it writes the file
    content = (tmp_path / "net-0.02.npz").read_bytes()
    refused, path = 0, tmp_path / "flipped.npz"
    for at in np.random.default_rng(0).choice(len(content), 300, replace=False):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        said = ""
        try:
            Exact.read(path)
        except InputError as error:
            refused, said = refused + 1, str(error)
        assert said.count("put back a copy") < 2
        with contextlib.suppress(InputError):
            RunFolder(tmp_path).arrays("flipped")
        with contextlib.suppress(InputError):
            checkpoint.read_npz(path, "tanh")
    assert refused > 250


def test_a_file_about_something_else_is_refused(run, closed, foreign, small_npz):  # noqa: F811
    words, _ = closed
    other = [word if word != "0.02" else "0.05" for word in words]
    assert "is about eps 0.02, not 0.05" in complaint(run("close", *other, "--quiet"))
    assert run("close", *other, "--overwrite", "--quiet")[0] == 0
    np.savez("other.npz", **(foreign | {"layers.1.bias": np.ones(10)}))
    check = ["verify", "net-0.02.npz", "--model", "other.npz", "--data", small_npz, "--quiet"]
    assert "is about the network with sha256" in complaint(run(*check))
    with open("net-0.02.npz", "wb") as stream:  # noqa: PTH123 as any program would
        stream.write(b"PK no archive")
    assert re.search("cannot be read: .*; put back a copy", complaint(run(*check)))


@pytest.mark.usefixtures("undrawn")
def test_a_run_remembers_what_was_closed(run, finished, small_npz, tmp_path):  # noqa: ARG001
    shutil.copytree(finished, tmp_path / "mine")
    code, out, err = run("close", "--run", "mine", "--eps", "0.004", "--quiet", "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    folder = RunFolder(tmp_path / "mine")
    (entry,) = folder.info()["closed"]
    assert {key: entry[key] for key in ("certified", "attacked", "open")} == {
        key: found[key] for key in ("certified", "attacked", "open")
    }
    assert np.sum(folder.arrays("radii")["lower/linf"] >= 0.004) == found["certified"]
    # What is said of a certifier alone follows, if it ran on all images.
    arrays, credit = folder.arrays("radii"), folder.arrays("radii")["certifier/linf"]
    for method in ("ibp-linf", "crown-linf"):
        own = arrays.get(f"lower/linf/{method}")
        assert own is None or np.all(
            own[credit == method] >= arrays["lower/linf"][credit == method]
        )
    words = [
        "close",
        "--run",
        "mine",
        "--eps",
        "0.004",
        "--budget",
        "5min",
        "--methods",
        "ibp-linf",
    ]
    assert run(*words, "--quiet")[0] == 0
    assert run("certify", "--run", "mine", "--quiet")[0] == 0
    assert run("report", "--run", "mine", "--quiet")[0] == 0
    typed = (
        "robust-mnist close --run mine --eps 0.004 &amp;&amp; "
        "robust-mnist close --run mine --eps 0.004 --methods ibp-linf --budget 5min &amp;&amp; "
        "robust-mnist certify --run mine"
    )
    assert typed in (tmp_path / "mine" / "report.html").read_text()


@pytest.mark.parametrize("command", ["certify", "close"])
def test_a_run_that_was_only_trained_and_settled_shows_what_is_known(command, run, small_npz):
    assert run("train", "--data", small_npz, *TINY, "--out", "mine", "--quiet")[0] == 0
    code, out, err = run(command, "--run", "mine", "--eps", "0.004", "--quiet", "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert found["open"] == 0
    rows = RunFolder(Path("mine")).rows()
    for kind in ("worst", "certified"):
        row = rows[(rows.kind == kind) & (rows.eps == 0.004)]
        assert row.correct.tolist() == [found["certified"]]
        assert found["certified"] > 0
    assert run("report", "--run", "mine", "--quiet")[0] == 0
    page = Path("mine", "report.html").read_text()
    assert "No image is open at eps 0.004: robust accuracy is" in page
    assert "In no norm was an image certified" not in page
    table = re.search(r"<th[^>]*>eps</th>.*?</table>", page, re.DOTALL)[0]
    share = f"{found['certified'] / 30:.2%}".replace("%", "\N{NO-BREAK SPACE}%")
    assert "worst case</th>" in table
    assert "certified</th>" in table
    assert table.count(share) == 2


@pytest.mark.usefixtures("undrawn")
def test_what_had_no_time_is_told_and_counts_for_nothing(run, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "mine")
    folder = RunFolder(tmp_path / "mine")
    before = folder.info()["cells"]  # attacked up to 0.05
    words = ["close", "--run", "mine", "--eps", "0.055", "--budget", "0.0001s"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_certify, "REST_SECONDS", 600.0)
        code, out, err = run(*words)
    assert code == 0
    late = ["lipschitz-global-linf", "contracting-branch-and-bound-linf"]
    for method in late:
        assert re.search(f"^{method}: no time was left for its [0-9]+ images$", err, re.MULTILINE)
        assert re.search(f"no time was left for .*{method} on [0-9]+ images.*; --budget gives", out)
    rows = folder.rows()
    at = rows[(rows.eps == 0.055) & (rows.norm == "linf")]
    assert "certified" in set(at.kind)
    # FAB looked at all that is open after all; where it does not, nothing says that any attack did.
    assert "worst" in set(at.kind)
    ran = {"linf/alpha-crown20-linf, on open images", "linf/fab100-targeted-linf, on open images"}
    assert folder.info()["cells"].keys() - before.keys() == ran
    words = ["close", "--run", "mine", "--eps", "0.06", "--methods", "ibp-linf,pgd40-linf"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_certify, "REST_SECONDS", 0.0)
        assert run(*words, "--budget", "0.0001s", "--quiet")[0] == 0
    rows = folder.rows()
    assert set(rows[(rows.eps == 0.06) & (rows.norm == "linf")].kind) == {"certified"}
    assert folder.info()["cells"].keys() - before.keys() == ran


@pytest.mark.usefixtures("undrawn")
def test_what_each_image_took_is_kept_and_shown(run, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "mine")
    words = ["--eps", "0.02", "--methods", "ibp-linf", "--domains", "40", "--quiet", "--json"]
    code, out, err = run("close", "--run", "mine", *words)
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    (entry,) = RunFolder(tmp_path / "mine").info()["closed"]
    took, searches = entry["per_image"], [one for one in found["methods"] if one["domains"]]
    assert found["per_image"] == took
    assert [one["image"] for one in took] == sorted({one["image"] for one in took})
    assert len(took) == searches[0]["images"]
    assert all(one["domains"] > 0 for one in took)
    assert sum(one["domains"] for one in took) == entry["domains"]
    assert entry["domains"] == sum(one["domains"] for one in searches)
    decided = [one["seconds"] for one in took if one["seconds"] is not None]
    assert len(decided) == sum(one["settled"] for one in searches) > 0
    assert min(decided) > 0
    # Compilation included.
    assert max(decided) <= sum(one["seconds"] + one["compile_seconds"] for one in searches) + 1
    assert run("report", "--run", "mine", "--quiet")[0] == 0
    page = (tmp_path / "mine" / "report.html").read_text()
    most = max(one["domains"] for one in took)
    assert re.search(f"[0-9]+ / [0-9]+ / {most}</span>", page)
    # As what certifiers took, though it has no place in `closed` by method.
    cells = RunFolder(tmp_path / "mine").info()["cells"]
    for one in found["methods"]:
        cell = cells[f"linf/{one['method']}, on open images"]
        assert (cell["images"], cell["domains"]) == (one["images"], one["domains"])
        assert not one["domains"] or f"{one['domains']:,} domains</span>" in page


@pytest.mark.parametrize("command", ["certify", "close"])
def test_what_cannot_be_done_is_refused_before_a_run_is_trained(
    command, run, finished, tmp_path, monkeypatch
):
    from robust_mnist.commands.pipeline import Job

    shutil.copytree(finished, tmp_path / "mine")
    monkeypatch.setattr(Job, "train", None)
    said = complaint(run(command, "--run", "mine", "--exact", "1", "--quiet"))
    assert "--exact: exact margins are known for relu, got tanh" in said
    folder = RunFolder(tmp_path / "mine")
    if command == "close":
        settings = folder.info()["settings"]
        folder.update({"settings": settings | {"activation": "gelu"}})
        said = complaint(run(command, "--run", "mine", "--quiet"))
        assert re.search("close knows the activations .*, got gelu; use certify", said)


def test_what_several_searches_spent_on_an_image_is_added_up():
    first = Spent(4, 5, 0.5), Spent(7, 4, None), Spent(8, 0, None), Spent(9, 1, None)
    second = Spent(7, 2, 3.25), Spent(8, 0, None), Spent(9, 6, None)
    searches = (("first", 4, first), ("second", 3, second))
    tried = [Tried(name, count, 1, 1.0, 0.0, 10, spent) for name, count, spent in searches]
    assert _per_image([Tried("crown-linf", 9, 5, 1.0, 0.0), *tried]) == [
        {"image": 4, "domains": 5, "seconds": 0.5},
        {"image": 7, "domains": 6, "seconds": 3.25},
        {"image": 9, "domains": 7, "seconds": None},
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "0"], "--budget must be above 0, got 0"),
        (["--budget", "soon"], "a time is written as 90s, 10min or 2h, got 'soon'"),
        (["--domains", "-1"], "--domains must be at least 0, got -1"),
        (["--norm", "l1"], "close acts in linf or l2, got l1; use certify"),
        (["--activation", "gelu"], "close knows the activations .*; use certify"),
        (["--run", "there"], "either --run or --model"),
    ],
)
def test_a_wrong_request_is_one_line(run, foreign, small_npz, words, said):  # noqa: F811
    np.savez("net.npz", **foreign)
    given = [*NET, "--data", small_npz, *words, "--quiet"]
    assert re.search(said, complaint(run("close", *given)))


def test_times_are_read_as_they_are_written():
    assert [seconds(text) for text in ("90s", "10min", "2h", "1.5", "3m")] == [
        90,
        600,
        7200,
        1.5,
        180,
    ]
    for wrong in ("", "min", "1d", "nan", "inf", "1e999"):
        with pytest.raises(InputError, match="written as 90s"):
            seconds(wrong)
