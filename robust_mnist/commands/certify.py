"""Prove images right at a radius, or decide them all: a run's networks, or one from elsewhere."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from robust_mnist import checkpoint, config, data, files, sweep as sweeping
from robust_mnist.certify import CERTIFIERS, CURVES, SEARCHES, check_small, exact_margin
from robust_mnist.commands._opening import check_above, check_flags, placed, settings_on
from robust_mnist.commands._programs import start_jax
from robust_mnist.commands._result import Result, columns
from robust_mnist.commands.pipeline import Job
from robust_mnist.config import CERTIFY, CLOSE, flags
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.models import MLP, MODELS, AbstractClassifier, kept
from robust_mnist.records import (
    ABOUT_CERTIFICATES,
    Exact,
    OpenDomains,
    RunFolder,
    attack_seed,
    holds_open_domains,
    read_open_domains,
    write_open_domains,
)
from robust_mnist.sweep import Bounds, Budget, Plan, Progress, Running, Saving, Tried


# Open images that are named one by one.
_LISTED = 10
# Fields of a command that a run tells by itself, or that change nothing that is found.
_OF_RUN = ("run", "data", "activation", "attack_seed", "output")


def certify(command: config.Certify) -> Result:
    """Run certifiers, and an attack on what they leave open, at one radius."""
    if not (command.methods or command.norm in CERTIFY):
        raise InputError(
            f"certify has methods for the norms {', '.join(CERTIFY)}, got {command.norm}; "
            "take one of these, or attack with sweep"
        )
    return _settle(command, None)


def close(command: config.Close) -> Result:
    """The same, and then branch and bound until nothing is open or the budget is spent."""
    if command.norm not in SEARCHES:
        raise InputError(f"close acts in {' or '.join(SEARCHES)}, got {command.norm}; use certify")
    budget = Budget(config.seconds(command.budget), command.domains or np.inf)
    return _settle(command, budget)


def _settle(command: config.Certify, budget: Budget | None) -> Result:
    return _of_file(command, budget) if command.run is None else _of_run(command, budget)


def _of_file(command: config.Certify, budget: Budget | None) -> Result:
    assert command.model is not None
    assert command.activation is not None
    keep = Keep(command) if isinstance(command, config.Close) and command.out else None
    start_jax()
    note = Console(quiet=command.output.quiet).note
    model = checkpoint.read_npz(command.model, command.activation, note=note)
    methods = _methods(command, command.activation)
    _check_means(command, model, budget)
    dataset = data.load(command.data, quiet=command.output.quiet)
    ids = np.arange(len(dataset.test_labels))
    part = Part(dataset.test_images, dataset.test_labels, ids)
    check_network(model, command.model, part)
    bounds = Bounds.clean(model, part, command.norm)
    told: list[Tried] = []
    with contextlib.ExitStack() as stack:
        left: dict[str, OpenDomains] | None = None
        save: Callable[[], None] = lambda: None
        if keep is not None:
            left = keep.begin(model, part, bounds, dataset.sha256)
            stack.callback(keep.write)
            save = Saving(lambda: [bounds.radii, *left.values()], keep.write)
        work = sweeping.settle_at(
            model, part, bounds, methods, command.eps, jax.random.key(command.attack_seed),
            budget=budget, left=left, again=bool(command.methods),
        )  # fmt: skip
        stack.enter_context(contextlib.closing(work))
        say = stack.enter_context(_watched(command))
        for one in work:
            if isinstance(one, Tried):
                told.append(one)
            save()
            say(one, "")
    return _told(command, {0: (told, bounds)}, {0: _exact(command, model, part, bounds)})


class Keep:
    """The file of `close --out` and that of its open domains: read at the start, written since.

    Raises:
        InputError: They cannot be written, or something else stands there.
    """

    def __init__(self, command: config.Close) -> None:
        assert command.model is not None
        assert command.out is not None
        self.command, self.path = command, Path(command.out)
        self.beside = Path(f"{command.out.removesuffix('.npz')}.open.npz")
        if Path(command.model).resolve() in {self.path.resolve(), self.beside.resolve()}:
            raise InputError(
                f"--out {command.out} would replace the network, --model {command.model}; "
                "name another --out"
            )
        check_above(self.path)
        files.check(self.path)
        # Also where it is to be replaced: by nothing but its like.
        self.held = Exact.read(self.path) if self.path.exists() else None
        self.foreign = self.beside.exists() and not holds_open_domains(self.beside)

    def begin(self, model: MLP, part: Part, bounds: Bounds, dataset: str) -> dict[str, OpenDomains]:
        """Add what was known to `bounds`, and give what each search has left.

        Raises:
            InputError: The file is about something else.
        """
        command, self.bounds = self.command, bounds
        assert command.model is not None
        self.about: dict[str, Any] = {
            "eps": command.eps, "network": checkpoint.digest(command.model),
            "activation": command.activation, "data": dataset,
        }  # fmt: skip
        if self.held is not None and not command.overwrite:
            self._merge(self.held, part)
        self.left = Left(command, self.beside, model, part)
        note = Console(quiet=command.output.quiet).note
        if self.foreign:
            note(
                f"{self.beside} is not used: it holds no open domains, and stays as it is; to keep "
                "what this command leaves open, move it, or name another --out"
            )
        elif not command.overwrite:
            self.left.read(note)
        return self.left.domains

    def _merge(self, held: Exact, part: Part) -> None:
        for name, value in (self.about | {"norm": self.command.norm}).items():
            found = held.radii.norm if name == "norm" else getattr(held, name)
            if found != value:
                raise InputError(
                    f"{self.path} is about {name} {found}, not {value}; name another --out, "
                    "or replace it with --overwrite"
                )
        held.check(self.path, *part.images.shape)
        self.bounds.radii = self.bounds.radii.merge(held.radii)
        self.bounds.witness[held.at] = held.witness

    def write(self) -> None:
        """Write what is known now, verdicts first: they are what open domains only lead to."""
        radii = self.bounds.radii
        broken = np.flatnonzero(np.isfinite(radii.upper) & (radii.upper > 0))
        witness = self.bounds.witness[broken]
        Exact(**self.about, radii=radii, at=broken, witness=witness).write(self.path)
        if not self.foreign:
            self.left.write()


class Left:
    """What an earlier command has left open of a network, by search, and what this one leaves."""

    def __init__(self, command: config.Certify, path: Path, model: MLP, part: Part) -> None:
        self.path, self.about = path, sweeping.about(model, part, command.norm, command.eps)
        self.domains: dict[str, OpenDomains] = {}

    def read(self, note: Callable[[str], None]) -> None:
        """Begin with what the file holds, and say so; or where it is of no use, that."""
        try:
            self.domains |= read_open_domains(self.path, self.about)
        except InputError as error:
            note(str(error))
        if images := {image for one in self.domains.values() for image in one.image.tolist()}:
            note(
                f"{len(images)} images go on in branch and bound from {self.path}; no method is "
                "tried on them again that --methods does not name"
            )

    def write(self) -> None:
        """Write what is left now."""
        write_open_domains(self.path, self.about, self.domains)


@contextlib.contextmanager
def _watched(
    command: config.Certify,
) -> Iterator[Callable[[Tried | Running | Progress, str], None]]:
    """What says how a method or branch and bound goes on, and how it ended."""
    console = Console(quiet=command.output.quiet)
    with contextlib.ExitStack() as stack:
        update: Callable[[int, str], None] | None = None

        def say(one: Tried | Running | Progress, seed: str) -> None:
            nonlocal update
            if isinstance(one, Tried):
                stack.close()
                update = None
                console.note(f"{seed}{_line(one)}")
                return
            if isinstance(one, Running):
                title, done, text, even = one.method, one.done, "", True
            else:
                rate = one.domains / one.seconds
                title, done, even = "close", one.images - one.open, False
                text = f"{one.open} open, {one.waiting:,} domains wait, {rate:,.0f} domains/s"
            if update is None:
                update = stack.enter_context(
                    console.progress(f"{seed}{title}", one.images, even=even)
                )
            update(done, text)

        yield say


def _of_run(command: config.Certify, budget: Budget | None) -> Result:
    assert command.run is not None
    folder = RunFolder(Path(command.run))
    place = placed(command.data)
    settings, draws = settings_on(folder, place), attack_seed(folder.info())
    held = {"data": settings.data, "activation": settings.activation, "attack_seed": draws}
    check_flags(folder, held, vars(command) | {"data": place})
    methods = _methods(command, settings.activation)
    job = Job(settings, folder, command.output)
    test = job.split.test
    # Shapes are enough to refuse a network that is not trained yet.
    planned = eqx.filter_eval_shape(
        lambda key: kept(MODELS[settings.model](settings.sizes, settings.activation, key=key)),
        jax.random.key(0),
    )
    _check_means(command, check_network(planned, str(folder.path), test), budget)
    models = {
        seed: check_network(network, str(folder.model(seed)), test)
        for seed, network in job.train().items()
    }
    name = type(command).__name__.lower()
    job.remember([name, "--run", command.run, *flags(command, _OF_RUN)])
    task = sweeping.Task(folder, test, Plan({command.norm: ()}, (), {}), draws, job.about)
    found: dict[int, tuple[list[Tried], Bounds]] = {}
    tried: list[Tried] = []
    left = {
        seed: Left(command, folder.open_domains(seed, command.norm, command.eps), model, test)
        for seed, model in models.items()
    } if budget is not None else {}  # fmt: skip

    for domains in left.values():
        domains.read(job.console.note)

    def keep() -> None:
        for domains in left.values():
            domains.write()

    with contextlib.ExitStack() as stack:
        stack.callback(keep)
        work = sweeping.settle_run(
            task, models, command.norm, methods, command.eps, budget=budget,
            left={seed: one.domains for seed, one in left.items()} or None,
            again=bool(command.methods), keep=keep,
        )  # fmt: skip
        stack.enter_context(contextlib.closing(work))
        say = stack.enter_context(_watched(command))
        for seed, one in work:
            if isinstance(one, Bounds):
                found[seed] = tried, one
                tried = []
                continue
            if isinstance(one, Tried):
                tried.append(one)
            say(one, f"seed {seed}: " if len(models) > 1 else "")
    if budget is not None:
        folder.update({"closed": [*folder.info().get("closed", []), *_closed(command, found)]})
    exact = {
        seed: _exact(command, models[seed], test, bounds) for seed, (_, bounds) in found.items()
    }
    return _told(command, found, exact)


def _closed(
    command: config.Certify, found: dict[int, tuple[list[Tried], Bounds]]
) -> list[dict[str, Any]]:
    """What `run.json` remembers of having closed a radius."""
    return [
        _counts(command, seed, bounds) | {
            "domains": sum(one.domains for one in tried),
            "seconds": sum(one.seconds for one in tried),
            "compile_seconds": sum(one.compile_seconds for one in tried),
            "per_image": _per_image(tried),
        }
        for seed, (tried, bounds) in found.items()
    ]  # fmt: skip


def _counts(command: config.Certify, seed: int, bounds: Bounds) -> dict[str, Any]:
    certified = int(np.sum(bounds.radii.lower >= command.eps))
    attacked = int(np.sum(bounds.radii.upper <= command.eps))
    images = bounds.radii.upper.size
    return {
        "seed": seed, "norm": command.norm, "eps": command.eps, "images": images,
        "certified": certified, "attacked": attacked, "open": images - certified - attacked,
    }  # fmt: skip


def _per_image(tried: list[Tried]) -> list[dict[str, Any]]:
    """What the searches together spent on each image that was branched on."""
    found: dict[int, dict[str, Any]] = {}
    for one in (one for method in tried for one in method.per_image if one.domains):
        entry = found.setdefault(one.image, {"image": one.image, "domains": 0})
        entry["domains"] += one.domains
        # The next search works only on what the one before it has not decided.
        entry["seconds"] = None if one.seconds is None else round(one.seconds, 3)
    return [found[image] for image in sorted(found)]


def _open(command: config.Certify, bounds: Bounds) -> list[dict[str, Any]]:
    """Images that are not decided, by place in the data, the nearest to being certified first."""
    radii = bounds.radii
    left = np.flatnonzero(sweeping.open_at(bounds, command.eps))
    order = left[np.argsort(-radii.lower[left], kind="stable")]
    return [
        {
            "image": int(at), "lower": float(radii.lower[at]),
            "upper": float(radii.upper[at]) if np.isfinite(radii.upper[at]) else None,
        }
        for at in order
    ]  # fmt: skip


def _exact(command: config.Certify, model: MLP, part: Part, bounds: Bounds) -> list[dict[str, Any]]:
    """The least margins of those open images that are nearest to being certified."""
    chosen = [one["image"] for one in _open(command, bounds)[: command.exact]]
    found: list[dict[str, Any]] = []
    if not chosen:
        return found
    console = Console(quiet=command.output.quiet)
    with console.progress("exact", len(chosen), even=False) as update:
        for at in chosen:
            image, margin = to_float(part.images[at : at + 1])[0], None
            with contextlib.suppress(TimeoutError):
                margin = exact_margin(model, image, int(part.labels[at]), eps=command.eps)
            found.append({"image": at, "margin": margin})
            update(len(found), f"image {at}")
    return found


def _check_means(command: config.Certify, model: MLP, budget: Budget | None) -> None:
    """Refuse what branch and bound or integer programs cannot tell, before anything is tried."""
    if budget is not None:
        check_search(model, "close", "use certify")
    if not command.exact:
        return
    if command.norm != "linf":
        raise InputError(f"--exact acts in linf, got {command.norm}; leave it out")
    try:
        check_small(model)
    except InputError as reason:
        raise InputError(f"--exact: {reason}; leave it out") from None


def check_search(model: MLP, command: str, way: str) -> None:
    """Refuse a network that branch and bound, as a command uses it, cannot cut up."""
    if model.activation not in CURVES:
        raise InputError(
            f"{command} knows the activations {', '.join(CURVES)}, got {model.activation}; {way}"
        )
    if len(model.layers) < 2:
        raise InputError(f"{command} splits hidden neurons, and this network has none; {way}")


def _methods(command: config.Certify, activation: str) -> Sequence[str]:
    """What to try: all that was asked for, or of the defaults what applies.

    Raises:
        InputError: A method that was asked for is unknown, of another norm, or does not apply; or
            nothing is left that proves.
    """
    for method in command.methods:
        sweeping.check_method(method, command.norm, activation)
    if command.methods:
        return command.methods
    names = CLOSE if isinstance(command, config.Close) else CERTIFY
    found = [name for name in names[command.norm] if sweeping.applies(name, activation)]
    if not CERTIFIERS.keys() & found:
        raise InputError(
            f"no certifier of {command.norm} knows the activation {activation}; those of linf and "
            "l2 do, and --methods names attacks alone"
        )
    return found


def check_network(model: AbstractClassifier, name: str, part: Part) -> MLP:
    """Refuse a network that no proof can be about."""
    if not isinstance(model, MLP):
        raise InputError(
            f"{name} must be an MLP to be certified, got {type(model).__name__}; "
            "name a run with --model mlp"
        )
    pixels, classes = part.images.shape[1], int(np.max(part.labels)) + 1
    ins, outs = model.layers[0].weight.shape[1], model.layers[-1].bias.size
    if ins != pixels or outs < classes:
        raise InputError(
            f"{name} must take {pixels} pixels and give {classes} classes, got {ins} and {outs}; "
            "name a network for these data"
        )
    if not all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))
    ):
        raise InputError(f"{name} must hold finite weights, got NaN or infinity; train it anew")
    return model


def _name(tried: Tried) -> str:
    return f"{tried.method} for radii" if tried.of_radii else tried.method


def _line(tried: Tried) -> str:
    if not tried.images:
        return f"{_name(tried)}: no time was left for its {tried.late} images"
    domains = f", {tried.domains:,} domains" if tried.domains else ""
    late = f"; no time was left for {tried.late} more" if tried.late else ""
    return (
        f"{_name(tried)}: {tried.settled} of {tried.images} settled in {tried.seconds:.1f} s"
        f"{domains}, and {tried.compile_seconds:.1f} s of compilation{late}"
    )


def _told(
    command: config.Certify,
    found: dict[int, tuple[list[Tried], Bounds]],
    exact: dict[int, list[dict[str, Any]]],
) -> Result:
    facts: list[dict[str, Any]] = []
    lines: list[str] = []
    for seed, (tried, bounds) in found.items():
        counts = _counts(command, seed, bounds)
        certified, attacked, images = (counts[k] for k in ("certified", "attacked", "images"))
        heading = [("method", "images", "settled", "domains", "seconds", "compilation")]
        rows = [
            (
                _name(t), str(t.images), str(t.settled), f"{t.domains:,}" if t.domains else "",
                f"{t.seconds:.1f}", f"{t.compile_seconds:.1f}",
            )
            for t in tried if t.images
        ]  # fmt: skip
        if rows:
            lines += [columns(heading + rows), ""]
        if late := [f"{_name(t)} on {t.late} images" for t in tried if t.late]:
            lines += [f"no time was left for {', '.join(late)}; --budget gives more", ""]
        share = f"from {certified / images:.2%} to {1 - attacked / images:.2%}"
        if not counts["open"]:
            share = f"exactly {certified / images:.2%}"
        lines.append(
            f"{f'seed {seed}, ' if len(found) > 1 else ''}{command.norm} {command.eps:g}: "
            f"{certified} certified, {attacked} attacked, {counts['open']} open, "
            f"of {images}; robust accuracy is {share}"
        )
        left = _open(command, bounds)
        lines += [
            f"open: image {one['image']}, with its radius from {one['lower']:.6g} to "
            f"{np.inf if one['upper'] is None else one['upper']:.6g}" for one in left[:_LISTED]
        ]  # fmt: skip
        if len(left) > _LISTED:
            lines.append(f"and {len(left) - _LISTED} more, which --json lists")
        lines += [
            f"exact: image {one['image']}, whose least margin "
            + ("was not found in time" if one["margin"] is None else f"is {one['margin']:.6g}")
            for one in exact[seed]
        ]
        methods = [
            {name: value for name, value in one._asdict().items() if name != "per_image"}
            for one in tried
        ]
        facts.append(
            counts | {
                "methods": methods, "open_images": left, "per_image": _per_image(tried),
                "exact": exact[seed],
            }
        )  # fmt: skip
    if any(one["certified"] for one in facts):
        lines.append(ABOUT_CERTIFICATES)
    return Result("\n".join(lines), facts)
