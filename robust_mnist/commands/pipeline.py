"""Train, sweep, report: the commands that make a run.

What training does not need, tables, figures and pages, is imported when it is its turn: half of
the time to the first record would go into that.
"""

import dataclasses
import datetime as dt
import functools
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_mnist import (
    bench,
    checkpoint,
    config,
    data,
    interrupts,
    sweep as sweeping,
    training,
)
from robust_mnist.commands._opening import (
    check_attack_seed,
    check_data,
    check_place,
    check_sweep,
    open_run,
    settings_of,
)
from robust_mnist.commands._programs import start_jax
from robust_mnist.commands._result import Result
from robust_mnist.commands._watch import Watch, outcome
from robust_mnist.config import SweepSettings, TrainSettings, flags
from robust_mnist.console import Console
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Row, RunFolder, table
from robust_mnist.threat import BALLS


if TYPE_CHECKING:
    from robust_mnist.figures import LiveCurves


def run(command: config.Run) -> Result:
    """Train if needed, sweep, and write the report."""
    job = Job.of(command)
    settings, overwrite = command.sweep, command.overwrite
    if not overwrite:
        check_sweep(job.folder, settings)
    sweeping.plan(settings, job.settings.activation)  # wrong names fail before any work
    if not overwrite:
        check_attack_seed(job.folder, settings)
    job.begin(settings, overwrite=overwrite)
    job.sweep(settings, job.train())
    from robust_mnist.commands import pages

    if not job.worked and pages.fresh(job.folder) and not command.publish:
        job.console.note(f"nothing left to do: {job.folder.path} is complete")
    return outcome(job.folder, pages.refresh(job.folder, command), eps=settings.eps)


def train(command: config.Train) -> Result:
    """Train the networks of a run."""
    job = Job.of(command)
    job.begin(overwrite=command.overwrite)
    job.train()
    if not job.worked:
        job.console.note(f"nothing left to do: {job.folder.path} is trained")
    return outcome(job.folder, following="sweep --run")


def sweep(command: config.Sweep) -> Result:
    """Add methods and radii to a run."""
    folder = RunFolder(Path(command.run))
    settings = settings_of(folder)
    job = Job(settings, folder, command.output)
    sweeping.plan(command.sweep, settings.activation)
    check_attack_seed(folder, command.sweep)
    # What is added here does not bind a later `run`, but all draws of a run share their seed.
    folder.update({"attack_seed": command.sweep.attack_seed})
    job.remember(["sweep", "--run", command.run, *flags(command.sweep)])
    if "training" not in folder.info():
        job.console.note(f"{folder.path} is not trained to its end: that comes first")
    job.sweep(command.sweep, job.train())
    if not job.worked:
        job.console.note(f"nothing left to do: {folder.path} holds all of this")
    return outcome(folder, following="report", eps=command.sweep.eps)


class Job:
    """One run on its way: settings that fit the folder, data, and the steps that fill it."""

    def __init__(
        self,
        settings: TrainSettings,
        folder: RunFolder,
        output: config.Output,
        *,
        overwrite: bool = False,
    ) -> None:
        start_jax()
        self.settings, self.folder = settings, folder
        self.console = Console(quiet=output.quiet)
        self.worked = False  # whether anything was left to do
        # Names are checked before data are read, and data before a folder is touched.
        training.check(settings)
        check_place(folder, settings)
        self.dataset = data.load(settings.data, quiet=output.quiet)
        self.split = data.split(self.dataset, settings.split)
        interrupts.check()
        training.check_batch(settings, self.split.train)
        if not overwrite:
            check_data(folder, settings, self.dataset)

    @classmethod
    def of(cls, command: config.Run | config.Train) -> "Job":
        if command.overwrite and command.run is not None:
            raise InputError("--overwrite starts anew and --run continues; give one of them")
        if command.overwrite and command.resume:
            raise InputError("--overwrite starts anew and --resume continues; give one of them")
        settings, folder = open_run(
            command.train, run=command.run, out=command.out, overwrite=command.overwrite
        )
        return cls(settings, folder, command.output, overwrite=command.overwrite)

    @property
    def model_name(self) -> str:
        """Architecture in a word, such as `mlp-784-50-50-10-tanh`."""
        settings = self.settings
        return "-".join([settings.model, *map(str, settings.sizes), settings.activation])

    @property
    def seeds(self) -> list[int]:
        return [self.settings.seed + i for i in range(self.settings.seeds)]

    @functools.cached_property
    def curves(self) -> "LiveCurves":
        from robust_mnist.figures import LiveCurves

        records = -(-self.settings.epochs // self.settings.record_every)
        return LiveCurves(every=max(1, records // 4), path=self.folder.figures / "training.png")

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        return bench.environment()

    def begin(self, sweep: SweepSettings | None = None, *, overwrite: bool = False) -> None:
        """Write what is known before any work is done, so that a killed run can be continued."""
        if overwrite:
            self.folder.remove()
        about: dict[str, Any] = {
            "name": self.folder.path.resolve().name,
            "settings": dataclasses.asdict(self.settings),
            "model_name": self.model_name,
            "data": {
                "name": self.dataset.name,
                "origin": self.dataset.origin,
                "sha256": self.dataset.sha256,
                "test_sha256": self.dataset.test_sha256,
                "train": len(self.split.train.labels),
                "valid": len(self.split.valid.labels),
                "test": len(self.split.test.labels),
            },
        }
        if sweep is not None:
            about |= {"sweep": dataclasses.asdict(sweep), "attack_seed": sweep.attack_seed}
        if not self.folder.exists or "created" not in self.folder.info():
            about["created"] = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            about["environment"] = self.environment
        # In one write: a kill right after it leaves a run that can be continued.
        self.folder.update(about)
        verb = ["train"] if sweep is None else ["run", *flags(sweep)]
        self.remember([*verb, *flags(self.settings), "--out", str(self.folder.path)])

    def remember(self, words: list[str]) -> None:
        """Note the command that made, or added to, this run, but once if it is repeated at once."""
        command = shlex.join(["robust-mnist", *words])
        before = self.folder.info().get("command", "") if self.folder.exists else ""
        if _without_folder(command) != _without_folder(before.split(" && ")[-1]):
            self.folder.update({"command": f"{before} && {command}" if before else command})

    # --- training -----------------------------------------------------------------------------

    def train(self) -> dict[int, AbstractClassifier]:
        """The networks, from their files or trained now."""
        made = [self.folder.path / name for name in ("history.csv", "rows.csv")]
        made += map(self.folder.model, self.seeds)
        gone = [path.name for path in made if not path.is_file()]
        if "training" not in self.folder.info():
            self._train()
        elif gone or self.folder.rows().empty:
            # Nothing else holds what these hold, and training again gives the same networks.
            lost = ", ".join(gone) or "its rows"
            self.console.note(f"{self.folder.path} has lost {lost}: training again")
            self._train()
        return {seed: checkpoint.load_model(self.folder.model(seed)) for seed in self.seeds}

    def _train(self) -> None:
        settings = self.settings
        self.worked = True
        if self.folder.checkpoint.is_file():
            epoch = checkpoint.about(self.folder.checkpoint).get("epoch")
            self.console.note(f"continuing at epoch {epoch} of {settings.epochs}")
        with self.console.progress("train", settings.epochs) as update:
            per_epoch = len(self.split.train.labels) // settings.batch_size * settings.batch_size
            watch = Watch(settings.seeds, per_epoch * settings.seeds, update)
            trained = training.train(
                settings,
                self.split.train,
                self.split.valid,
                checkpoint_path=self.folder.checkpoint,
                on_record=(watch, self._draw),
            )
        self.curves.finish(trained.history)
        self._keep(trained)
        shutil.rmtree(self.folder.checkpoint.parent, ignore_errors=True)

    def _draw(self, history: list[training.Record]) -> None:
        self.curves(history)  # which are imported after the first record has been told

    def _keep(self, trained: training.Trained) -> None:
        import pandas as pd

        settings = self.settings
        about = {
            "model": settings.model,
            "sizes": settings.sizes,
            "activation": settings.activation,
            "data_sha256": self.dataset.sha256,
        }
        for seed, model in zip(self.seeds, trained.models, strict=True):
            checkpoint.save_model(self.folder.model(seed), model, about | {"seed": seed})
        models = {f"seed-{s}": checkpoint.digest(self.folder.model(s)) for s in self.seeds}
        before = self.folder.info().get("models", models)
        if before != models:
            self.console.note("the networks differ in rounding: what was swept is made again")
            self.folder.forget_sweep()
        self.folder.write_table("history.csv", pd.DataFrame(trained.history))
        self.folder.add_rows(table(self._training_rows(trained)))
        self.folder.update(
            {
                "training": {
                    "compile_seconds": trained.compile_seconds,
                    "seconds": trained.seconds,
                    "images_per_second": trained.images_per_second,
                    "networks": settings.seeds,
                },
                "models": models,
            }
        )

    def _training_rows(self, trained: training.Trained) -> list[Row]:
        rows = []
        for name in ("train", "valid", "test"):
            part = getattr(self.split, name)
            pixels = to_float(part.images)
            for seed, model in zip(self.seeds, trained.models, strict=True):
                margins, _ = sweeping.judge_batch(model, pixels, part.labels)
                rows.append(
                    Row(
                        split=name, seed=seed, norm="", eps=None, step=None, method="clean",
                        kind="training", images=len(part.labels), correct=int((margins > 0).sum()),
                        seconds=trained.seconds, **self.about,
                    )
                )  # fmt: skip
        return rows

    @property
    def about(self) -> dict[str, Any]:
        """The columns that all rows share."""
        return {
            "dataset": self.dataset.name,
            "model": self.model_name,
            "objective": self.settings.objective,
            "accelerator": self.environment["device_kind"],
        }

    # --- sweeping -----------------------------------------------------------------------------

    def sweep(self, settings: SweepSettings, models: dict[int, AbstractClassifier]) -> None:
        """Run the missing cells, then what the report shows of single images, then the audit.

        Raises:
            InputError: A network gives no finite logits, which minutes of attacks would not mend.
        """
        for seed, model in models.items():
            sweeping.check_model(model, self.split.test, name=str(self.folder.model(seed)))
        task = sweeping.Task(
            folder=self.folder,
            part=self.split.test,
            plan=sweeping.plan(settings, self.settings.activation),
            attack_seed=settings.attack_seed,
            about=self.about,
            flags=tuple(flags(settings)),
        )
        self.worked |= sweeping.sweep_run(task, models, self.console)
        info = self.folder.info()
        # What was looked at carries the hash of the radii it was made from.
        looked = info.get("looked") == info.get("swept")
        if not looked or not (self.folder.path / "panels.npz").is_file():
            self._look(models)

    def _look(self, models: dict[int, AbstractClassifier]) -> None:
        """Panels and audit, both of the first network."""
        from robust_mnist import audit
        from robust_mnist.commands import trust

        self.worked = True
        model, test = models[self.seeds[0]], self.split.test
        evidence = audit.of_run(self.folder, models, test)
        lab, about = sweeping.lab_panel(model, self.dataset)
        panels = sweeping.sample_panels(model, self.dataset, self.split) | lab
        records = self.folder.load(panels=False)
        for norm, radii in evidence.radii.items():
            panels |= sweeping.gallery_panel(radii, evidence.witnesses[norm], self.split)
        panels |= sweeping.probe_panels(model, test, records, evidence.witnesses)
        if stages := records.info.get("stages"):  # the run of a preset
            # In the norm that was the first to be attacked where bounds were open.
            norm = next(iter(stages.values()))[0].partition("/")[0]
            ran = (records.rows.norm == norm) & (records.rows.kind == "worst")
            if grid := sorted({float(eps) for eps in records.rows.eps[ran] if eps > 0}):
                eps = sweeping.universal_eps(grid)
                panels |= sweeping.universal_panel(model, self.split, eps=eps, ball=BALLS[norm])
        self.folder.write_arrays("panels", panels)
        found, swept = trust.check(evidence, self.console), self.folder.info().get("swept")
        # A page that stands shows what was looked at before.
        again = {"looked": swept, "reported": ""}
        checks = {"audit": found, "unchecked": audit.unchecked(found)}
        self.folder.update({"lab_panel": about, **checks, **again})


def _without_folder(command: str) -> list[str]:
    """The words of a command but for the run's folder, which can be spelled in many ways."""
    words = shlex.split(command)
    return [
        word for before, word in zip(["", *words], words, strict=False)
        if before not in {"--out", "--run"}
    ]  # fmt: skip
