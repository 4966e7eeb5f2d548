"""Check the file of `close --out` anew."""

import contextlib

import jax
import numpy as np
from jaxtyping import Bool, Float64

from robust_mnist import checkpoint, config, data, sweep as sweeping
from robust_mnist.certify import CERTIFIERS, SEARCHES
from robust_mnist.commands._programs import start_jax
from robust_mnist.commands._result import Result
from robust_mnist.commands.certify import check_network, check_search
from robust_mnist.config import CLOSE
from robust_mnist.console import Console
from robust_mnist.data import Part
from robust_mnist.errors import InputError
from robust_mnist.models import MLP
from robust_mnist.records import ABOUT_CERTIFICATES, Exact
from robust_mnist.sweep import Bounds, Budget, Progress


def verify(command: config.Verify) -> Result:
    """Replay every wrong image, and prove anew what is said to be certified.

    Nothing in the file is believed: which images are right when clean, whether a witness lies in
    ball and box and is wrong, and every certificate come from the network itself. Exit code 1 where
    a claim does not hold, or where the time was too short to tell of all certificates, unless
    `--allow-unproven` takes that as it is.
    """
    start_jax()
    exact = Exact.read(command.file)
    norm, eps = exact.radii.norm, exact.eps
    if norm not in SEARCHES or not (np.isfinite(eps) and eps > 0):
        raise InputError(f"{command.file} must be about {' or '.join(SEARCHES)}, got {norm} {eps}")
    digest = checkpoint.digest(command.model)
    if digest != exact.network:
        raise InputError(
            f"{command.file} is about the network with sha256 {exact.network[:12]}, got "
            f"{command.model} with {digest[:12]}"
        )
    note = Console(quiet=command.output.quiet).note
    model = checkpoint.read_npz(command.model, exact.activation, note=note)
    check_search(model, "verify", f"put back a copy of {command.file}")
    dataset = data.load(command.data, quiet=command.output.quiet)
    if dataset.sha256 != exact.data:
        raise InputError(
            f"{command.file} is about data with sha256 {exact.data[:12]}, got {dataset.name} with "
            f"{dataset.sha256[:12]}; name it with --data"
        )
    part = Part(dataset.test_images, dataset.test_labels, np.arange(len(dataset.test_labels)))
    check_network(model, command.model, part)
    exact.check(command.file, *part.images.shape)
    asked = _asked(command, part)
    clean = Bounds.clean(model, part, norm)
    wrong = _replay(clean, model, part, exact, asked)
    # What is neither certified nor broken is claimed to be right when clean, and no more.
    unfit = int(np.sum(asked & (exact.radii.lower >= 0) & (clean.radii.upper == 0)))
    chosen = np.flatnonzero(asked & (exact.radii.lower >= eps))
    if 0 < command.images < chosen.size:
        chosen = np.random.default_rng(command.seed).choice(chosen, command.images, replace=False)
    chosen = np.sort(chosen)
    again, false = _prove(command, model, part.take(chosen), exact) if chosen.size else (0, 0)
    smaller = np.flatnonzero(asked & (exact.radii.lower > 0) & (exact.radii.lower < eps))
    holds = _prove_smaller(model, part.take(smaller), norm, exact.radii.lower[smaller])
    facts = {
        "file": command.file, "norm": norm, "eps": eps, "witnesses": len(wrong),
        "replayed": int(wrong.sum()), "certificates": int(chosen.size), "proven": again,
        "refuted": false, "not_proven_in_time": int(chosen.size) - again - false,
        "smaller": int(smaller.size), "smaller_proven": int(holds.sum()),
        "wrong_when_clean": unfit,
    }  # fmt: skip
    text = (
        f"{norm} {eps:g}: {facts['replayed']} of {len(wrong)} wrong images are wrong and within "
        f"their radius; {again} of {chosen.size} certificates proven anew, {false} refuted, "
        f"{facts['not_proven_in_time']} not proven in the time"
    )
    if smaller.size:
        text += f"; {holds.sum()} of {smaller.size} certified radii below {eps:g} proven anew"
    if unfit:
        text += f"; {unfit} images that are said to be right when clean are wrong"
    if chosen.size or smaller.size:
        text += f"\n{ABOUT_CERTIFICATES}"
    fail = int(np.sum(~wrong)) + false + int(np.sum(~holds)) + unfit
    late = facts["not_proven_in_time"] if not command.allow_unproven else 0
    if fail:
        text += f"\nnot verified: {fail} claims do not hold"
    elif late:
        text += (
            f"\nnot verified: {late} certificates were neither proven nor refuted within --budget "
            f"{command.budget}; give it more time, or accept them with --allow-unproven"
        )
    return Result(text, facts, exit_code=int(bool(fail or late)))


def _asked(command: config.Verify, part: Part) -> Bool[np.ndarray, " images"]:
    """The images that are named; all without any."""
    count = len(part.labels)
    if max(command.image, default=0) >= count:
        raise InputError(f"--image must be below {count}, got {max(command.image)}")
    asked = np.full(count, not command.image)
    asked[list(command.image)] = True
    return asked


def _prove_smaller(
    model: MLP, part: Part, norm: str, radii: Float64[np.ndarray, " images"]
) -> Bool[np.ndarray, " images"]:
    """Which radii below the one asked for are certified as they are said to be.

    They are as large as alpha-CROWN proved somewhere. The last digits of what it optimises differ
    from machine to machine, and so a stronger certifier has a look at what it lacks here.
    """
    holds = np.zeros(radii.size, bool)
    for name in (f"alpha-crown20-{norm}", f"quadratic100-{norm}"):
        left = np.flatnonzero(~holds)
        if left.size:
            some = part.take(left)
            holds[left] = sweeping.certify_batch(
                CERTIFIERS[name], model, some.images, some.labels, eps=radii[left]
            )
    return holds


def _replay(
    clean: Bounds, model: MLP, part: Part, exact: Exact, asked: Bool[np.ndarray, " images"]
) -> Bool[np.ndarray, " broken"]:
    """Whether each claim to have broken an image that was asked for holds."""
    radii = exact.radii
    claimed = np.flatnonzero(asked & np.isfinite(radii.upper))
    holds = clean.radii.upper[claimed] == 0
    place = {int(at): row for row, at in enumerate(exact.at)}
    rows = np.array([row for row, at in enumerate(claimed) if int(at) in place], np.int64)
    if rows.size:
        at = claimed[rows]
        witness = exact.witness[[place[int(index)] for index in at]]
        margin, _ = sweeping.judge_batch(model, witness, part.labels[at])
        size = sweeping.sizes(radii.norm, clean.witness[at], witness)
        inside = np.all((witness >= 0) & (witness <= 1), axis=1) & (size <= radii.upper[at])
        holds[rows] |= inside & (margin <= 0)
    return holds


def _prove(command: config.Verify, model: MLP, part: Part, exact: Exact) -> tuple[int, int]:
    """How many images the certifiers, and branch and bound, prove anew, and how many they break."""
    bounds = Bounds.clean(model, part, exact.radii.norm)
    methods = [
        name for name in CLOSE[exact.radii.norm]
        if name in CERTIFIERS and sweeping.applies(name, exact.activation)
    ]  # fmt: skip
    work = sweeping.settle_at(
        model, part, bounds, methods, exact.eps, jax.random.key(0),
        budget=Budget(config.seconds(command.budget)), enclose=False,
    )  # fmt: skip
    console = Console(quiet=command.output.quiet)
    with contextlib.closing(work), console.progress("verify", len(part.labels)) as update:
        for one in work:
            left = (
                one.open
                if isinstance(one, Progress)
                else int(np.sum(sweeping.open_at(bounds, exact.eps)))
            )
            update(len(part.labels) - left, f"{left} to prove")
    radii = bounds.radii
    return int(np.sum(radii.lower >= exact.eps)), int(np.sum(radii.upper <= exact.eps))
