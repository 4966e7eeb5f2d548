"""Whether a run can be trusted, and whether the checks that say so can be."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from robust_mnist import audit as audits, checkpoint, config, data, report as reports, training
from robust_mnist.audit import selftest as selftests
from robust_mnist.audit.selftest import FINDS, SEEMS
from robust_mnist.commands._opening import check_data
from robust_mnist.commands._programs import start_jax
from robust_mnist.commands._result import Result, columns
from robust_mnist.config import TrainSettings
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import RunFolder
from robust_mnist.sweep import check_model


# The lab's network after a twenty-fifth of its epochs: sound, and trained in seconds.
EPOCHS = 20


def audit(command: config.Audit) -> Result:
    """Check a run again, and write the answers to its `run.json`."""
    start_jax()
    folder, console = RunFolder(Path(command.run)), Console(quiet=command.output.quiet)
    folder.check_whole()
    if "swept" not in folder.info():
        raise InputError(
            f"{folder.path} was not attacked, so there is nothing to check; "
            f"robust-mnist sweep --run {folder.path} does that"
        )
    models, part = _run(folder, quiet=command.output.quiet)
    found = check(audits.of_run(folder, models, part), console)
    # The page is told by its results alone; without this a page with older answers would stand.
    unchecked = audits.unchecked(found)
    folder.update({"audit": found, "unchecked": unchecked, "reported": ""})
    alarming = {"look", "fail"} if command.strict else {"fail"}
    bad = any(finding["verdict"] in alarming for finding in found)
    line = reports.trust_line(found, unchecked)
    last = [reports.unchecked_line(unchecked), line, f"next: robust-mnist report {folder.path}"]
    text = "\n".join([_table(found), "", *filter(None, last)])
    facts = {"run": str(folder.path), "trust": line, "audit": found, "unchecked": unchecked}
    return Result(text, facts, int(bad))


def check(evidence: audits.Evidence, console: Console) -> list[dict[str, object]]:
    """Run every check, and say which one is at work."""
    with console.progress("audit", len(audits.CHECKS)) as update:
        number = itertools.count()
        found = audits.audit(evidence, lambda name: update(next(number), name))
        update(len(audits.CHECKS), "")
    return found


def _table(found: list[dict[str, Any]]) -> str:
    rows = [("check", "verdict", "measured", "turns at", "what")]
    rows += [
        (f["check"], f["verdict"], f"{f['number']:.4g}", f["threshold"], f["title"])
        for f in found
    ]  # fmt: skip
    told = [f"{f['check']}: {f['meaning']}" for f in found if f["verdict"] != "ok"]
    return "\n".join([columns(rows), *([""] if told else []), *told])


def selftest(command: config.Selftest) -> Result:
    """Plant fakes around a sound network and see whether the checks notice."""
    start_jax()
    model, part = _subject(command)
    if command.images > len(part.labels):
        raise InputError(
            f"--images must be at most the {len(part.labels)} test images, got {command.images}"
        )
    some = part.take(np.arange(command.images))
    check_model(model, some)
    outcome = selftests.selftest(model, some, console=Console(quiet=command.output.quiet))
    return Result(_verdicts(outcome), _facts(outcome), int(not outcome.ok))


def _subject(command: config.Selftest) -> tuple[AbstractClassifier, Part]:
    """A network that hides nothing, and the test images of its data."""
    quiet = command.output.quiet
    if command.run is not None:
        models, part = _run(RunFolder(Path(command.run)), quiet=quiet)
        return next(iter(models.values())), part
    split = data.split(data.load("mnist", quiet=quiet))
    if command.model is not None:
        return checkpoint.load_model(command.model), split.test
    console = Console(quiet=quiet)
    with console.progress("train", EPOCHS) as update:
        trained = training.train(TrainSettings(epochs=EPOCHS), split.train, split.valid)
        update(EPOCHS, f"valid accuracy {trained.history[-1]['valid_accuracy']:.1%}")
    return trained.models[0], split.test


def _run(folder: RunFolder, *, quiet: bool) -> tuple[dict[int, AbstractClassifier], Part]:
    """The networks of a trained run by seed, and the test images of its data."""
    settings = folder.settings()
    dataset = data.load(settings.data, quiet=quiet)
    check_data(folder, settings, dataset)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    models = {seed: checkpoint.load_model(folder.model(seed)) for seed in seeds}
    return models, data.split(dataset, settings.split).test


def _verdicts(outcome: selftests.Outcome) -> str:
    rows: list[tuple[str, ...]] = [
        ("network", "what it is", "seems right", "verdict", "due from", "caught by")
    ]
    sound = "passes" if not outcome.accused else "ACCUSED"
    rows.append(_row(outcome.sound, sound, outcome.sound.said("look", "fail")))
    found = "found" if outcome.found else "MISSED" if outcome.planted else "NOT RUN"
    rows.append(("planted", "wrong images that PGD must find", "-", found, FINDS, ""))
    for fake in outcome.fakes:
        verdict = "caught" if outcome.caught(fake) else "PASSED"
        rows.append(_row(fake, verdict, outcome.caught_by(fake)))
    lines = [columns(rows), "", f"Seems right: on so many images under attack at Linf {SEEMS:g}."]
    if noise := outcome.sound.said("look"):
        lines.append(f"Do not count, for they ask to look at the sound one: {', '.join(noise)}.")
    if outcome.accused:
        lines.append(f"selftest failed: {', '.join(outcome.accused)} failed the sound network")
    if outcome.passed:
        lines.append(f"selftest failed: no check that is due caught {', '.join(outcome.passed)}")
    if outcome.planted is None:
        lines.append(
            "selftest failed: no wrong image could be planted, and so none was found; "
            "take more --images"
        )
    elif not outcome.found:
        lines.append(f"selftest failed: of planted wrong images {outcome.planted['meaning']}")
    if outcome.ok:
        lines.append(f"selftest passed: {len(outcome.fakes)} fakes caught, the sound one passes")
    return "\n".join(lines)


def _row(trial: selftests.Trial, verdict: str, names: list[str]) -> tuple[str, ...]:
    seems = "-" if trial.seems is None else f"{trial.seems:.1%}"
    due = " or ".join(
        name if severity == "fail" else f"{name} ({severity})"
        for name, severity in trial.due.items()
    )
    return trial.name, trial.about, seems, verdict, due, " ".join(names)


def _facts(outcome: selftests.Outcome) -> dict[str, Any]:
    about = lambda trial: {
        "name": trial.name, "about": trial.about, "seems_right": trial.seems,
        "stopped": trial.stopped, "checks": trial.findings,
    }  # fmt: skip
    return {
        "passed": outcome.ok,
        "sound": about(outcome.sound) | {"accused_by": outcome.accused},
        "planted": {"found": outcome.found, "check": outcome.planted},
        "fakes": [
            about(f)
            | {"due": dict(f.due), "caught": outcome.caught(f), "caught_by": outcome.caught_by(f)}
            for f in outcome.fakes
        ],
    }
