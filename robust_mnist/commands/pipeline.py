"""Train, sweep, report: the commands that make a run."""

import dataclasses
import datetime
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from robust_mnist import audit, bench, checkpoint, config, data, metrics, training
from robust_mnist import report as reports
from robust_mnist import sweep as sweeping
from robust_mnist.commands import pages
from robust_mnist.commands._result import Result
from robust_mnist.config import SweepSettings, TrainSettings, flags
from robust_mnist.console import Console
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.figures.live import LiveCurves
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import Row, RunFolder, table


def run(command: config.Run) -> Result:
    """Train if needed, sweep, and write the report."""
    job = _Job.of(command, command.train, command.run, command.out)
    settings = _settle(job.folder, command.sweep, named=command.run is not None)
    sweeping.plan(settings, job.settings.activation)  # wrong names fail before the training
    job.begin(settings)
    job.sweep(settings, job.train())
    made = pages.write(
        [job.folder], job.folder.report, publish=command.publish, overwrite=command.output.overwrite
    )
    return job.result(made)


def train(command: config.Train) -> Result:
    """Train the networks of a run."""
    job = _Job.of(command, command.train, command.run, command.out)
    job.begin()
    job.train()
    return job.result()


def sweep(command: config.Sweep) -> Result:
    """Add methods and radii to a run."""
    job = _Job.of(command, TrainSettings(), command.run, None)
    sweeping.plan(command.sweep, job.settings.activation)
    job.remember(["sweep", "--run", command.run, *flags(command.sweep)])
    job.sweep(command.sweep, job.train())
    return job.result()


def _settle(folder: RunFolder, given: SweepSettings, *, named: bool) -> SweepSettings:
    """The sweep a run is made of: what its folder says, if it says anything.

    Raises:
        InputError: The folder's run has another sweep.
    """
    stored = folder.info().get("sweep") if folder.exists else None
    if stored is None:
        return given
    held = SweepSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()})
    if given == held or (named and given == SweepSettings()):
        return held
    raise InputError(
        f"{folder.path} {_difference(held, given)}; use another --out, or `robust-mnist sweep --run "
        f"{folder.path}` to add methods and radii"
    )


class _Job:
    """One run on its way: settings that fit the folder, data, and the steps that fill it."""

    def __init__(self, settings: TrainSettings, folder: RunFolder, output: config.Output) -> None:
        self.settings, self.folder, self.output = settings, folder, output
        self.console = Console(quiet=output.quiet)
        # Names are checked before data are read, and data before a folder is touched.
        jax.eval_shape(lambda: training.initialise(settings))
        self.dataset = data.load(_source(settings.data))
        self.split = data.split(self.dataset, settings.split)
        if settings.batch_size > len(self.split.train.labels):
            raise InputError(
                f"--batch-size must be at most the {len(self.split.train.labels)} training images, "
                f"got {settings.batch_size}"
            )
        self._check_data()

    @classmethod
    def of(cls, command: Any, given: TrainSettings, run: str | None, out: str | None) -> "_Job":
        """The job a command describes, on a new folder or on its own.

        Raises:
            InputError: The folder belongs to a run with other settings, or to something else.
        """
        if run is not None and out is not None:
            raise InputError(f"--run names an existing run and --out a new one, got {run} and {out}; give one")
        folder = RunFolder(Path(run or out or _default_out(given)))
        if run is not None:
            held = _settings_of(folder)
            if given not in (TrainSettings(), held):
                raise InputError(f"{run} {_difference(held, given)}; leave those flags out, or train another with --out")
            return cls(held, folder, command.output)
        if folder.exists and command.output.overwrite:
            job = cls(given, folder, command.output)
            folder.remove()
            return job
        if folder.exists:
            held = _settings_of(folder)
            if held != given:
                raise InputError(
                    f"{folder.path} {_difference(held, given)}; use another --out, or --overwrite to replace it"
                )
        elif folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            raise InputError(f"{folder.path} exists and is no run; choose another --out")
        return cls(given, folder, command.output)

    def _check_data(self) -> None:
        if not self.folder.exists:
            return
        held = self.folder.info().get("data", {}).get("sha256")
        if held not in (None, self.dataset.sha256):
            raise InputError(
                f"{self.folder.path} was made from other data (sha256 {held[:12]}...) than "
                f"{' '.join(self.settings.data)} holds now ({self.dataset.sha256[:12]}...)"
            )

    def begin(self, sweep: SweepSettings | None = None) -> None:
        """Write what is known before any work is done, so that a killed run can be continued."""
        verb = ["train"] if sweep is None else ["run", *flags(sweep)]
        self.remember([*verb, *flags(self.settings), "--out", str(self.folder.path)])
        about: dict[str, Any] = {
            "name": self.folder.path.name,
            "settings": dataclasses.asdict(self.settings),
            "model_name": self.model_name,
            "environment": bench.environment(),
            "data": {
                "name": self.dataset.name,
                "origin": self.dataset.origin,
                "sha256": self.dataset.sha256,
                **{part: len(getattr(self.split, part).labels) for part in ("train", "valid", "test")},
            },
        }
        if sweep is not None:
            about["sweep"] = dataclasses.asdict(sweep)
        if "created" not in self.folder.info():
            about["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.folder.update(about)

    def remember(self, words: list[str]) -> None:
        """Note the command that made, or added to, this run."""
        command = shlex.join(["robust-mnist", *words])
        before = self.folder.info().get("command", "") if self.folder.exists else ""
        if command not in before.split(" && "):
            self.folder.update({"command": f"{before} && {command}" if before else command})

    @property
    def model_name(self) -> str:
        """Architecture in a word, such as `mlp-784-50-50-10-tanh`."""
        settings = self.settings
        return "-".join([settings.model, *map(str, settings.sizes), settings.activation])

    @property
    def seeds(self) -> list[int]:
        return [self.settings.seed + i for i in range(self.settings.seeds)]

    # --- training -----------------------------------------------------------------------------

    def train(self) -> dict[int, AbstractClassifier]:
        """The networks, from their files or trained now."""
        if not all(self.folder.model(seed).is_file() for seed in self.seeds):
            self._train()
        return {seed: checkpoint.load_model(self.folder.model(seed)) for seed in self.seeds}

    def _train(self) -> None:
        settings = self.settings
        records = -(-settings.epochs // settings.record_every)
        curves = LiveCurves(every=max(1, records // 4), path=self.folder.figures / "training.png")
        with self.console.progress("train", settings.epochs) as update:
            watch = _Watch(settings, self.split, update)
            trained = training.train(
                settings,
                self.split.train,
                self.split.valid,
                checkpoint_path=self.folder.checkpoint,
                on_record=(watch, lambda history: curves(pd.DataFrame(history))),
            )
        for seed, model in zip(self.seeds, trained.models, strict=True):
            about = {
                "model": settings.model, "sizes": settings.sizes, "activation": settings.activation,
                "seed": seed, "data_sha256": self.dataset.sha256,
            }  # fmt: skip
            checkpoint.save_model(self.folder.model(seed), model, about)
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
                "models": {f"seed-{s}": checkpoint.digest(self.folder.model(s)) for s in self.seeds},
            }
        )
        shutil.rmtree(self.folder.checkpoint.parent, ignore_errors=True)

    def _training_rows(self, trained: training.Trained) -> list[Row]:
        evaluate = eqx.filter_jit(metrics.evaluate)
        rows = []
        for seed, model in zip(self.seeds, trained.models, strict=True):
            for name in ("train", "valid", "test"):
                part = getattr(self.split, name)
                images, labels = jnp.asarray(to_float(part.images)), jnp.asarray(part.labels, jnp.int32)
                accuracy = float(evaluate(model, images, labels)["accuracy"])
                rows.append(
                    Row(
                        split=name, seed=seed, norm="", eps=None, step=None, method="clean",
                        kind="training", images=len(part.labels),
                        correct=round(accuracy * len(part.labels)), seconds=trained.seconds, **self.about,
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
            "accelerator": bench.environment()["device_kind"],
        }

    # --- sweeping -----------------------------------------------------------------------------

    def sweep(self, settings: SweepSettings, models: dict[int, AbstractClassifier]) -> None:
        """Run the missing cells, then what the report shows of single images, then the audit."""
        task = sweeping.Task(
            folder=self.folder,
            part=self.split.test,
            plan=sweeping.plan(settings, self.settings.activation),
            attack_seed=settings.attack_seed,
            about=self.about,
        )
        changed = sweeping.sweep_run(task, models, self.console)
        if not changed and (self.folder.path / "panels.npz").is_file() and "audit" in self.folder.info():
            return
        first = models[self.seeds[0]]
        lab, about = sweeping.lab_panel(first, self.dataset)
        panels = sweeping.sample_panels(first, self.dataset, self.split) | lab
        records = self.folder.load()
        radii = {norm: records.radii_of(norm)[0] for norm in records.norms}
        stored = self.folder.arrays("witnesses")
        witnesses = {
            norm: stored[f"witness/{norm}"] if len(models) == 1 else stored[f"witness/{norm}"][0]
            for norm in records.norms
        }
        for norm, merged in radii.items():
            panels |= sweeping.gallery_panel(merged, witnesses[norm], self.split)
        self.folder.write_arrays("panels", panels)
        rows = records.rows[records.rows.seed == self.seeds[0]]
        cells = records.info.get("cells", {})
        evidence = audit.Evidence(first, self.split.test, rows, radii, witnesses, cells)
        self.folder.update({"lab_panel": about, "audit": audit.audit(evidence)})

    # --- telling ------------------------------------------------------------------------------

    def result(self, report: Result | None = None) -> Result:
        """What the command prints at its end."""
        records = self.folder.load()
        rows, training_facts = records.rows, records.info.get("training", {})
        test = rows[(rows.kind == "training") & (rows.split == "test")]
        lines = [
            f"test accuracy: {_spread(test.accuracy.to_numpy())} on {int(test.images.iloc[0])} images",
            f"training: {training_facts['images_per_second']:,.0f} images/s on "
            f"{records.info['environment']['device_kind']}, {training_facts['seconds']:.1f} s "
            f"and {training_facts['compile_seconds']:.1f} s of compilation",
        ]
        if len(records.radii):
            lines += ["", reports.text_table(records)]
        facts = {
            "run": str(self.folder.path),
            "test_accuracy": test.accuracy.tolist(),
            "training": training_facts,
            "device": records.info["environment"]["device_kind"],
            "robust_accuracy": [
                {key: row[key] for key in ("seed", "norm", "eps", "kind", "method", "accuracy", "low", "high")}
                for row in rows[rows.kind.isin(["worst", "certified"])].to_dict("records")
            ],
        }
        if report is not None:
            lines += ["", report.text]
            facts |= report.data
        return Result("\n".join(lines), facts)


class _Watch:
    """Progress of a training: rate and the latest metrics."""

    def __init__(self, settings: TrainSettings, split: data.Split, update: Any) -> None:
        self.settings, self.update = settings, update
        self.start: tuple[float, float] | None = None
        whole = len(split.train.labels) // settings.batch_size * settings.batch_size
        self.images_per_epoch = whole * settings.seeds

    def __call__(self, history: list[training.Record]) -> None:
        now, epoch, seeds = time.perf_counter(), history[-1]["epoch"], self.settings.seeds
        latest = history[-seeds:]
        mean = lambda name: sum(record[name] for record in latest) / seeds
        rate = ""
        if self.start is None:
            self.start = now, epoch  # the first record carries the compilation
        elif now > self.start[0]:
            images = (epoch - self.start[1]) * self.images_per_epoch
            rate = f"{images / (now - self.start[0]):,.0f} images/s  "
        self.update(
            int(epoch),
            f"{rate}train CE {mean('train_cross_entropy'):.2e}  valid CE "
            f"{mean('valid_cross_entropy'):.3f}  valid MSE {mean('valid_mse'):.4f}  valid accuracy "
            f"{mean('valid_accuracy'):.1%}",
        )


def _spread(values: np.ndarray) -> str:
    if values.size == 1:
        return f"{values[0]:.2%}"
    return f"{values.mean():.2%} (mean of {values.size} seeds, {values.min():.2%} to {values.max():.2%})"


def _source(words: tuple[str, ...]) -> str | tuple[str, ...]:
    return words[0] if len(words) == 1 else words


def _default_out(settings: TrainSettings) -> str:
    if settings.data == ("mnist",):
        return f"runs/{settings.split}"
    return f"runs/{Path(settings.data[0]).stem}-{settings.split}"


def _settings_of(folder: RunFolder) -> TrainSettings:
    stored = folder.info().get("settings")
    known = {field.name for field in dataclasses.fields(TrainSettings)}
    if not isinstance(stored, dict) or not set(stored) <= known:
        raise InputError(f"{folder.path}/run.json holds no settings of this version; use another --out")
    return TrainSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()})


def _difference(held: TrainSettings | SweepSettings, given: TrainSettings | SweepSettings) -> str:
    """Words for what two settings differ in: 'has --epochs 500, got 20'."""
    parts = [
        f"--{field.name.replace('_', '-')} {getattr(held, field.name)}, got {getattr(given, field.name)}"
        for field in dataclasses.fields(held)
        if getattr(held, field.name) != getattr(given, field.name)
    ]
    return f"belongs to a run with {'; '.join(parts)}"
