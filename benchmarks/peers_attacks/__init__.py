"""A second opinion on attacks: each side, the attacks it runs, and what all sides are given.

A side is a file with `prepare(work)` and a line in `SIDES`. It answers with images and is not
believed: every answer is judged by the same code, on the same weights.
"""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np


OURS = "robust_mnist"
LAB = "lab"  # the network that all sides race on
# What is timed over and over: all images, each radius on its own.
TIMED = "pgd40-ce-linf"
STEPS, REL_STEP_SIZE = 40, 0.1
RADII: dict[str, tuple[float, ...]] = {
    "linf": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1),
    "l2": (0.2, 0.4, 0.6, 0.8, 1.2),
}
# Images per call of a library that leaves batches to its caller.
BATCH = 1000
ALL, FEW, SLOW, SLOWEST = 10**9, 1000, 200, 20


@dataclasses.dataclass(frozen=True)
class Side:
    """How a table names a side, and what it runs.

    Attributes:
        module: File of this package.
        label: Short name for figures.
        libraries: Distributions whose versions are reported.
        remark: What has to be known beside its numbers.
        attacks: Images that each attack runs on at most. A name ends in its norm; the same name
            means the same settings on every side that has it, as far as the library lets them.
        timed: Which of them enter the race.
    """

    module: str
    label: str
    libraries: tuple[str, ...]
    remark: str
    attacks: Mapping[str, int]
    timed: tuple[str, ...] = (TIMED,)


_FOOLBOX = {
    TIMED: ALL,
    "pgd40-ce-l2": FEW,
    "deepfool50-linf": FEW,
    "deepfool50-l2": FEW,
    "ddn100-l2": FEW,
    "fmn100-linf": FEW,
    "cw5x200-l2": SLOW,
}
SIDES: dict[str, Side] = {
    OURS: Side(
        "ours",
        "robust_mnist",
        ("robust-mnist", "jax", "equinox"),
        "margin loss where no other is named, the best image of all steps. A name alone is a cell "
        "of a sweep: the attack at each radius, every answer shortened, moved into the ball and "
        "evaluated again; `bare` is the attack alone, the same work as that of the others; "
        "`scheduled` spends the cells only where the bounds are open; `quick` and `thorough` are "
        "the presets",
        {
            TIMED: ALL,
            f"bare-{TIMED}": ALL,
            f"scheduled-{TIMED}": ALL,
            "pgd40-linf": FEW,
            "pgd40-l2": FEW,
            "deepfool50-linf": FEW,
            "deepfool50-l2": FEW,
            "ddn100-l2": FEW,
            "fmn100-linf": FEW,
            "fmn100-l2": FEW,
            "cw5x200-l2": SLOW,
            "quick-linf": ALL,
            "quick-l2": ALL,
            "thorough-linf": ALL,
            "thorough-l2": ALL,
        },
        (TIMED, f"bare-{TIMED}", f"scheduled-{TIMED}"),
    ),
    "foolbox-torch": Side(
        "foolbox_torch",
        "Foolbox on PyTorch",
        ("foolbox", "eagerpy", "torch"),
        "cross-entropy, the last image of each attack, clipped to the radius by Foolbox; without "
        "its L2 FMN, which never projects; Brendel-Bethge starts at an image of another class and "
        "its seconds hold numba's compilation",
        {**_FOOLBOX, "brendel-bethge1000-linf": SLOWEST, "brendel-bethge1000-l2": SLOWEST},
    ),
    "torchattacks": Side(
        "torch_attacks",
        "torchattacks",
        ("torchattacks", "torch"),
        "cross-entropy, the last image; its DeepFool is a Python loop over images; its C&W has no "
        "search for the constant and leaves black and white pixels as they are",
        {TIMED: ALL, "pgd40-ce-l2": FEW, "deepfool50-l2": SLOW, "cw1x1000-l2": SLOW},
    ),
    "adv-lib": Side(
        "adversarial_library",
        "adv_lib",
        ("adv-lib", "torch"),
        "the last wrong image of all steps but the last; `pgd40-linf` ascends the margin; DDN "
        "without rounding to grey levels; its L2 FMN moves every step onto the sphere",
        {
            TIMED: ALL,
            "pgd40-linf": FEW,
            "apgd100-targeted-linf": SLOW,
            "apgd100-targeted-l2": SLOW,
            "deepfool50-linf": FEW,
            "deepfool50-l2": FEW,
            "ddn100-l2": FEW,
            "fmn100-linf": FEW,
            "fmn100-l2": FEW,
            "fab100-linf": SLOW,
            "fab100-l2": SLOW,
            "cw5x200-l2": SLOW,
        },
    ),
    "foolbox-jax": Side(
        "foolbox_jax",
        "Foolbox on JAX",
        ("foolbox", "eagerpy", "jax"),
        "as Foolbox on PyTorch; the model is jitted, the attacks cannot be; PGD on fewer images, "
        "as it enters no race",
        _FOOLBOX | {TIMED: FEW},
        (),
    ),
    "autoattack": Side(
        "auto_attack",
        "AutoAttack",
        ("torch",),
        "version `standard` of the checkout that AUTOATTACK names, at each radius",
        {"autoattack-linf": SLOW, "autoattack-l2": SLOW},
        (),
    ),
}
# What the quick form runs: one of each kind, and nothing that compiles for long.
QUICK = frozenset(
    {
        TIMED, f"bare-{TIMED}", f"scheduled-{TIMED}", "pgd40-linf", "quick-linf", "quick-l2",
        "deepfool50-linf", "ddn100-l2", "fmn100-linf", "fab100-linf", "autoattack-linf",
    }
)  # fmt: skip
# What runs on other networks: no race, and the sides' best.
NETWORKS = frozenset(
    name for side in SIDES.values() for name in side.attacks
    if not name.startswith(("bare", "scheduled", "quick", "cw", "brendel"))
)  # fmt: skip


def norm_of(attack: str) -> str:
    """The norm that ends the name of an attack."""
    return attack.rpartition("-")[2]


@dataclasses.dataclass(frozen=True)
class Work:
    """The same for every side: weights and images.

    Attributes:
        weights: Of each layer, shape (out, in).
        biases: Of each layer.
        activation: Hidden activation, `tanh` or `relu`.
        images: Grey levels as stored, one row an image.
        labels: True classes, int64.
        seed: Randomness of the attacks.
        threads: To compute with.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    activation: str
    images: np.ndarray
    labels: np.ndarray
    seed: int
    threads: int

    def write(self, path: Path) -> None:
        layers = {f"weight{i}": weight for i, weight in enumerate(self.weights)}
        layers |= {f"bias{i}": bias for i, bias in enumerate(self.biases)}
        np.savez(path, **layers, activation=self.activation, images=self.images, labels=self.labels)

    @classmethod
    def read(cls, path: Path, **numbers: int) -> "Work":
        with np.load(path) as stored:
            count = sum(name.startswith("weight") for name in stored)
            layer = lambda kind: tuple(stored[f"{kind}{i}"] for i in range(count))
            return cls(
                layer("weight"), layer("bias"), str(stored["activation"]),
                stored["images"], stored["labels"], **numbers,
            )  # fmt: skip

    @property
    def pixels(self) -> np.ndarray:
        """Images in [0, 1], float32, bit for bit those that robust_mnist attacks."""
        return self.images.astype(np.float32) * np.float32(1 / 255)


@dataclasses.dataclass
class Count:
    """Images that the network was evaluated at: forward, and back to the pixels."""

    forward: float = 0.0
    backward: float = 0.0


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A side that has imported its library and holds the network.

    Attributes:
        run: Attacks by name. Each takes a slice of the images and answers with float32 images:
            shape (radii, images, pixels), one for each of `RADII`, or (images, pixels) where it
            searches for the closest wrong image.
        count: What the attacks have evaluated so far.
        stopwatch: Times a block: `seconds` without and `compile_seconds` of compilation.
        batch: Images per call; None for all at once.
        facts: More about the side: threads, environment.
    """

    run: Mapping[str, Callable[[slice], np.ndarray]]
    count: Count
    stopwatch: Callable[[], AbstractContextManager[Any]]
    batch: int | None = BATCH
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
