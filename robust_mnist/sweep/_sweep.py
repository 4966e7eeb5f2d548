"""The sweep of a run: cells of method and radius, each written at once, then merged."""

import dataclasses
import hashlib
import math
import time
import zlib
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from robust_mnist.attacks import ATTACKS, AbstractBallAttack, AbstractStepAttack
from robust_mnist.certify import CERTIFIERS
from robust_mnist.clock import Elapsed, stopwatch
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.models import AbstractClassifier
from robust_mnist.records import (
    ON_OPEN_IMAGES,
    WARNINGS,
    Row,
    RunFolder,
    ran_at,
    ran_key,
    table,
)
from robust_mnist.sweep._aim import Aim
from robust_mnist.sweep._bounds import Bounds, Cell, kept_cell, run_cell, runs_once
from robust_mnist.sweep._cost import Passes, driver_cost
from robust_mnist.sweep._driver import Search, method_key
from robust_mnist.sweep._methods import Plan, norm_of
from robust_mnist.sweep._schedule import Stage, control_sample, run_stage, still_open
from robust_mnist.sweep._steps import step_sweep


if TYPE_CHECKING:
    import pandas as pd


Seconds = dict[tuple[str, str, float], float]
# A cell that says in between, with 0 for the cells that are done, how far it is.
Told = Generator[tuple[int, str], None, Cell]
PROVEN_AT_ONCE = 1000
COUNTS = ("runs", "forward", "backward")
# Seconds between two times that readers are shown what there is; to write it takes some hundredths.
SHOW_EVERY = 5.0


@dataclasses.dataclass(frozen=True)
class Task:
    """What to sweep.

    Attributes:
        folder: The run.
        part: Images, labels and indices.
        plan: Methods and radii.
        attack_seed: Randomness of the attacks.
        about: The columns that all rows share: dataset, split, model, objective, accelerator.
        flags: What `robust-mnist sweep` is given for the same, told to who finds it unfinished.
    """

    folder: RunFolder
    part: Part
    plan: Plan
    attack_seed: int
    about: dict[str, Any]
    flags: tuple[str, ...] = ()

    def cells(self) -> Iterator[tuple[str, str, float]]:
        """Every norm, method and radius above 0; at 0 there is nothing to search.

        What finds radii by itself has one cell, whose radius is infinite.
        """
        for norm, methods in self.plan.methods.items():
            for method in methods:
                for eps in [np.inf] if runs_once(method) else self.plan.eps[norm]:
                    if eps > 0:
                        yield norm, method, eps


def sweep_run(task: Task, models: dict[int, AbstractClassifier], console: Console) -> bool:
    """Run what the folder does not hold yet; write `radii.npz`, `witnesses.npz` and `rows.csv`.

    A cell is written as soon as it is done, so a killed sweep repeats at most one; what the cells
    prove together stands in `unfinished/`, for readers. More methods or radii than before are
    merged with what the run holds. Where `rows.csv` tells of cells whose radii or witnesses are
    gone, those cells run again as well.

    Args:
        task: What to sweep.
        models: One network per training seed.
        console: Where progress goes.

    Returns:
        Whether anything was missing.

    Raises:
        Contradiction: A certificate and an attack exclude each other; nothing is merged.
    """
    networks = [
        _Network(task, seed, model, None if len(models) == 1 else index)
        for index, (seed, model) in enumerate(models.items())
    ]
    missing = sum(len(network.missing) + len(network.stages) for network in networks)
    if not missing:
        _forget(task.folder, networks)
        return False
    wanted = sum(network.wanted for network in networks)
    stored = sum(network.stored() for network in networks)
    there = wanted - missing + stored
    if there:
        console.note(f"continuing: {there} of {wanted} cells are there")
    for norm in sorted(networks[0].lost):
        console.note(f"{task.folder.path} has lost its results in {norm}: they are made again")
    done, shown, seen, fresh = 0, -np.inf, _seen(task, networks), False

    def show() -> None:
        task.folder.show({**seen.about, "done": wanted - missing + done, "of": wanted}, *seen[1:])

    try:
        # A stage takes as long as many cells, and nobody knows how many.
        even = not any(network.stages for network in networks)
        with console.progress("sweep", missing, even=even) as update:
            for finished, level, text in _in_turn(networks):
                done += finished
                update(done, text)
                if level:
                    seen, fresh = _seen(task, networks), True
                # Nobody knows how long the next round of a stage takes.
                due = not finished or time.monotonic() - shown > SHOW_EVERY
                # What was stored has been seen before, and more of it than is repeated by now.
                if fresh and due and done >= stored:
                    show()
                    shown, fresh = time.monotonic(), False
    except BaseException:
        if done and done >= stored:
            show()
        raise
    _write(task.folder, networks)
    _forget(task.folder, networks)  # last, so that no kill loses any
    return True


def _in_turn(networks: list["_Network"]) -> Iterator[tuple[int, bool, str]]:
    """One cell of each network after the other; how many that are, and whether all are level."""
    running = [(network, network.run()) for network in networks]
    while running:
        still = []
        for network, cells in running:
            for finished, text in cells:
                level = bool(finished) and network is running[-1][0]
                yield finished, level, f"seed {network.seed}: {text}"
                if finished:
                    still.append((network, cells))
                    break
        running = still


class _Network:
    """The sweep of one network."""

    def __init__(self, task: Task, seed: int, model: AbstractClassifier, at: int | None) -> None:
        self.task, self.seed, self.model, self.at = task, seed, model, at
        self.key = jax.random.key(task.attack_seed)
        known, there = _seconds_known(task.folder, seed), _norms_held(task.folder)
        self.lost = {norm for norm, _, _ in known if norm} - there
        self.seconds = {cell: took for cell, took in known.items() if cell[0] not in self.lost}
        # Norms and radii of which the worst case is known, though no attack may have a cell there.
        self.settled = _settled(task.folder, seed, "certified")
        self.searched = _settled(task.folder, seed, "worst")
        again = [cell for cell in known if cell[0] in self.lost]
        for _, method, _ in again:
            norm_of(method)  # it may have come from a package that is no longer here
        wanted = [*task.cells(), *(("", method, np.nan) for method in task.plan.steps)]
        wanted += [cell for cell in again if cell not in wanted]
        self.wanted = len(wanted)
        self.norms = list(dict.fromkeys([*task.plan.methods, *sorted(self.lost)]))
        self.before = {*self.seconds}
        images, control = len(task.part.labels), task.plan.control
        # All of them where that is not more, so that nothing is left to chance.
        sampled = 0 < control < images
        self.control = control_sample(images, control, self.key) if sampled else None
        done = {(norm, method, _text(eps)) for norm, method, eps in self.seconds}
        # A step sweep counts as one cell, and as done as soon as it has any row.
        steps = {method for norm, method, _ in self.seconds if not norm}
        ran = self._mine(task.folder.arrays("radii"))

        def is_done(norm: str, method: str, eps: float) -> bool:
            if not norm:
                return method in steps
            if (norm, method, _text(eps)) not in done:
                return False
            # An attack may have run on the control sample, and all images are asked for now.
            mask = ran.get(ran_key(norm, method, eps), np.zeros(images, bool))
            asked = mask if self.control is None else mask[self.control]
            return method in CERTIFIERS or bool(asked.all())

        self.missing = [cell for cell in wanted if not is_done(*cell)]
        held = task.folder.info().get("stages", {}).get(str(seed), [])
        held = [name for name in held if name.partition("/")[0] not in self.lost]
        self.stages = [
            (norm, method)
            for norm, methods in task.plan.stages.items()
            for method in methods
            if self._stage_name(norm, method) not in held
        ]
        self.wanted += sum(map(len, task.plan.stages.values()))
        self.staged = [*held]
        # Not what is missing of it: results of other sweeps must not hide what this one has kept.
        plan = task.plan
        what = repr((task.attack_seed, wanted, plan.stages, plan.control, plan.aim))
        self.plan = f"{zlib.crc32(what.encode()):08x}"
        self.bounds: dict[str, Bounds] = {}
        self.steps: list[Row] = []
        self.cells: dict[str, dict[str, float]] = {}
        self.passes: dict[str, Passes] = {}

    def run(self) -> Iterator[tuple[int, str]]:
        """Run the missing cells, and say after each, or in between with 0 for 1, how it stands."""
        for norm in self.norms:
            self.bounds[norm] = self.start(norm)
        for norm, method, eps in self.missing:
            if not norm:
                yield 1, self._steps(method)
                continue
            bounds = self.bounds[norm]
            cell = yield from self._cell(bounds, method, eps)
            bounds.merge(method, cell, own_at=eps)
            self._account(norm, method, eps, cell)
            if "proven" in cell:
                yield 1, f"{method}: median radius {np.median(np.maximum(cell['proven'], 0)):.4g}"
            elif eps == np.inf:
                yield 1, f"{method}: median radius {np.nanmedian(cell['own']):.4g}"
            else:
                ran = ~np.isnan(cell["own"])
                standing = np.mean(bounds.radii.upper[ran] > eps)
                yield 1, f"{method} at {eps:g}: {standing:.2%} of {ran.sum():,} still standing"
        for norm, method in self.stages:
            yield from self._stage(self.bounds[norm], method)

    def start(self, norm: str) -> Bounds:
        """What the folder holds of a norm, or what the clean images prove."""
        if norm not in _norms_held(self.task.folder):
            return Bounds.clean(self.model, self.task.part, norm)
        folder = self.task.folder
        arrays, witnesses = (self._mine(folder.arrays(name)) for name in ("radii", "witnesses"))
        return Bounds.restore(norm, arrays, witnesses[f"witness/{norm}"])

    def _mine(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The entries of this network, in arrays that may be of several."""
        return {key: array if self.at is None else array[self.at] for key, array in arrays.items()}

    def account(self, norm: str, method: str, totals: dict[str, float]) -> None:
        """Add up what a method took on open images, at one radius."""
        held = self.cells.setdefault(f"{norm}/{method}{ON_OPEN_IMAGES}", {})
        for name, amount in {"cells": 1.0, **totals}.items():
            held[name] = held.get(name, 0.0) + amount

    def _stage(self, bounds: Bounds, method: str) -> Iterator[tuple[int, str]]:
        """An attack where the bounds are open, or what a sweep cut short has kept of it."""
        norm = bounds.radii.norm
        place = self._place(norm, method)
        cell = kept_cell(bounds, method, place.arrays("stage"))
        if cell:
            bounds.merge(method, cell)
        else:
            with stopwatch() as elapsed:
                rounds = run_stage(
                    self.model, self.task.part, bounds, method,
                    aim=self.task.plan.aim[norm], key=self.key,
                )  # fmt: skip
                stage = yield from _told(method, rounds)
            cell = stage.cell | self._counts(method, stage.runs) | _took(elapsed)
            place.write_arrays("stage", cell, compress=False)
        self.staged.append(self._stage_name(norm, method))
        self._total(f"{norm}/{method}, scheduled", cell)
        count = int(np.sum(still_open(bounds, self.task.plan.aim[norm])))
        yield 1, f"{method}: {len(cell['improved'])} closer, {count} images open"

    def _stage_name(self, norm: str, method: str) -> str:
        """A stage as `run.json` remembers it: with another aim it is another one."""
        return f"{norm}/{method} {self.task.plan.aim[norm]}"

    def _place(self, norm: str, method: str) -> RunFolder:
        # A cell keeps witnesses only where it improved on the cells before it, so it is good for
        # the same list of cells, and where nothing has become less since.
        return RunFolder(
            self.task.folder.path / "cells" / self.plan / f"seed-{self.seed}" / norm / method
        )

    def stored(self) -> int:
        """How many of the missing cells a sweep that was cut short has left behind."""
        files = [(norm, method, _text(eps)) for norm, method, eps in self.missing]
        files += [(norm, method, "stage") for norm, method in self.stages]
        return sum(
            (self._place(norm, method).path / f"{name}.npz").is_file()
            for norm, method, name in files
        )

    def _cell(self, bounds: Bounds, method: str, eps: float) -> Told:
        """A cell, or what a sweep cut short has kept of it."""
        place = self._place(bounds.radii.norm, method)
        cell = kept_cell(bounds, method, place.arrays(_text(eps)))
        if not cell:
            run = self._prove if method in CERTIFIERS else self._attack
            cell = yield from run(bounds, method, eps)
            place.write_arrays(_text(eps), cell, compress=False)
        return cell

    def _attack(self, bounds: Bounds, method: str, eps: float) -> Told:
        with stopwatch() as elapsed:
            cell = run_cell(
                self.model, self.task.part, bounds, method, eps, self.key, at=self.control
            )
        yield from ()  # soon done
        counts = self._counts(method, int(np.sum(~np.isnan(cell["own"]))))
        return cell | counts | _took(elapsed)

    def _prove(self, bounds: Bounds, method: str, eps: float) -> Told:
        """The radii of all images, some at a time, as that may take minutes."""
        part, took, proven = self.task.part, Elapsed(), []
        aim = self.task.plan.aim.get(bounds.radii.norm, Aim(np.inf, (0.0,)))
        count = len(part.labels)
        for start in range(0, count, PROVEN_AT_ONCE):
            end = min(start + PROVEN_AT_ONCE, count)
            with stopwatch() as elapsed:
                cell = run_cell(
                    self.model, part.take(np.arange(start, end)), bounds, method, eps, self.key,
                    largest=max(aim.radii, default=0.0),
                    gap=aim.gap if np.isfinite(aim.gap) else 0.0,
                )  # fmt: skip
            took.seconds += elapsed.seconds
            took.compile_seconds += elapsed.compile_seconds
            proven.append(cell["proven"])
            if end < count:
                yield 0, f"{method}: {end:,} of {count:,} images"
        return {"proven": np.concatenate(proven), **_took(took)}

    def _account(self, norm: str, method: str, eps: float, cell: Cell) -> None:
        self.seconds[norm, method, eps] = float(cell["seconds"])
        self._total(f"{norm}/{method}", cell)
        attack = ATTACKS.get(method)
        if isinstance(attack, AbstractBallAttack) and attack.one_step:
            ran = ~np.isnan(cell["own"])
            right = int(np.sum(~cell["broken"][ran]))
            row = self._row("step", norm, method, right, eps=eps, step=eps, images=int(ran.sum()))
            self.steps.append(row)

    def _counts(self, method: str, runs: int) -> Cell:
        """Runs on an image and the passes they took; these only where they are known."""
        if method not in self.passes:
            attack = ATTACKS[method]
            assert isinstance(attack, Search | AbstractStepAttack)
            self.passes[method] = driver_cost(attack, self.model)
        counts = {"runs": runs, **{k: runs * n for k, n in self.passes[method]._asdict().items()}}
        return {key: np.asarray(count) for key, count in counts.items() if math.isfinite(count)}

    def _total(self, name: str, cell: Cell) -> None:
        totals = self.cells.setdefault(name, {"cells": 0.0})
        totals["cells"] += 1
        for key in ("seconds", "compile_seconds", "close", "nonfinite", *COUNTS):
            if key in cell or key not in COUNTS:
                totals[key] = totals.get(key, 0.0) + float(cell.get(key, 0.0))

    def _steps(self, method: str) -> str:
        attack = ATTACKS[method]
        assert isinstance(attack, AbstractStepAttack)
        step, correct, key = 0.0, 0, method_key(self.key, method)
        with stopwatch() as elapsed:
            results = list(step_sweep(attack, self.model, self.task.part, key))
        self.seconds["", method, np.nan] = elapsed.seconds / len(results)
        counts = self._counts(method, len(results) * len(self.task.part.labels))
        self.cells[f"step/{method}"] = {
            "cells": float(len(results)),
            **dataclasses.asdict(elapsed),
            **{key: float(count) for key, count in counts.items()},
        }
        for step, correct in results:
            self.steps.append(self._row("step", "", method, correct, step=step))
        return f"{method} at step {step:g}: {correct / len(self.task.part.labels):.2%} right"

    def so_far(self, norm: str) -> Bounds | None:
        """What is known of a norm by now; None if no method has said anything.

        Before the first stage that is of the control sample alone, unless an attack had seen the
        others before this sweep, at its largest radius: what no attack saw would look robust.
        """
        bounds = self.bounds.get(norm)
        staged = any(name.startswith(f"{norm}/") for name in self.staged)
        if bounds is None or not (bounds.upper or bounds.lower or staged):
            return None
        largest = max(self.task.plan.eps.get(norm, ()), default=0.0)
        seen = any(
            n == norm and eps >= largest and np.all(bounds.ran.get(ran_key(n, method, eps), False))
            for n, method, eps in self.before
        )
        return bounds if self.control is None or staged or seen else bounds.take(self.control)

    def rows(self, bounds: Mapping[str, Bounds]) -> list[Row]:
        """Rows of the step attacks, and of bounds by norm."""
        return [*self.steps, *(row for norm in bounds for row in self._summary(norm, bounds[norm]))]

    def _summary(self, norm: str, bounds: Bounds) -> Iterator[Row]:
        """Rows of every method and of the merged bounds, at all radii known in this norm."""
        radii = bounds.radii
        images = radii.upper.size
        known = {eps for n, _, eps in self.seconds if n == norm} | {0.0}
        searched = {eps for n, eps in self.searched if n == norm}
        known |= (
            {eps for n, eps in self.settled if n == norm}
            | searched
            | set(self.task.plan.eps.get(norm, ()))
        )
        # What ran once is known at every radius; what an attack never broke stands at infinity.
        unbounded = {m for n, m, eps in self.seconds if n == norm and eps == np.inf}
        yield self._row("clean", "", "clean", int(np.sum(self.bounds[norm].radii.upper > 0)))
        attacked = [e for n, m, e in self.seconds if n == norm and m in bounds.upper]
        attacked += [np.inf for name in self.staged if name.startswith(f"{norm}/")]
        attacked += searched
        for eps in sorted(known):
            # Beyond the largest radius that was asked for, nothing is known from above.
            if eps <= max(attacked, default=-1.0) and eps < np.inf:
                right = int(np.sum(radii.upper > eps))
                yield self._row("worst", norm, "all", right, eps=eps, images=images)
            for method, upper in bounds.upper.items():
                ran = ran_at(bounds.ran, norm, method, eps)
                if ran is not None:
                    right, seen = int(np.sum(upper[ran] > eps)), int(ran.sum())
                    yield self._row("attacked", norm, method, right, eps=eps, images=seen)
            # `certify` and `close` prove radii that no certifier of a sweep is credited with.
            if (bounds.lower or np.any(radii.lower > 0)) and eps < np.inf:
                right = int(np.sum(radii.lower >= eps))
                yield self._row("certified", norm, "all", right, eps=eps, images=images)
            for method, lower in bounds.lower.items():
                if method in unbounded:
                    right = int(np.sum(lower >= eps))
                    yield self._row("certified", norm, method, right, eps=eps, images=images)

    def _row(
        self, kind: Any, norm: str, method: str, correct: int, *,
        eps: float | None = None, step: float | None = None, images: int | None = None,
    ) -> Row:  # fmt: skip
        seconds = self.seconds.get((norm, method, np.nan if eps is None else eps))
        return Row(
            split="test", seed=self.seed, norm=norm, eps=eps, step=step, method=method,
            kind=kind, images=len(self.task.part.labels) if images is None else images,
            correct=correct, seconds=seconds,
            **self.task.about,
        )  # fmt: skip


def _took(elapsed: Elapsed) -> Cell:
    return {
        "seconds": np.asarray(elapsed.seconds),
        "compile_seconds": np.asarray(elapsed.compile_seconds),
    }


def _told(
    method: str, rounds: Generator[int, None, Stage]
) -> Generator[tuple[int, str], None, Stage]:
    """Say before each round how many images it runs on."""
    while True:
        try:
            count = next(rounds)
        except StopIteration as end:
            return end.value
        yield 0, f"{method} on {count} images"


def _text(eps: float) -> str:
    return f"{eps:.17g}"


def _seconds_known(folder: RunFolder, seed: int) -> Seconds:
    """Seconds of the cells that the folder's rows hold already."""
    rows = folder.rows()
    if rows.empty:
        return {}
    rows = rows[(rows.seed == seed) & rows.kind.isin(["attacked", "certified", "step"])]
    rows = rows[(rows.method != "all") & ~(rows.eps == 0)]
    # What runs once is read at every radius, and has run at the infinite one.
    once = np.array([runs_once(str(method)) for method in rows.method], bool)
    rows = rows[~once | np.isinf(rows.eps)]
    return {
        (str(norm), str(method), float(eps)): float(seconds)
        for norm, method, eps, seconds in zip(
            rows.norm, rows.method, rows.eps, rows.seconds, strict=True
        )
    }


def _settled(folder: RunFolder, seed: int, kind: str) -> set[tuple[str, float]]:
    """Norms and radii of the folder's rows of all methods, which every sweep counts anew."""
    rows = folder.rows()
    if rows.empty:
        return set()
    rows = rows[(rows.seed == seed) & (rows.kind == kind) & (rows.method == "all")]
    return {(str(norm), float(eps)) for norm, eps in zip(rows.norm, rows.eps, strict=True)}


def _norms_held(folder: RunFolder) -> set[str]:
    """Norms of which both radii and witnesses are there; one is no use without the other."""
    of = lambda name, start: {
        key.removeprefix(start) for key in folder.array_names(name) if key.startswith(start)
    }
    return of("radii", "method/") & of("witnesses", "witness/")


class _Seen(NamedTuple):
    """What `RunFolder.show` is given, but for the number of cells."""

    about: dict[str, Any]
    rows: "pd.DataFrame"
    radii: dict[str, np.ndarray]


def _seen(task: Task, networks: list[_Network]) -> _Seen:
    """What the cells so far prove, for readers alone: a sweep goes on from the cells."""
    seen: dict[str, list[Bounds]] = {}
    for norm in networks[0].bounds:
        parts = [part for network in networks if (part := network.so_far(norm)) is not None]
        if len(parts) == len(networks):
            seen[norm] = parts
    rows = [
        row for at, network in enumerate(networks)
        for row in network.rows({norm: parts[at] for norm, parts in seen.items()})
    ]  # fmt: skip
    about = {
        "plan": networks[0].plan, "flags": task.flags,
        "run": _made(task.folder, networks), "swept": task.folder.info().get("swept"),
    }  # fmt: skip
    return _Seen(about, table(rows), _stacked(seen))


def _stacked(bounds: Mapping[str, list[Bounds]]) -> dict[str, np.ndarray]:
    """The arrays of `radii.npz`; those of several networks have an axis for them."""
    found = {}
    for parts in bounds.values():
        per_network = [part.arrays() for part in parts]
        for name in per_network[0]:
            arrays = [arrays[name] for arrays in per_network]
            found[name] = arrays[0] if len(arrays) == 1 else np.stack(arrays)
    return found


def _made(folder: RunFolder, networks: list[_Network]) -> dict[str, Any]:
    """What `run.json` remembers of the work: each method's totals, and the stages that are done."""
    timings: dict[str, dict[str, float]] = {}
    for network in networks:
        for name, totals in network.cells.items():
            old = timings.setdefault(name, dict.fromkeys(totals, 0.0))
            timings[name] = {key: old[key] + value for key, value in totals.items()}
    for name, totals in folder.info().get("cells", {}).items():
        if name.partition("/")[0] in networks[0].lost:
            continue  # these were made again, not added to
        new = timings.setdefault(name, {})
        timings[name] = {key: value + new.get(key, 0.0) for key, value in totals.items()} | {
            # What was not counted before is no total now, and need not be one to warn.
            key: value
            for key, value in new.items()
            if key in WARNINGS and key not in totals
        }
    stages = {str(network.seed): [*network.staged] for network in networks if network.staged}
    return {"cells": timings} | ({"stages": stages} if stages else {})


def _forget(folder: RunFolder, networks: list[_Network]) -> None:
    """Delete the cells of this sweep; those of others that were stopped stay."""
    for plan in {network.plan for network in networks}:
        folder.forget_cells(plan)


def _write(folder: RunFolder, networks: list[_Network]) -> None:
    """Merge everything into the run's files, for the first time or again."""
    held = {norm: [network.bounds[norm] for network in networks] for norm in networks[0].bounds}
    witnesses = folder.arrays("witnesses")
    for norm, parts in held.items():
        images = [part.witness for part in parts]
        witnesses[f"witness/{norm}"] = images[0] if len(images) == 1 else np.stack(images)
    folder.write_arrays("radii", folder.arrays("radii") | _stacked(held))
    folder.write_arrays("witnesses", witnesses)
    digest = hashlib.sha256((folder.path / "radii.npz").read_bytes()).hexdigest()
    folder.update({**_made(folder, networks), "swept": digest})
    for network in networks:
        network.cells.clear()  # what stands there is added to by the next time
    # Rows last: a cell counts as done when its row stands.
    folder.add_rows(table([row for network in networks for row in network.rows(network.bounds)]))
