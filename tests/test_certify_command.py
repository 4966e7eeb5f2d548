import io
import itertools
import json
import shutil

import numpy as np
import pytest
from test_cli import complaint

from robust_mnist.certify import CERTIFIERS, exact_margin
from robust_mnist.checkpoint import load_model, read_npz
from robust_mnist.data.pixels import to_float
from robust_mnist.models import ACTIVATIONS
from robust_mnist.records import RunFolder
from robust_mnist.sweep import certify_batch


# How commands are told of what `foreign` is.
NET = "--model", "net.npz", "--activation", "tanh"


@pytest.fixture
def foreign(tmp_path):
    """A network as another program may leave it: too small to be right often, and robust."""
    rng = np.random.default_rng(0)
    arrays = {
        "layers.0.weight": rng.normal(size=(6, 784)) / 28, "layers.0.bias": np.zeros(6),
        "layers.1.weight": rng.normal(size=(10, 6)), "layers.1.bias": np.zeros(10),
    }  # fmt: skip
    np.savez(tmp_path / "net.npz", **arrays)
    return arrays


def test_a_run_is_certified_and_keeps_what_was_found(run, finished, small_npz, tmp_path):  # noqa: ARG001
    shutil.copytree(finished, tmp_path / "mine")
    before = RunFolder(tmp_path / "mine").arrays("radii")
    words = ["certify", "--run", "mine", "--eps", "0.004", "--quiet"]
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert found["certified"] + found["attacked"] + found["open"] == found["images"] == 30
    folder = RunFolder(tmp_path / "mine")
    lower, upper = (folder.arrays("radii")[f"{end}/linf"] for end in ("lower", "upper"))
    assert int(np.sum(lower >= 0.004)) == found["certified"] > 0
    assert int(np.sum(upper <= 0.004)) == found["attacked"]
    assert np.all((lower >= before["lower/linf"]) & (upper <= before["upper/linf"]))
    rows = folder.rows()
    row = rows[(rows.kind == "certified") & (rows.method == "all") & (rows.eps == 0.004)]
    assert row.correct.tolist() == [found["certified"]]
    # Nothing is left to try the second time.
    code, out, _ = run(*words)
    assert code == 0
    assert out.startswith("linf 0.004: ") or found["open"]


def test_a_radius_may_be_a_quotient():
    from robust_mnist.cli import parse

    for command in ("certify", "close"):
        words = [command, "--model", "net.npz", "--activation", "tanh"]
        assert parse([*words, "--eps", "8/255"]).eps == 8 / 255
        assert parse(words).eps == 0.01


def test_what_each_method_took_is_added_up_over_calls(run, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "mine")
    folder, counted = RunFolder(tmp_path / "mine"), ("images", "settled", "seconds")
    before, taken = folder.info()["cells"], {}
    for eps in ("0.01", "0.02"):
        words = ["--eps", eps, "--methods", "ibp-linf", "crown-linf", "--quiet", "--json"]
        code, out, err = run("certify", "--run", "mine", *words)
        assert (code, err) == (0, "")
        for one in json.loads(out)[0]["methods"]:
            for name in counted:
                key = f"linf/{one['method']}, on open images", name
                taken[key] = taken.get(key, 0.0) + one[name]
    cells = folder.info()["cells"]
    assert {name: cells[name] for name in before} == before
    made = {name: cell for name, cell in cells.items() if name not in before}
    found = {(key, name): cell[name] for key, cell in made.items() for name in counted}
    assert found == {key: pytest.approx(total) for key, total in taken.items()}
    assert [cell["cells"] for cell in made.values()] == [2, 2]


def test_a_run_is_attacked_with_the_seed_of_its_other_results(run, finished, tmp_path, monkeypatch):
    from robust_mnist import sweep

    shutil.copytree(finished, tmp_path / "mine")
    RunFolder(tmp_path / "mine").update({"attack_seed": 5})
    taken, real = [], sweep.Task
    monkeypatch.setattr(sweep, "Task", lambda *args: taken.append(args) or real(*args))
    words = ["--eps", "0.004", "--methods", "ibp-linf", "--quiet"]
    assert run("certify", "--run", "mine", *words)[0] == 0
    assert [seed for _, _, _, seed, _ in taken] == [5]


def test_each_method_sees_what_those_before_it_left_open(run, foreign, small_npz, tmp_path):
    words = ["certify", *NET, "--data", small_npz, "--eps", "0.02", "--quiet"]
    code, out, _ = run(*words, "--json")
    assert code == 0
    (found,) = json.loads(out)
    methods = found["methods"]
    for first, second in itertools.pairwise(methods):
        assert second["images"] == first["images"] - first["settled"]
    settled = sum(method["settled"] for method in methods)
    assert found["open"] == methods[0]["images"] - settled
    model = read_npz(tmp_path / "net.npz", "tanh")
    assert np.allclose(model.layers[0].weight, foreign["layers.0.weight"])
    from robust_mnist import load

    data = load(str(small_npz))
    crown = CERTIFIERS["crown-linf"]
    proven = certify_batch(crown, model, data.test_images, data.test_labels, eps=0.02)
    assert found["certified"] >= int(proven.sum()) > 0


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_a_proof_by_default_or_is_refused(run, small_npz, activation):
    words = ["certify", "--model", "net.npz", "--data", small_npz, "--activation", activation]
    words += ["--eps", "1e-5", "--norm"]
    code, out, _ = run(*words, "linf", "--quiet", "--json")
    (found,) = json.loads(out)
    assert (code, found["open"]) == (0, 0)
    assert found["certified"] > 0
    if not CERTIFIERS["crown-l1"].activations >= {activation}:
        code, _, err = run(*words, "l1")
        assert code == 2
        assert f"no certifier of l1 knows the activation {activation}" in err


def test_what_certify_leaves_open_is_listed(run, foreign, small_npz, monkeypatch):  # noqa: ARG001
    from robust_mnist.commands import certify

    monkeypatch.setattr(certify, "_LISTED", 1)
    words = ["certify", *NET, "--data", small_npz, "--methods", "ibp-linf"]
    words += ["--eps", "0.1", "--quiet"]
    code, out, _ = run(*words, "--json")
    (found,) = json.loads(out)
    left = found["open_images"]
    assert (code, found["open"]) == (0, len(left))
    assert len(left) > 2
    assert all(one["lower"] == 0 and one["upper"] is None for one in left)
    out = run(*words)[1]
    assert f"open: image {left[0]['image']}, with its radius from 0 to inf\n" in out
    assert out.endswith(f"\nand {len(left) - 1} more, which --json lists\n")


def test_integer_programs_tell_the_margins_of_open_images(run, foreign, small_npz, tmp_path):  # noqa: ARG001
    from robust_mnist import load

    words = ["certify", "--model", "net.npz", "--data", small_npz, "--activation", "relu"]
    words += ["--methods", "ibp-linf", "--eps", "0.1", "--quiet"]
    (found,) = json.loads(run(*words, "--json")[1])
    assert found["exact"] == []
    code, out, err = run(*words, "--exact", "2", "--json")
    assert (code, err) == (0, "")
    (asked,) = json.loads(out)
    assert {name: asked[name] for name in ("open", "open_images")} == {
        name: found[name] for name in ("open", "open_images")
    }
    assert [one["image"] for one in asked["exact"]] == [
        one["image"] for one in found["open_images"][:2]
    ]
    model, data = read_npz(tmp_path / "net.npz", "relu"), load(str(small_npz))
    for one in asked["exact"]:
        x, y = to_float(data.test_images[one["image"]][None])[0], data.test_labels[one["image"]]
        assert one["margin"] == pytest.approx(exact_margin(model, x, int(y), eps=0.1), abs=1e-5)
    out = run(*words, "--exact", "1")[1]
    assert f"exact: image {asked['exact'][0]['image']}, whose least margin is " in out


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (
            {},
            ["--activation", "gelu", "--methods", "crown-linf"],
            "crown-linf knows the activ.*; leave it out",
        ),
        ({}, ["--activation", "tahn"], "unknown activation 'tahn'.*did you mean 'tanh'"),
        ({}, ["--norm", "l0"], "certify has methods for the norms linf, l2, l1, got l0; .*sweep"),
        ({}, ["--methods", "crown-l2"], "crown-l2 acts in l2, but norm is linf"),
        ({}, ["--methods", "crwn-linf"], "unknown method 'crwn-linf': closest are crown-linf, "),
        ({}, ["--eps", "8/0"], "--eps takes a number such as 0.03 or 8/255, got '8/0'"),
        ({}, ["--eps", "0"], "--eps must be finite and above 0, got 0"),
        ({}, ["--exact", "-1"], "--exact must be at least 0, got -1"),
        ({}, ["--exact", "1"], "--exact: exact margins.* for relu, got tanh; .*; leave it out"),
        ({}, ["--exact", "1", "--norm", "l2"], "--exact acts in linf, got l2; leave it out"),
        (
            {"layers.0.weight": np.zeros((257, 784)), "layers.0.bias": np.zeros(257)}
            | {"layers.1.weight": np.zeros((10, 257))},
            ["--exact", "1", "--activation", "relu"],
            "networks with up to 256 hidden neurons, got 257; .*; leave it out",
        ),
        ({}, ["--run", "there"], "either --run or --model, got --run there and --model net.npz"),
        ({"layers.1.bias": np.full(10, np.nan)}, [], "net.npz must hold finite weights.*; train"),
        ({"layers.1.bias": np.zeros(9)}, [], "net.npz: shapes must be.*; transpose"),
        (
            {"layers.0.weight": np.zeros((6, 9))},
            [],
            "must take 784 pixels and give 10 classes.*; name",
        ),
        ({"layers.2.bias": np.zeros(10)}, [], "net.npz must hold layers.0.weight.*; save"),
        ({"layers.1.bias": np.zeros(10, int)}, [], "layers.1.bias must hold real numbers.*; save"),
    ],
)
def test_a_wrong_request_is_one_line(run, foreign, small_npz, change, words, said):
    import re

    np.savez("net.npz", **(foreign | change))
    given = [*NET, "--data", small_npz, *words, "--quiet"]
    asked = complaint(run("certify", *given))
    assert re.search(said, asked), asked


def test_weights_that_had_to_be_rounded_are_counted(run, foreign, small_npz, tmp_path):
    net = ["--model", "net.npz", "--data", small_npz]
    asked = [*net, "--activation", "tanh", "--eps", "0.02"]
    more = ["--out", "net-0.02.npz", "--methods", "ibp-linf", "--budget", "0.001"]
    said = "net.npz: 4,764 of 4,780 weights are no float32 and were rounded; what is found is about"
    for command in (["close", *asked, *more], ["verify", "net-0.02.npz", *net]):
        assert run(*command)[2].count(said) == 1
        assert run(*command, "--quiet")[2] == ""
    single = {name: array.astype(np.float32) for name, array in foreign.items()}
    np.savez(tmp_path / "net.npz", **single)
    assert "rounded" not in run("certify", *asked, "--methods", "ibp-linf")[2]
    # What float32 holds neither exactly nor at all.
    np.savez(tmp_path / "net.npz", **(foreign | {"layers.0.bias": np.full(6, 1e300)}))
    assert "must hold finite weights" in complaint(run("certify", *asked, "--quiet"))


def test_neither_a_run_nor_a_model_is_one_line(run):
    assert "either --run or --model" in complaint(run("certify"))
    assert "gone.npz" in complaint(run("certify", "--model", "gone.npz", "--activation", "tanh"))


def test_a_file_that_is_no_archive_is_one_line_without_a_word_of_unpickling(run, tmp_path):
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    for content in (b"no archive", single.getvalue(), b""):
        (tmp_path / "net.npz").write_bytes(content)
        asked = complaint(run("certify", "--model", "net.npz", "--activation", "tanh"))
        assert "cannot be read as an NPZ" in asked
        assert "; save it with numpy.savez" in asked
        assert "pickle" not in asked


def test_a_run_with_a_broken_weight_is_refused(run, finished, tmp_path):
    import equinox as eqx
    import jax.numpy as jnp

    from robust_mnist import checkpoint

    shutil.copytree(finished, tmp_path / "mine")
    folder = RunFolder(tmp_path / "mine")
    (path,) = (folder.path / "model").iterdir()
    model = eqx.tree_at(
        lambda m: m.layers[0].bias, load_model(path), replace_fn=lambda b: b * jnp.nan
    )
    checkpoint.save_model(path, model, checkpoint.about(path))
    assert "finite weights" in complaint(run("certify", "--run", "mine", "--quiet"))
