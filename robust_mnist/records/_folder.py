"""A run's folder: where each file stands, and how it is read and written."""

import contextlib
import dataclasses
import functools
import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_mnist import files
from robust_mnist.config import SweepSettings, TrainSettings, restore
from robust_mnist.errors import InputError
from robust_mnist.records._radii import Radii
from robust_mnist.records._ran import ran_at
from robust_mnist.records._rows import COLUMNS, HISTORY, KEY


if TYPE_CHECKING:
    import pandas as pd


SCHEMA = 1
# Ends the names, under `cells` of `run.json`, of what ran only on open images, at one radius.
ON_OPEN_IMAGES = ", on open images"
# Totals there that warn rather than measure: too few of them would hide what went wrong.
WARNINGS = ("close", "nonfinite")
_BEGUN = ("settings", "environment", "data")  # what `run.json` holds from the beginning
# `run.json` goes last: without it nobody could tell that the folder was a run.
FILES = (
    "report.html", "rows.csv", "history.csv", "radii.npz", "witnesses.npz", "panels.npz",
    "run.json",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The files of one run. Every write is whole or absent; every read of a broken file says so."""

    path: Path

    # --- run.json -----------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "run.json").is_file()

    def info(self) -> dict[str, Any]:
        """Settings, environment, versions, timings and hashes.

        Raises:
            InputError: There is no run here, or its `run.json` cannot be read.
        """
        path = self.path / "run.json"
        if not path.is_file():
            raise InputError(
                f"{self.path} holds no run (no run.json); "
                f"robust-mnist run --out {self.path} makes one there"
            )
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read: {error}; put back a copy, or use another --out"
            ) from error
        if not isinstance(info, dict) or info.get("schema") != SCHEMA:
            found = info.get("schema") if isinstance(info, dict) else type(info).__name__
            raise InputError(
                f"{path} must be a run of schema {SCHEMA}, got {found!r}; "
                "put back a copy, or use another --out"
            )
        return info

    def settings(self) -> TrainSettings:
        """The settings the run was trained with.

        Raises:
            InputError: There is no run here, or its `run.json` lacks what every run has.
        """
        info = self.info()
        try:
            return _settings(info)
        except (InputError, TypeError) as error:
            raise InputError(
                f"{self.path / 'run.json'} cannot be used: {error}; "
                "put back a copy, or use another --out"
            ) from error

    def update(self, changes: Mapping[str, Any]) -> None:
        """Merge `changes` into `run.json`, one level deep."""
        info: dict[str, Any] = self.info() if self.exists else {"schema": SCHEMA}
        for name, value in changes.items():
            if isinstance(value, Mapping) and isinstance(info.get(name), dict):
                info[name] = {**info[name], **value}
            else:
                info[name] = value
        files.write_text(self.path / "run.json", json.dumps(info, indent=2) + "\n")

    def check_whole(self) -> None:
        """Refuse to draw a run that is not trained to its end, or has lost results.

        Raises:
            InputError: It is not, a file is missing that `run.json` tells of, or that is damaged.
        """
        self.settings()
        info = self.info()
        if "training" not in info:
            raise InputError(
                f"{self.path} is not trained to its end; robust-mnist train --run {self.path} "
                "goes on with it"
            )
        made = {
            "history.csv": "training", "rows.csv": "training",
            "radii.npz": "swept", "panels.npz": "looked",
        }  # fmt: skip
        gone = [n for n, key in made.items() if key in info and not (self.path / n).is_file()]
        if gone:
            raise InputError(
                f"{self.path} has lost {', '.join(gone)}; "
                f"robust-mnist sweep --run {self.path} makes what is missing again"
            )

    def remove(self) -> None:
        """Delete the files of the run; what else lies in its folder stays."""
        if not self.exists:
            return
        for folder in ("model", "checkpoint", "figures", "unfinished", "cells", "open"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        for file in FILES:
            (self.path / file).unlink(missing_ok=True)

    def forget_sweep(self) -> None:
        """Delete what was found of networks that are no longer these; rows tell what to repeat."""
        self.forget_cells()
        for name in ("radii.npz", "witnesses.npz", "panels.npz"):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / "open", ignore_errors=True)

    def forget_cells(self, plan: str = "*") -> None:
        """Delete what unfinished sweeps have left, first of all what readers see of them.

        Args:
            plan: The `plan` of one of them, as `show` was told; by default all.
        """
        for shown in self._unfinished.glob(f"{plan}.npz"):
            shown.unlink(missing_ok=True)
        cells = self.path / "cells"
        for folder in cells.glob(plan):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self._unfinished, cells):
            with contextlib.suppress(OSError):  # absent, or there is another sweep
                folder.rmdir()

    # --- an unfinished sweep ------------------------------------------------------------------

    @property
    def _unfinished(self) -> Path:
        return self.path / "unfinished"

    def show(
        self, about: Mapping[str, Any], rows: "pd.DataFrame", radii: Mapping[str, np.ndarray]
    ) -> None:
        """Let readers see what an unfinished sweep has found so far, all in one file.

        Args:
            about: The `plan` that tells it from other sweeps, `done` cells `of` how many, the
                `flags` that ask for the rest, `swept` as in `run.json` when it began, and in `run`
                what it changes there.
            rows: Rows that it adds.
            radii: Arrays that it changes.
        """
        texts = {"about": json.dumps(about), "rows": rows.to_csv(index=False)}
        arrays = {name: np.asarray(text) for name, text in texts.items()}
        arrays |= {f"radii/{name}": array for name, array in radii.items()}
        RunFolder(self._unfinished).write_arrays(about["plan"], arrays, compress=False)

    def unfinished(self) -> dict[str, Any]:
        """What `show` was told of a sweep that is under way or was stopped; empty if none was.

        Of several the one that was shown last.

        Raises:
            InputError: The file is damaged.
        """
        return self._shown()[0]

    def _shown(self) -> tuple[dict[str, Any], "pd.DataFrame", dict[str, np.ndarray]]:
        import pandas as pd

        shown = list(self._unfinished.glob("[!.]*.npz"))
        if not shown:
            return {}, pd.DataFrame(), {}
        path = max(shown, key=lambda path: path.stat().st_mtime_ns)
        stored = RunFolder(self._unfinished).arrays(path.stem)
        if not stored:  # the sweep has come to its end just now
            return {}, pd.DataFrame(), {}
        try:
            about = json.loads(str(stored["about"]))
            rows = _frame(io.StringIO(str(stored["rows"])), path, COLUMNS)
        except (KeyError, ValueError) as error:
            raise _damaged(path, error) from error
        kinds = {"plan": str, "done": int, "of": int, "flags": list, "run": dict}
        lacking = [name for name, kind in kinds.items() if not isinstance(about.get(name), kind)]
        if lacking:
            raise _damaged(path, f"it says nothing of {', '.join(lacking)}")
        start = "radii/"
        radii = {n.removeprefix(start): stored[n] for n in stored if n.startswith(start)}
        return about, rows, radii

    # --- tables -------------------------------------------------------------------------------

    def history(self) -> "pd.DataFrame":
        """Training record, one row per record and seed; empty before training ends."""
        return self._table("history.csv", HISTORY)

    def rows(self) -> "pd.DataFrame":
        """All results so far."""
        return self._table("rows.csv", COLUMNS)

    def add_rows(self, frame: "pd.DataFrame") -> None:
        """Add results; a row of the same method, radius and seed is replaced."""
        self.write_table("rows.csv", _joined(self.rows(), frame))

    def write_table(self, name: str, frame: "pd.DataFrame") -> None:
        """Write a table as CSV."""
        with files.writing(self.path / name) as temporary:
            frame.to_csv(temporary, index=False)

    def _table(self, name: str, columns: tuple[str, ...]) -> "pd.DataFrame":
        import pandas as pd

        path = self.path / name
        return _frame(path, path, columns) if path.is_file() else pd.DataFrame()

    # --- arrays -------------------------------------------------------------------------------

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `<name>.npz`; empty if there is none.

        Raises:
            InputError: The file is damaged or would need unpickling.
        """
        return self._stored(name, lambda stored: {key: stored[key] for key in stored.files})

    def array_names(self, name: str) -> set[str]:
        """The names in `<name>.npz`, without reading the arrays.

        Raises:
            InputError: The file is damaged.
        """
        return set(self._stored(name, lambda stored: dict.fromkeys(stored.files)))

    def _stored(self, name: str, take: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        path = self.path / f"{name}.npz"
        if not path.is_file():
            return {}
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return take(stored)
        except files.DAMAGED as error:
            raise _damaged(path, "it is no NPZ of plain arrays") from error

    def write_arrays(
        self, name: str, arrays: Mapping[str, np.ndarray], *, compress: bool = True
    ) -> None:
        """Write `<name>.npz`; compression takes a second per 10,000 images."""
        save = np.savez_compressed if compress else np.savez
        with files.writing(self.path / f"{name}.npz") as temporary, temporary.open("wb") as stream:
            save(stream, **arrays)  # type: ignore[arg-type]

    # --- folders ------------------------------------------------------------------------------

    def model(self, seed: int) -> Path:
        """The weights of one seed."""
        return self.path / "model" / f"seed-{seed}.safetensors"

    def open_domains(self, seed: int, norm: str, eps: float) -> Path:
        """What branch and bound has left of one seed at one radius."""
        return self.path / "open" / f"seed-{seed}-{norm}-{eps!r}.npz"

    @property
    def checkpoint(self) -> Path:
        """The state of an unfinished training."""
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def figures(self) -> Path:
        """SVG and PNG figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def load(self, *, panels: bool = True, unfinished: bool = False) -> "Records":
        """Everything a report needs, in memory.

        The rows of a minimal attack at an infinite radius tell the sweep that it has run; no curve
        has a place for them.

        Args:
            panels: Whether to read these, which are for single images only.
            unfinished: Whether to add what a sweep that was stopped has found. Panels, which are of
                what stood before, are left out then; trust checks are of that as well.
        """
        rows, radii, info = self.rows(), self.arrays("radii"), self.info()
        if unfinished:
            about, new_rows, new_radii = self._shown()
            # What was written since knows more, of the same images.
            if about and about.get("swept") == info.get("swept"):
                both = radii.keys() & new_radii.keys()
                sampled = {n.split("/")[1] for n in both if radii[n].shape != new_radii[n].shape}
                if sampled:  # what is of all images does not stand in one table with a sample
                    rows = rows[~rows["norm"].isin(sampled)]
                rows, radii = _joined(rows, new_rows), radii | new_radii
                info |= about["run"]
            if about:
                info |= {"unfinished": about}
                panels = False
        return Records(
            name=self.path.resolve().name,
            info=info,
            history=self.history(),
            rows=rows if rows.empty else rows[~np.isinf(rows["eps"])],
            radii=radii,
            panels=self.arrays("panels") if panels else {},
        )


@dataclasses.dataclass(frozen=True)
class Records:
    """A finished run, as figures and pages see it.

    Attributes:
        name: Name of the run's folder.
        info: Content of `run.json`.
        history: Training record: epoch, seed, train_cross_entropy, valid_cross_entropy, valid_mse,
            valid_accuracy.
        rows: Tidy results with the columns `COLUMNS`.
        radii: Arrays of `radii.npz`, each with a leading axis of seeds if the run has several.
        panels: Small arrays behind the figures that show single images.
    """

    name: str
    info: dict[str, Any]
    history: "pd.DataFrame"
    rows: "pd.DataFrame"
    radii: dict[str, np.ndarray]
    panels: dict[str, np.ndarray]

    @functools.cached_property
    def seeds(self) -> list[int]:
        """Training seeds, in the order of the leading axis of `radii`."""
        settings = self.info["settings"]
        return [settings["seed"] + i for i in range(settings["seeds"])]

    @functools.cached_property
    def norms(self) -> list[str]:
        """Norms that were swept."""
        return sorted(
            key.removeprefix("upper/")
            for key in self.radii
            if key.count("/") == 1 and key.startswith("upper/")
        )

    def radii_of(self, norm: str) -> list[Radii]:
        """Merged radii in `norm`, one per seed."""
        names = ("lower", "upper", "certifier", "method", "reached")
        stacked = {name: self.radii[f"{name}/{norm}"] for name in names}
        if len(self.seeds) == 1:
            stacked = {name: array[None] for name, array in stacked.items()}
        return [
            Radii(norm=norm, **{name: array[i] for name, array in stacked.items()})
            for i in range(len(self.seeds))
        ]

    def upper_by_method(self, norm: str) -> dict[str, np.ndarray]:
        """Closest wrong image of each attack alone, `[seeds, images]`.

        NaN for images that the attack did not run on at each of its radii: their sizes would be
        those of some radii only, and the method would seem weaker than it is. NaN for all images
        where that is known of some radii and not of others, as after a sweep that added to a run of
        an earlier version.
        """
        prefix = f"upper/{norm}/"
        found = {}
        for key in sorted(self.radii):
            if key.startswith(prefix):
                method, upper = key.removeprefix(prefix), self.radii[key]
                ran = self._ran(norm, method)
                found[method] = np.atleast_2d(
                    upper if ran is None else np.where(ran, upper, np.nan)
                )
        return found

    def _ran(self, norm: str, method: str) -> np.ndarray | None:
        """The images that an attack ran on at each radius of its rows; None if unknown of all."""
        if self.rows.empty:
            return None
        rows = self.rows[(self.rows["norm"] == norm) & (self.rows["method"] == method)]
        eps = rows["eps"][(rows["kind"] == "attacked") & (rows["eps"] > 0)].unique()
        masks = [ran_at(self.radii, norm, method, float(one)) for one in eps]
        known = [mask for mask in masks if mask is not None]
        if not known:
            return None
        return np.all(known, axis=0) & (len(known) == len(masks))


def _settings(info: Mapping[str, Any]) -> TrainSettings:
    lacking = [name for name in _BEGUN if not isinstance(info.get(name), dict)]
    if lacking:
        raise InputError(f"it says nothing of {', '.join(lacking)}")
    if info.get("sweep") is not None:
        restore(SweepSettings, info["sweep"])
    return restore(TrainSettings, info["settings"])


def _frame(source: Path | io.StringIO, path: Path, columns: tuple[str, ...]) -> "pd.DataFrame":
    """A table from CSV, which stands in the file `path`."""
    import pandas as pd

    text = dict.fromkeys(("norm", "method", "kind", "split", "commit", "jax"), str)
    blank = {column: [""] for column in ("step", "seconds")}
    # A radius names arrays, and has to be the very number that was written: pandas' own parser may
    # be a unit in the last place off.
    radius = {"eps": lambda text: float(text) if text else np.nan} if "eps" in columns else None
    try:
        frame = pd.read_csv(
            source, dtype=text, keep_default_na=False, na_values=blank, converters=radius
        )
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise _damaged(path, f"it has no column {missing[0]}")
    return frame


def _joined(old: "pd.DataFrame", new: "pd.DataFrame") -> "pd.DataFrame":
    """Both tables, in order; a row of the same method, radius and seed is replaced."""
    import pandas as pd

    both = pd.concat([part for part in (old, new) if len(part)] or [new], ignore_index=True)
    blank = both[list(KEY)].astype({"eps": float, "step": float}).astype(str).fillna("")
    return both[~blank.duplicated(keep="last")].sort_values(list(KEY), kind="stable")


def _damaged(path: Path, what: object) -> InputError:
    return InputError(f"{path} cannot be read: {what}; delete it and repeat the command")


def attack_seed(info: Mapping[str, Any], default: int = 0) -> int:
    """The randomness that all attacks on a run draw from.

    Args:
        info: Its `run.json`.
        default: The seed of a run that was not attacked.
    """
    # Earlier versions kept it only with the sweep that the run consists of.
    return int(info.get("attack_seed", (info.get("sweep") or {}).get("attack_seed", default)))
