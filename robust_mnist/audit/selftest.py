"""G21: do the checks notice a network that is made to look robust, and leave a sound one alone?"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from robust_mnist import audit
from robust_mnist.audit import Evidence, Verdict
from robust_mnist.audit._gather import of_run
from robust_mnist.audit.fakes import CONTRADICTION, FAKES
from robust_mnist.config import SweepSettings
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Contradiction, RunFolder
from robust_mnist.sweep import Task, plan, sweep_run


# All is compiled for the first network, which takes as long as so many of the others.
FIRST = 6
# Where the table says how robust each network seems; nothing near it is left of a sound one.
SEEMS = 0.1
SWEEP = SweepSettings(norm=("linf",), methods=("fgsm-linf", "pgd40-linf"))
# The check that plants wrong images, which the attack on a sound network has to find.
FINDS = "G20-planted"


@dataclasses.dataclass(frozen=True)
class Trial:
    """What the checks said of one network.

    Attributes:
        name: `sound`, or a name in `FAKES`.
        about: What is wrong with it.
        seems: Share of the images that no attack broke at Linf 0.1; None where the sweep stopped.
        findings: Every check's answer, as in `run.json`.
        stopped: The contradiction that ended the sweep; empty where none did.
        due: By check, the mildest verdict that counts; one of them has to come. Empty where
            nothing has to be said.
    """

    name: str
    about: str
    seems: float | None
    findings: list[dict[str, object]]
    stopped: str = ""
    due: Mapping[str, Verdict] = dataclasses.field(default_factory=dict)

    def said(self, *verdicts: str) -> list[str]:
        """Names of the checks that came to one of these verdicts."""
        names = [str(one["check"]) for one in self.findings if one["verdict"] in verdicts]
        return [*names, *([CONTRADICTION] if self.stopped and "fail" in verdicts else [])]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the checks said of a sound network and of every fake of it."""

    sound: Trial
    fakes: list[Trial]

    def caught_by(self, fake: Trial) -> list[str]:
        """Checks that complain about the fake and not about the network inside it."""
        noise = self.sound.said("look", "fail")
        return [name for name in fake.said("look", "fail") if name not in noise]

    def caught(self, fake: Trial) -> bool:
        """Whether a check that has to notice the fake does, as severely as it has to."""
        by = self.caught_by(fake)
        return any(
            name in by and name in fake.said(verdict, "fail") for name, verdict in fake.due.items()
        )

    @property
    def passed(self) -> list[str]:
        """Fakes that no check has caught of those that have to."""
        return [fake.name for fake in self.fakes if not self.caught(fake)]

    @property
    def accused(self) -> list[str]:
        """Checks that fail the sound network."""
        return self.sound.said("fail")

    @property
    def planted(self) -> dict[str, object] | None:
        """What G20 says of the sound network, among wrong images; None if it could plant none."""
        return next((one for one in self.sound.findings if one["check"] == FINDS), None)

    @property
    def found(self) -> bool:
        """Whether the attack found what was planted, on a sound network where nothing hides it."""
        return self.planted is not None and self.planted["verdict"] == "ok"

    @property
    def ok(self) -> bool:
        """Whether every fake was caught, all planted was found and the sound network passes."""
        return not self.passed and self.found and not self.accused


class OneOf(AbstractClassifier):
    """One of several classifiers, by number: a program is compiled once for all of them.

    Attributes:
        choices: The classifiers.
        number: Which of them answers.
    """

    choices: tuple[AbstractClassifier, ...]
    number: Int[Array, ""]

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        # A function each: a module that is being traced cannot be looked up as a branch.
        branches = [lambda x, choice=choice: choice(x) for choice in self.choices]
        return jax.lax.switch(self.number, branches, x)


def selftest(model: AbstractClassifier, part: Part, *, console: Console) -> Outcome:
    """Attack a network and every fake of it with the sweep of a run, and let the checks look.

    Args:
        model: A network that hides nothing.
        part: Images to attack; a few hundred tell fakes from sound networks.
        console: Where progress goes.
    """
    fakes = {name: planted.wrap(model) for name, planted in FAKES.items()}
    choices = (model, *fakes.values())
    abouts = {"sound": "the network itself", **{name: f.about for name, f in fakes.items()}}
    total = FIRST + len(fakes)
    with console.progress("selftest", total) as update:
        trials: list[Trial] = []
        for number, (name, about) in enumerate(abouts.items()):
            done = FIRST + number - 1 if number else 0
            told = lambda what, done=done, name=name: update(done, f"{name}: {what}")
            one = OneOf(choices, jnp.asarray(number, jnp.int32))
            trials.append(_trial(name, about, one, part, told))
        update(total, "")
    return Outcome(
        trials[0], [dataclasses.replace(one, due=FAKES[one.name].due) for one in trials[1:]]
    )


def attacked(model: AbstractClassifier, part: Part, sweep: SweepSettings) -> Evidence:
    """What a run would leave behind that attacks this network.

    Args:
        model: Any network: no certifier knows one in disguise, so no activation is named.
        part: Images to attack.
        sweep: How.

    Raises:
        Contradiction: Two answers of the sweep exclude each other.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        folder.update({"settings": {"seed": 0, "seeds": 1}})
        words = {"dataset": "", "model": "", "objective": "", "accelerator": ""}
        task = Task(folder=folder, part=part, plan=plan(sweep, ""), attack_seed=0, about=words)
        sweep_run(task, {0: model}, Console(quiet=True))
        return of_run(folder, {0: model}, part)


def _trial(
    name: str, about: str, model: AbstractClassifier, part: Part, told: Callable[[str], None]
) -> Trial:
    told("sweep")
    try:
        evidence = attacked(model, part, SWEEP)
    except Contradiction as found:
        return Trial(name, about, None, [], str(found))
    seems = float(evidence.radii["linf"].attacked_accuracy([SEEMS])[0])
    return Trial(name, about, seems, audit.audit(evidence, told))
