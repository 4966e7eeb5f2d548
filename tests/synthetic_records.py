"""Runs made up of plausible numbers and real images, for tests of figures and pages.

Nothing here trains or attacks: a figure must show whatever a run says, so the numbers may be drawn.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd


GRIDS = {"linf": (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1), "l2": (0.0, 0.1, 0.3, 0.6, 1.2, 2.0)}
METHODS = {"linf": ("fgsm-linf", "pgd40-linf"), "l2": ("fgm-l2", "pgd40-l2")}
SCALE = {"linf": 0.02, "l2": 0.5}
IMAGES = 400


@functools.cache
def mnist():
    from robust_mnist import data

    return data.load("mnist")


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32)


def probabilities(rng, labels, right=0.85):
    logits = rng.normal(size=(len(labels), 10))
    shown = np.where(
        rng.uniform(size=len(labels)) < right, labels, rng.integers(0, 10, len(labels))
    )
    logits[np.arange(len(labels)), shown] += 4.0
    return softmax(logits)


def history(seeds=1, epochs=500, every=10):
    rng = np.random.default_rng(3)
    rows = []
    for epoch in range(every, epochs + 1, every):
        for seed in range(seeds):
            noise = rng.normal(1.0, 0.03)
            rows.append(
                {
                    "epoch": epoch,
                    "seed": seed,
                    "train_cross_entropy": noise * 2.0 * (1 + epoch / 10) ** -1.5,
                    "valid_cross_entropy": noise * (0.15 + (1 + epoch / 10) ** -1.2),
                    "valid_mse": noise * (0.008 + 0.05 * (1 + epoch / 10) ** -1.2),
                    "valid_accuracy": min(
                        0.999, noise * 0.02 + 0.93 - 0.5 * (1 + epoch / 10) ** -2
                    ),
                }
            )
    return pd.DataFrame(rows)


def radii(rng, labels, norm, certified):
    """The arrays of one network in one norm: merged bounds, and every attack alone."""
    right = rng.uniform(size=labels.size) < 0.95
    exact = np.where(right, rng.gamma(3.0, SCALE[norm] / 3.0, labels.size), 0.0)
    wrong = (labels + rng.integers(1, 10, labels.size)) % 10
    eps = np.asarray(GRIDS[norm][1:])

    def reached_on_grid(factor):
        # An attack inside a ball finds its images at the radii it was run at.
        at = np.searchsorted(eps, exact * factor)
        sizes = np.append(eps, np.inf)[at]
        return np.where(right, sizes, 0.0)

    weak, strong = METHODS[norm]
    alone = {weak: reached_on_grid(1.6), strong: reached_on_grid(1.0)}
    upper = np.minimum(alone[weak], alone[strong])
    lower = np.where(right, np.where(certified, exact * 0.5, 0.0), -np.inf)
    method = np.where(np.isfinite(upper), strong, "")
    return {
        f"lower/{norm}": lower,
        f"upper/{norm}": upper,
        f"certifier/{norm}": np.where(right, "ibp-linf" if certified else "clean", ""),
        f"method/{norm}": np.where(right, method, "clean"),
        f"reached/{norm}": np.where(np.isfinite(upper), wrong, -1).astype(np.int64),
        **{f"upper/{norm}/{name}": sizes for name, sizes in alone.items()},
    }


def row(seed, kind, correct, images, *, norm="", eps=None, step=None, method="", split="test"):
    from robust_mnist import statistics

    low, high = statistics.wilson(correct, images)
    return {
        "dataset": "mnist", "split": split, "model": "mlp-784-50-50-10-tanh",
        "objective": "cross-entropy", "seed": seed, "norm": norm,
        "eps": np.nan if eps is None else eps, "step": np.nan if step is None else step,
        "method": method, "kind": kind, "images": images, "correct": int(correct),
        "accuracy": correct / images, "low": float(low), "high": float(high),
        "seconds": 0.5, "accelerator": "cpu", "jax": "0.10.2", "commit": "abc123",
    }  # fmt: skip


def rows(seed, arrays, norms, images):
    """The tidy rows of one network, counted from its radii as a sweep counts them."""
    any_norm = norms[0]
    clean = int(np.sum(arrays[f"upper/{any_norm}"] > 0))
    yield row(seed, "clean", clean, images, method="clean")
    yield row(seed, "training", 9_990, 10_000, method="clean", split="train")
    yield row(seed, "training", clean, images, method="clean")
    for step in np.logspace(-2, 4, 19):
        falling = clean * (0.06 + 0.94 / (1 + (step / 3) ** 1.2))
        yield row(seed, "step", round(falling), images, step=step, method="gradient-step")
    for norm in norms:
        upper, lower = arrays[f"upper/{norm}"], arrays[f"lower/{norm}"]
        for eps in GRIDS[norm]:
            for method in METHODS[norm]:
                alone = int(np.sum(arrays[f"upper/{norm}/{method}"] > eps))
                yield row(seed, "attacked", alone, images, norm=norm, eps=eps, method=method)
            worst = int(np.sum(upper > eps))
            yield row(seed, "worst", worst, images, norm=norm, eps=eps, method="all")
            if np.any(lower > 0):
                count = int(np.sum(lower >= eps))
                for method in ("all", "ibp-linf"):
                    yield row(seed, "certified", count, images, norm=norm, eps=eps, method=method)
            bounce = int(np.sum(arrays[f"upper/{norm}/{METHODS[norm][0]}"] > eps)) + round(
                200 * eps
            )
            method = METHODS[norm][0]
            yield row(
                seed, "step", min(bounce, images), images, norm=norm, eps=eps, step=eps,
                method=method,
            )  # fmt: skip


def gallery(rng, norm, upper, reached, labels, images):
    index = []
    for pick in (np.argmin, np.argmax):
        for digit in range(10):
            candidates = np.flatnonzero((labels == digit) & (upper > 0))
            if candidates.size:
                index.append(candidates[pick(upper[candidates])])
    index = np.asarray(index)
    pixels = images[index].astype(np.float32) / 255
    noise = rng.normal(size=pixels.shape) if norm == "l2" else rng.choice([-1, 1], pixels.shape)
    length = np.sqrt(784) if norm == "l2" else 1.0
    found = np.isfinite(upper[index])
    change = noise * np.where(found, upper[index], 0.0)[:, None] / length
    witnesses = np.where(found[:, None], np.clip(pixels + change, 0, 1), np.nan)
    return {
        f"gallery/{norm}/images": images[index],
        f"gallery/{norm}/witnesses": witnesses.astype(np.float32),
        f"gallery/{norm}/labels": labels[index],
        f"gallery/{norm}/reached": reached[index],
        f"gallery/{norm}/upper": upper[index],
        f"gallery/{norm}/index": index,
    }


def probes(rng, norm, arrays):
    """Small experiments on the attacks, on every fifth image."""
    places = np.arange(0, arrays[f"upper/{norm}"].size, 5)
    eps = GRIDS[norm][3]
    alone = arrays[f"upper/{norm}/{METHODS[norm][1]}"][places]
    restarts = (alone <= eps) & (alone > 0) & (rng.uniform(size=(8, places.size)) < 0.7)
    after = np.arange(41)
    curves = [0.5 + 0.45 / (1 + after), np.where(after <= 30, 0.53 + 0.45 / (1 + after), np.nan)]
    return {
        f"uint8/{norm}": np.array([150, 180]),
        f"probe/{norm}/eps": np.asarray(eps),
        f"probe/{norm}/places": places,
        f"grid/{norm}/steps": np.array([1, 10, 40]),
        f"grid/{norm}/shares": np.array([0.01, 0.1]),
        f"grid/{norm}/accuracy": np.array([[0.9, 0.8, 0.7], [0.8, 0.6, 0.5]]),
        f"restarts/{norm}/broken": restarts,
        f"convergence/{norm}/methods": np.array([f"apgd100-ce-{norm}", f"pgd40-{norm}"]),
        f"convergence/{norm}/accuracy": np.stack(curves),
        f"convergence/{norm}/seconds": np.array([0.4, 0.03]),
    }


def lab_panel(rng, dataset, smallest):
    image, label = dataset.train_images[-1], int(dataset.train_labels[-1])
    gradient = rng.normal(size=784).astype(np.float32) * 1e-3
    steps = [1.0] if smallest is None else [1.0, smallest]
    attacked = np.stack([image / 255 + step * gradient for step in steps]).astype(np.float32)
    after = probabilities(rng, np.array([label]), right=1.0)
    fooled = probabilities(rng, np.array([(label + 3) % 10]), right=1.0)
    return {
        "lab/image": image,
        "lab/label": np.asarray(label),
        "lab/probabilities": after[0],
        "lab/gradient": gradient,
        "lab/steps": np.asarray(steps),
        "lab/attacked": attacked,
        "lab/attacked_probabilities": np.concatenate([after, fooled])[: len(steps)],
    }


def info(name, seeds, norms, smallest):
    return {
        "schema": 1,
        "name": name,
        "created": "2026-01-02T03:04:05+00:00",
        "command": f"robust-mnist run --out runs/{name}",
        "model_name": "mlp-784-50-50-10-tanh",
        "settings": {
            "data": ["mnist"], "split": "lab", "sizes": [784, 50, 50, 10], "activation": "tanh",
            "epochs": 500, "batch_size": 1000, "seed": 0, "seeds": seeds,
        },
        "sweep": {
            "norm": [], "eps": [], "methods": [], "attack_seed": 0,
        },
        "environment": {
            "python": "3.11.9", "system": "Linux", "machine": "x86_64", "cpu": "A fast one",
            "threads": 2, "platform": "cpu", "device_kind": "cpu", "device_count": 1,
            "versions": {"jax": "0.10.2", "jaxlib": "0.10.2", "numpy": "2.4.6"},
            "commit": "abc123",
        },
        "data": {
            "name": "mnist", "origin": "embedded", "sha256": "ab" * 32,
            "test_sha256": "cd" * 32, "train": 10_000,
            "valid": 1_000, "test": IMAGES,
        },
        "models": {f"seed-{seed}": "cd" * 32 for seed in range(seeds)},
        "training": {
            "compile_seconds": 2.5, "seconds": 30.0, "images_per_second": 170_000.0,
            "networks": seeds,
        },
        "cells": {
            f"{norm}/{method}": {
                "cells": 6.0, "compile_seconds": 1.5, "seconds": 12.0, "close": 3.0,
                "nonfinite": 0.0,
            }
            for norm in norms
            for method in METHODS[norm]
        },
        # A preset chose the attacks, so two of them are enough to be compared.
        "stages": {"0": [f"{norm}/{METHODS[norm][1]}" for norm in norms]},
        "lab_panel": {"index": 59_999, "smallest_step": smallest, "searched_to": 1e16},
        "audit": [
            {"check": "box", "title": "Every wrong image is in its ball and in the box",
             "verdict": "ok", "number": 0, "threshold": "0", "meaning": "Checked in float64."},
            {"check": "steps", "title": "Twice the steps find nothing new", "verdict": "look",
             "number": 0.4, "threshold": "0.2 points", "meaning": "The attack has not converged."},
            {"check": "bounds", "title": "Certified is not above attacked", "verdict": "fail",
             "number": 2, "threshold": "0", "meaning": "One of the two methods is wrong."},
        ],
        "unchecked": [
            {"check": "transfer", "needs": "several seeds"},
            {"check": "black box", "needs": "Square"},
            {"check": "seeds", "needs": "several seeds"},
        ],
    }  # fmt: skip


def make(
    name="made-up", *, seeds=1, norms=("linf", "l2"), certified=True, smallest=1234.5, salt=0,
    images=IMAGES,
):  # fmt: skip
    """A finished run.

    `salt` changes the networks, not the test images: two salts are two runs to compare.
    """
    from robust_mnist.records import Records

    dataset = mnist()
    labels = dataset.test_labels[:images].astype(np.int64)
    networks, tidy = [], []
    for seed in range(seeds):
        rng = np.random.default_rng([salt, seed])
        arrays = {}
        for norm in norms:
            arrays |= radii(rng, labels, norm, certified and norm == "linf")
        networks.append(arrays)
        tidy.extend(rows(seed, arrays, norms, images))
    rng = np.random.default_rng(salt)
    panels = {
        "digits/images": dataset.train_images[:30],
        "digits/labels": dataset.train_labels[:30],
        "test/images": dataset.test_images[:40],
        "test/labels": dataset.test_labels[:40],
        "test/probabilities": probabilities(rng, dataset.test_labels[:40]),
        "flow/labels": dataset.test_labels[:images],
        **lab_panel(rng, dataset, smallest),
    }
    panels |= {
        "universal/eps": np.asarray(0.1),
        "universal/norm": np.asarray("linf"),
        "universal/perturbations": rng.choice([-0.1, 0.1], (11, 784)).astype(np.float32),
        "universal/fooled": np.append(rng.uniform(size=10), np.nan),
        "universal/images": np.append(np.bincount(labels, minlength=10), images),
        "universal/flow": np.where(np.eye(10), np.nan, rng.uniform(size=(10, 10))),
    }
    for norm in norms:
        first = networks[0]
        bounds = first[f"upper/{norm}"], first[f"reached/{norm}"]
        panels |= gallery(rng, norm, *bounds, labels, dataset.test_images[:images])
        panels |= probes(rng, norm, first)
    stacked = {key: np.stack([one[key] for one in networks]) for key in networks[0]}
    facts = info(name, seeds, norms, smallest)
    facts["data"]["test"] = images
    return Records(
        name=name,
        info=facts,
        history=history(seeds),
        rows=pd.DataFrame(tidy),
        radii=stacked if seeds > 1 else networks[0],
        panels=panels,
    )


_SWEPT = {"sweep", "cells", "audit", "unchecked", "lab_panel", "stages"}


def trained_only(name="trained"):
    """A run that was trained and never attacked."""
    records = make(name)
    facts = {key: records.info[key] for key in records.info if key not in _SWEPT}
    kept = {key: value for key, value in records.panels.items() if key.startswith("digits/")}
    rows = records.rows[records.rows["kind"] == "training"]
    return dataclasses.replace(records, info=facts, rows=rows, radii={}, panels=kept)


def write(records, path):
    """Put a run into a folder, as a real one lies on disk."""
    from robust_mnist.records import RunFolder

    run = RunFolder(path)
    run.update(records.info)
    run.write_table("history.csv", records.history)
    run.write_table("rows.csv", records.rows)
    if records.radii:
        run.write_arrays("radii", records.radii)
    run.write_arrays("panels", records.panels)
    return run
