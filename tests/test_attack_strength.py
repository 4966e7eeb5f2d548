"""The preset thorough beside the parts of AutoAttack."""

import json

import jax
import numpy as np
import pytest

from benchmarks import attack_strength as strength
from benchmarks.process import ROOT
from robust_mnist import data
from robust_mnist.attacks import ATTACKS, PGD, AutoAttack, Within
from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.sweep import break_batch, method_key
from robust_mnist.threat import L2, Linf


@pytest.mark.parametrize("ball", [Linf(), L2()], ids=lambda ball: ball.name)
def test_the_parts_of_autoattack_are_those_of_the_registered_attack(ball):
    parts = [ATTACKS[name] for name in strength.methods(strength.AUTO_ATTACK, ball.name)]
    inside = lambda attack: attack.attack if isinstance(attack, Within) else attack
    assert parts == [inside(attack) for attack in AutoAttack(ball).attacks]


def test_ten_times_the_budget_is_ten_times_the_steps_of_every_attack():
    for norm in strength.RADIUS:
        for name in strength.methods(strength.THOROUGH, norm):
            attack = ATTACKS[name]
            inner = getattr(attack, "attack", attack)
            more = strength.longer(attack, 10)
            steps = lambda one: getattr(one, "steps", None) or one.queries
            assert steps(getattr(more, "attack", more)) == 10 * steps(inner), name
            assert type(more) is type(attack)


def test_what_the_other_side_alone_breaks_is_named_and_tried_again(monkeypatch):
    model, images = MLP((784, 4, 10), key=jax.random.key(0)), data.load("mnist").test_images[:40]
    pixels = images.astype(np.float32) * np.float32(1 / 255)
    labels = np.argmax(np.asarray(jax.vmap(model)(pixels)), axis=1).astype(np.uint8)
    part = Part(images, labels, np.arange(40))
    names = {strength.THOROUGH: ("bim10-linf",), strength.AUTO_ATTACK: ("pgd40-linf",)}
    # One step in place of ten: what is missed is what the other attack takes more steps for.
    monkeypatch.setitem(ATTACKS, "bim10-linf", PGD(Linf(), steps=1, rel_step_size=0.3))
    monkeypatch.setattr(strength, "methods", lambda side, _: names[side])
    monkeypatch.setitem(strength.RADIUS, "linf", 0.005)
    found = strength.compare(model, part, "linf", repeats=1, seed=0)
    size = {
        name: break_batch(
            ATTACKS[name], model, part.images, part.labels, ids=part.ids, eps=0.005,
            key=method_key(jax.random.key(0), name),
        ).size
        for (name,) in names.values()
    }  # fmt: skip
    ours, theirs = size["bim10-linf"] <= 0.005, size["pgd40-linf"] <= 0.005
    missed = [row["image"] for row in found["missed"]]
    assert missed == np.flatnonzero(theirs & ~ours).tolist()
    assert len(missed) > 1
    assert found["alone"] == np.flatnonzero(ours & ~theirs).tolist()
    assert found["sides"][strength.THOROUGH]["standing"] == np.mean(~ours)
    # Ten steps reach what one did not.
    assert all(row["again"] is not None and row["again"] <= 0.005 for row in found["missed"])
    assert all(row["autoattack"] <= 0.005 for row in found["missed"])
    page = strength.page(
        {"rows": [{"network": "small", "load": 0.5, **found}], "interrupted": False}
        | {"environment": {"device_kind": "Some CPU", "threads": 2}, "command": "nox"}
    )
    assert f"- small, image {missed[0]}: AutoAttack at " in page
    [row] = [line for line in page.splitlines() if line.startswith("| small | linf | 0.005 | 40 |")]
    assert [cell.strip() for cell in row.split("|")][7:9] == [str(len(missed))] * 2


def test_a_run_without_a_model_is_refused_before_anything_is_attacked(tmp_path, capsys):
    assert strength.main(["--run", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "must be the folder of a trained run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_published_page_is_that_of_the_published_numbers():
    path = ROOT / "reports" / "data" / strength.NAME
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == strength.page(about)
