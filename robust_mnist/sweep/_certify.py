"""Certificates, a last attack, and branch and bound at one radius, on what is still open there."""

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, PRNGKeyArray

from robust_mnist.certify import CERTIFIERS, SEARCHES
from robust_mnist.clock import stopwatch
from robust_mnist.data import Part
from robust_mnist.models import MLP
from robust_mnist.records import OpenDomains, Radii
from robust_mnist.sweep._bounds import Bounds, found_cell, run_cell
from robust_mnist.sweep._branch import BranchAndBound, Budget, Progress
from robust_mnist.sweep._driver import concatenate
from robust_mnist.sweep._proofs import certified_radii, certify_batch, chunk_of
from robust_mnist.sweep._resume import completed
from robust_mnist.sweep._saving import Saving
from robust_mnist.sweep._sweep import Task, _Network, _write


# How much of the budget is over when the methods before branch and bound have to end.
METHODS_SHARE = 0.5
# Where a method took fewer seconds it runs on twice as many images the next time. Between two times
# it tells how far it is, and ends where its time is over.
BRIEF = 2.0
# When bounds on what is left open have to end: after some seconds, or a share of the budget.
REST_SECONDS, REST_SHARE = 10.0, 0.1
# Seconds between two times that branch and bound hands over what it has decided, and has left.
HAND_OVER = 30.0
_NO_IMAGES = np.zeros(0, np.int32)


class Spent(NamedTuple):
    """What branch and bound spent on one image.

    Attributes:
        image: Its place among all.
        domains: Parts of its ball that were explored.
        seconds: From the beginning of branch and bound until it had decided the image; None where
            it did not.
    """

    image: int
    domains: int
    seconds: float | None


class Running(NamedTuple):
    """How far a method has come.

    Attributes:
        method: Its name.
        images: Images to run on.
        done: Those it has run on.
    """

    method: str
    images: int
    done: int


class Tried(NamedTuple):
    """What one method settled.

    Attributes:
        method: Its name.
        images: Images it ran on.
        settled: Those it proved right, or broke.
        seconds: What it took, without compilation; of branch and bound with the writing of files.
        compile_seconds: Compilation.
        domains: Parts of balls that were explored, for branch and bound.
        per_image: The same of each image, those that it had no time for among them.
        late: Images that it would have run on too, had there been time.
        of_radii: Whether it looked for radii of its own, rather than for a verdict at one.
    """

    method: str
    images: int
    settled: int
    seconds: float
    compile_seconds: float
    domains: int = 0
    per_image: tuple[Spent, ...] = ()
    late: int = 0
    of_radii: bool = False

    def totals(self) -> dict[str, float]:
        """What can be added up over runs of the method."""
        names = ("images", "settled", "domains", "seconds", "compile_seconds")
        return {name: float(getattr(self, name)) for name in names}


def open_at(bounds: Bounds, eps: float) -> Bool[np.ndarray, " images"]:
    """Images that are neither certified at `eps` nor broken within it."""
    return (bounds.radii.lower < eps) & (bounds.radii.upper > eps)


def settle_at(
    model: MLP,
    part: Part,
    bounds: Bounds,
    methods: Sequence[str],
    eps: float,
    key: PRNGKeyArray,
    *,
    budget: Budget | None = None,
    left: dict[str, OpenDomains] | None = None,
    again: bool = False,
    enclose: bool = True,
) -> Generator[Tried | Running | Progress, None, None]:
    """Run methods at one radius, each on what those before it left open, cheap ones first.

    Args:
        model: The network.
        part: All images.
        bounds: What is known of them; what is found is merged into it.
        methods: Names of certifiers and attacks of the norm of `bounds`.
        eps: Radius, above 0.
        key: Randomness of the attacks.
        budget: Time for all of this, compilation included, and domains for each image. After half
            of the time methods end as soon as they can, and branch and bound has what they leave.
            By default the methods take what they need, and there is no branch and bound.
        left: What each search has left of open images, by its name, from which it goes on. What it
            leaves now takes the place of that, whatever ends this. Images that it holds go straight
            to branch and bound: the methods of the command that left them have failed there, and
            would again with the same draws, or had no time for an image that branch and bound has
            begun with. By default every search begins with whole balls.
        again: Run the methods on these images as well.
        enclose: Give what branch and bound leaves open bounds on its radius, by alpha-CROWN and
            FAB, which take a tenth of the budget more, or some seconds.

    Yields:
        How far each method has come, and at its end what it did and for how many images it had no
        time; methods that find nothing open are left out. Of branch and bound how it stands, with
        all that it had decided some seconds before in `bounds`.

    Raises:
        Contradiction: A certificate and an attack exclude each other.
    """

    def decide(method: str, places: np.ndarray) -> None:
        if method in CERTIFIERS:
            some, certifier = part.take(places), CERTIFIERS[method]
            holds = certify_batch(certifier, model, some.images, some.labels, eps=eps)
            _certify(bounds, method, places[holds], eps)
        else:
            cell = run_cell(model, part, bounds, method, eps, key, at=places)
            bounds.merge(method, cell)

    start = time.monotonic()
    limit = np.inf if budget is None else budget.seconds
    try:
        without = _images({} if again else left or {})
        until = start + METHODS_SHARE * limit
        yield from _in_turn(methods, bounds, eps, decide, until=until, without=without)
        if budget is not None and open_at(bounds, eps).any():
            rest = Budget(start + limit - time.monotonic(), budget.domains)
            yield from _branch(model, part, bounds, eps, rest, left)
            if enclose:
                more = max(REST_SECONDS, REST_SHARE * limit)
                yield from _enclose(model, part, bounds, eps, key, more)
    finally:
        if left is not None:
            _forget(left, bounds, eps)


def _images(left: Mapping[str, OpenDomains]) -> Int32[np.ndarray, " images"]:
    """Images of which some search has left open domains."""
    return np.concatenate([_NO_IMAGES, *(domains.image for domains in left.values())])


def _forget(left: dict[str, OpenDomains], bounds: Bounds, eps: float) -> None:
    """Forget what is left of images that another method has decided."""
    still = np.flatnonzero(open_at(bounds, eps))
    for search, domains in left.items():
        left[search] = domains.where(np.isin(domains.image, still))


def _in_turn(
    methods: Sequence[str],
    bounds: Bounds,
    eps: float,
    run: Callable[[str, np.ndarray], None],
    *,
    until: float = np.inf,
    without: Int32[np.ndarray, " images"] = _NO_IMAGES,
) -> Generator[Tried | Running, None, None]:
    """Run each method on the images that those before it left open, slice by slice.

    No slice begins after `until`; images that this keeps from a method are told as late.
    """
    for method in methods:
        places = np.setdiff1d(np.flatnonzero(open_at(bounds, eps)), without)
        count, done, seconds, compiling = int(places.size), 0, 0.0, 0.0
        if not count:
            return
        size = unit = _program(method)
        while done < count and (begun := time.monotonic()) < until:
            at = places[done : done + size]
            with stopwatch() as elapsed:
                # The last image fills up the last program, which is compiled for one size alone.
                run(method, np.pad(at, (0, -at.size % unit), mode="edge") if count > unit else at)
            done += at.size
            # Without what is done with it in between, such as writing files.
            seconds, compiling = seconds + elapsed.seconds, compiling + elapsed.compile_seconds
            if time.monotonic() - begun < BRIEF:
                size *= 2
            if done < count:
                yield Running(method, count, done)
        settled = int(np.sum(~open_at(bounds, eps)[places]))
        yield Tried(method, done, settled, seconds, compiling, late=count - done)


def _program(method: str) -> int:
    """Images of one compiled call."""
    return chunk_of(CERTIFIERS[method]) if method in CERTIFIERS else 1000


def _branch(
    model: MLP, part: Part, bounds: Bounds, eps: float, budget: Budget,
    left: dict[str, OpenDomains] | None = None,
) -> Generator[Tried | Progress, None, None]:  # fmt: skip
    """Branch and bound on what is open; nothing that it decides is lost if it is cut short."""
    search, start = SEARCHES[bounds.radii.norm], time.monotonic()
    places = np.flatnonzero(open_at(bounds, eps))
    method = f"{search.name}-{bounds.radii.norm}"
    if budget.seconds <= 0:
        yield Tried(method, 0, 0, 0.0, 0.0, late=places.size)
        return
    work: BranchAndBound | None = None
    held = (left or {}).get(search.name, OpenDomains.none()).among(places)
    decided = np.full(places.size, np.nan)
    with stopwatch() as elapsed:
        try:
            work = BranchAndBound(search, model, part.take(places), eps, left=held)
            last = time.monotonic()
            decided[~work.open] = last - start
            for progress in work.run(Budget(budget.seconds - (last - start), budget.domains)):
                now = time.monotonic()
                decided[np.isnan(decided) & ~work.open] = now - start
                if now - last > HAND_OVER:
                    _hand_over(bounds, method, places, work)
                    _leave(left, search.name, places, work, held)
                    last = time.monotonic()
                yield progress
        finally:
            if work is not None:
                _hand_over(bounds, method, places, work)
                _leave(left, search.name, places, work, held)
    settled = places.size - int(np.sum(open_at(bounds, eps)))
    begun = int(np.sum((work.spent > 0) | ~work.open))
    yield Tried(
        method, begun, settled, elapsed.seconds, elapsed.compile_seconds, work.explored,
        tuple(
            Spent(image, domains, None if np.isnan(seconds) else seconds)
            for image, domains, seconds in zip(
                places.tolist(), work.spent.tolist(), decided.tolist(), strict=True
            )
        ),
        late=places.size - begun,
    )  # fmt: skip


def _enclose(
    model: MLP, part: Part, bounds: Bounds, eps: float, key: PRNGKeyArray, seconds: float
) -> Generator[Tried | Running, None, None]:
    """Bounds on the radii of what is open after all, which tell how far from decided it is."""

    def enclose(method: str, places: np.ndarray) -> None:
        if method in CERTIFIERS:
            some = part.take(places)
            found = certified_radii(
                CERTIFIERS[method], model, some.images, some.labels,
                largest=eps, gap=eps / 1024,
            )  # fmt: skip
            _certify(bounds, method, places, found)
        else:
            cell = run_cell(model, part, bounds, method, np.inf, key, at=places)
            bounds.merge(method, cell)

    norm = bounds.radii.norm
    start = time.monotonic()
    for share, method in ((0.5, f"alpha-crown20-{norm}"), (1.0, f"fab100-targeted-{norm}")):
        for one in _in_turn([method], bounds, eps, enclose, until=start + share * seconds):
            yield one._replace(of_radii=True) if isinstance(one, Tried) else one


def _attacked(told: Tried | Running | Progress) -> bool:
    """Whether wrong images have been looked for in all that was open; certifiers look for none."""
    return isinstance(told, Tried) and not told.late and told.method not in CERTIFIERS


def _hand_over(bounds: Bounds, method: str, places: np.ndarray, work: BranchAndBound) -> None:
    _certify(bounds, method, places[work.certified], work.eps)
    if work.found:
        wrong = sorted(work.found)
        found = concatenate([work.found[place] for place in wrong])
        bounds.merge(method, found_cell(bounds, method, places[wrong], found))


def _leave(
    left: dict[str, OpenDomains] | None, search: str, places: np.ndarray, work: BranchAndBound,
    held: OpenDomains,
) -> None:  # fmt: skip
    now = None if left is None else work.left()
    # Within a step that was cut short, what was left some seconds ago stands: it holds all of it.
    if left is not None and now is not None:
        before = left.get(search, OpenDomains.none()).among(places)
        # And in case of what the command before this one left.
        kept = completed(completed(now, before, work.open), held, work.open)
        left[search] = kept.of(places)


def _certify(
    bounds: Bounds, method: str, places: np.ndarray, eps: float | Float64[np.ndarray, " places"]
) -> None:
    proof = np.full(bounds.radii.lower.size, -np.inf)
    proof[places] = eps
    bounds.radii = bounds.radii.merge(Radii.certified(bounds.radii.norm, method, proof))
    # What is said of a certifier of the sweep alone; of one that saw open images only nothing is.
    if method in bounds.lower:
        bounds.lower[method] = np.maximum(bounds.lower[method], proof)


def settle_run(
    task: Task,
    models: dict[int, MLP],
    norm: str,
    methods: Sequence[str],
    eps: float,
    *,
    budget: Budget | None = None,
    left: Mapping[int, dict[str, OpenDomains]] | None = None,
    again: bool = False,
    keep: Callable[[], None] = lambda: None,
) -> Generator[tuple[int, Tried | Running | Progress | Bounds], None, None]:
    """The same for every network of a run; what was found is added to the run's files.

    That is done whenever a method has come further or branch and bound has handed over, a tenth of
    the time at most, and once more at the end, also when this is cut short, by an exception or
    because nobody asks for more. What each method took is added up there over all calls, but for a
    method that was cut short itself.

    Args:
        task: The run, with a plan that names `norm`.
        models: One network per training seed.
        norm: Norm of the radius.
        methods: Names of certifiers and attacks.
        eps: Radius.
        budget: As in `settle_at`, for each network anew.
        left: As there, of each network by its seed.
        again: As there.
        keep: Called each time that the files have been written in between, to write `left`.

    Yields:
        Each network's seed with what a method did or how it stands, and at last with all that is
        known of it.
    """
    networks = [
        _Network(task, seed, model, None if len(models) == 1 else index)
        for index, (seed, model) in enumerate(models.items())
    ]
    # All of them, so that every network has its place in the files whenever they are written.
    held = [network.start(norm) for network in networks]
    for network, bounds in zip(networks, held, strict=True):
        network.bounds[norm] = bounds

    def known() -> list[object]:
        domains = [one for each in (left or {}).values() for one in each.values()]
        return [*(bounds.radii for bounds in held), *domains]

    def write() -> None:
        _write(task.folder, networks)
        keep()

    save = Saving(known, write)
    try:
        for network, model, bounds in zip(networks, models.values(), held, strict=True):
            work = settle_at(
                model, task.part, bounds, methods, eps, network.key,
                budget=budget, left=None if left is None else left[network.seed], again=again,
            )  # fmt: skip
            with contextlib.closing(work):
                for told in work:
                    network.settled.add((norm, eps))
                    if isinstance(told, Tried) and told.images:
                        network.account(norm, told.method, told.totals())
                    if _attacked(told):
                        network.searched.add((norm, eps))
                    save()
                    yield network.seed, told
            # What was known before may leave nothing to try.
            if not open_at(bounds, eps).any():
                network.settled.add((norm, eps))
                network.searched.add((norm, eps))
            yield network.seed, bounds
    finally:
        _write(task.folder, networks)
