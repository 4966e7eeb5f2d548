import contextlib
import dataclasses
import itertools
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import grey_images, network, predicted

from robust_mnist.certify import CURVES, Search
from robust_mnist.data import Part
from robust_mnist.data.pixels import to_float
from robust_mnist.errors import InputError
from robust_mnist.records import (
    OpenDomains,
    RunFolder,
    _open_domains,
    read_open_domains,
    write_open_domains,
)
from robust_mnist.sweep import (
    Bounds,
    BranchAndBound,
    Budget,
    _branch,
    _certify,
    _resume,
    _saving,
    about,
    judge_batch,
)
from robust_mnist.sweep._frontier import Frontier


LINES = Search()
NAME, ABOUT = LINES.name, bytes(range(32))


@pytest.fixture
def problem():
    """A network and images that it has right, at a radius that takes some of them many domains."""
    model = network(jax.random.key(1), sizes=(16, 16, 16, 4), gain=2.0)
    images = grey_images(jax.random.key(2), 32, pixels=16)
    return model, Part(images, predicted(model, images), np.arange(32)), 0.08


@pytest.fixture
def blind(monkeypatch):
    """Searches that overlook what is wrong, and so never stop where they should."""
    monkeypatch.setattr(BranchAndBound, "_attack", lambda *_: None)


@pytest.fixture
def handing_over(monkeypatch):
    """`settle_at` with lines alone, in small steps, each of which hands over what it knows."""
    monkeypatch.setattr(_certify, "SEARCHES", {"linf": LINES})
    monkeypatch.setattr(_certify, "HAND_OVER", 0.0)
    monkeypatch.setattr(_certify, "BranchAndBound", Small)


class Small(BranchAndBound):
    """With steps of few domains."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, batch=32, **kwargs)


def interrupt(*_):
    raise KeyboardInterrupt


def explore(model, part, eps, *, most=np.inf, left=None):
    """Branch and bound until so many domains are explored."""
    work = BranchAndBound(LINES, model, part, eps, batch=32, left=left)
    for _ in work.run(Budget(seconds=120.0)):
        if work.explored >= most:
            break
    return work


def filed(path, left):
    """The same, written and read again."""
    write_open_domains(path, ABOUT, {NAME: left})
    return read_open_domains(path, ABOUT)[NAME]


def holds(model, left, z):
    """Which domains hold an image."""
    inputs, z = [], jnp.asarray(z)
    for layer in model.layers[:-1]:
        inputs.append(layer(z))
        z = CURVES[model.activation].value(inputs[-1])
    inputs = np.concatenate(inputs)[None]
    low, high = _resume.rows(left, inputs.size)
    return np.all((low <= inputs) & (inputs <= high), axis=1)


def test_what_is_resumed_takes_no_more_than_what_never_stopped(problem, tmp_path, monkeypatch):
    model, part, eps = problem
    whole = explore(model, part, eps)
    assert not whole.open.any()
    at, seen, real = np.arange(32), [], Frontier.pop

    def pop(self, *args):
        domains, cuts = real(self, *args)
        low, high = np.asarray(cuts.low), np.asarray(cuts.high)
        for row, (image, other) in enumerate(zip(domains.image, domains.other, strict=True)):
            seen.append((at[image], other, low[row].tobytes(), high[row].tobytes()))
        return domains, cuts

    monkeypatch.setattr(Frontier, "pop", pop)
    spent, stops, left = 0, 0, OpenDomains.none()
    certified, found = np.zeros(32, bool), set()
    while at.size:
        # Each of them knows no more than the file.
        work = explore(model, part.take(at), eps, most=whole.explored / 6, left=left.among(at))
        spent, stops = spent + work.explored, stops + 1
        certified[at[work.certified]] = True
        found |= set(at[sorted(work.found)].tolist())
        left, at = work.left().of(at), at[work.open]
        if at.size:
            left = filed(tmp_path / "left.npz", left)
            assert set(left.image.tolist()) == set(at.tolist())
    assert stops > 4
    assert np.array_equal(certified, whole.certified)
    assert found == whole.found.keys()
    assert len(set(seen)) == len(seen)
    assert spent <= 1.1 * whole.explored


@pytest.mark.usefixtures("blind")
def test_every_wrong_image_lies_in_a_domain_that_is_kept(problem, tmp_path):
    model, part, eps = problem
    work = explore(model, part, eps, most=1500)
    left = filed(tmp_path / "left.npz", work.left())
    rng, met = np.random.default_rng(0), 0
    for image in np.unique(left.image):
        x = to_float(part.images[image])
        near = np.clip(x + eps * np.sign(rng.normal(size=(500, 16))), 0, 1).astype(np.float32)
        wrong, classes = judge_batch(model, near, np.repeat(part.labels[image], 500))
        mine = left.where(left.image == image)
        for z, other in zip(near[wrong <= 0][:20], classes[wrong <= 0][:20], strict=True):
            assert np.any(holds(model, mine, z) & (mine.other == other))
            met += 1
    assert met > 50
    assert work.explored > 2 * left.image.size


def test_a_file_that_lacks_the_domain_with_what_is_wrong_proves_nothing(
    problem, tmp_path, monkeypatch
):
    model, part, _ = problem
    # A radius just above that of an image.
    one, eps = part.take(np.array([5])), 0.038125
    wrong = explore(model, one, eps).found[0].witness[0]
    monkeypatch.setattr(BranchAndBound, "_attack", lambda *_: None)
    left = explore(model, one, eps, most=100).left()
    lost = holds(model, left, wrong)
    assert lost.sum() == 1
    fewer = left.where(~lost)
    # Believed, it would be a certificate of an image that is broken.
    assert explore(model, one, eps, left=fewer, most=5000).certified[0]
    path = tmp_path / "left.npz"
    write_open_domains(path, ABOUT, {NAME: left})
    with np.load(path) as held:
        own = {name: held[name] for name in ("about", "digest")}
    arrays = {f"{NAME}/{name}": getattr(fewer, name) for name in _open_domains._DTYPES}
    np.savez(path, **arrays, **own)
    with pytest.raises(InputError, match="its digest is not that of its arrays; what is open begi"):
        read_open_domains(path, ABOUT)
    # An image of which nothing is kept is not thought to have nothing left.
    assert not explore(model, one, eps, left=OpenDomains.none(), most=1000).certified[0]


def some_left(count=40, image=3):
    """Domains of one image, of three cuts each."""
    rng, whole = np.random.default_rng(0), lambda high, size: rng.integers(0, high, size, np.int32)
    return OpenDomains(
        np.full(count, image, np.int32), whole(4, count), rng.normal(size=count).astype(np.float32),
        np.full(count, 9), np.full(count, 3, np.int32), whole(64, 3 * count),
        rng.normal(size=3 * count).astype(np.float32),
    )  # fmt: skip


def same(one, two):
    return all(
        np.array_equal(getattr(one, field.name), getattr(two, field.name))
        for field in dataclasses.fields(OpenDomains)
    )


def test_a_damaged_file_is_refused_and_never_read_as_another(tmp_path):
    path, left = tmp_path / "left.npz", some_left()
    assert same(filed(path, left), left)
    good, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for at in rng.choice(len(good), 400, replace=False):
        path.write_bytes(
            good[:at] + bytes([good[at] ^ (1 << int(rng.integers(8)))]) + good[at + 1 :]
        )
        found = None
        with contextlib.suppress(InputError):
            found = read_open_domains(path, ABOUT)[NAME]
        refused += found is None
        assert found is None or same(found, left)
    assert refused > 300
    for size in range(0, len(good), 97):
        path.write_bytes(good[:size])
        with pytest.raises(InputError, match="is not used"):
            read_open_domains(path, ABOUT)
    path.unlink()
    assert read_open_domains(path, ABOUT) == {}


@pytest.mark.parametrize("kind", ["large", "pickled", "claimed"])
def test_a_file_is_unpacked_only_where_it_is_small_and_plain(kind, tmp_path, monkeypatch):
    path = tmp_path / "left.npz"
    filed(path, some_left())
    if kind == "large":
        monkeypatch.setattr(_open_domains, "_MOST", 1000)
    elif kind == "pickled":
        np.savez(path, about=np.array([print], object), digest=np.zeros(32, np.uint8))
    else:
        with zipfile.ZipFile(path, "w") as archive, archive.open("about.npy", "w") as stream:
            header = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
            np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(InputError, match=r"must unpack to at most|is none of its own"):
        read_open_domains(path, ABOUT)


def test_what_is_about_something_else_is_refused(problem, tmp_path):
    model, part, eps = problem
    path, mine = tmp_path / "left.npz", about(model, part, "linf", eps)
    write_open_domains(path, mine, {NAME: some_left()})
    assert same(read_open_domains(path, about(model, part, "linf", eps))[NAME], some_left())
    images = part.images.copy()
    images[3, 5] ^= 1
    others = [
        about(model, part, "l2", eps), about(model, part, "linf", 0.081),
        about(network(jax.random.key(3), sizes=(16, 16, 16, 4)), part, "linf", eps),
        about(network(jax.random.key(1), (16, 16, 16, 4), "sigmoid", 2.0), part, "linf", eps),
        about(model, dataclasses.replace(part, images=images), "linf", eps),
    ]  # fmt: skip
    assert len({mine, *others}) == 6
    for other in others:
        with pytest.raises(InputError, match="of another network, data, norm, radius or version"):
            read_open_domains(path, other)
    # Where nothing is left, no file is.
    write_open_domains(path, mine, {NAME: OpenDomains.none()})
    assert not path.exists()


@pytest.mark.usefixtures("blind")
def test_an_image_is_kept_whole_or_not_at_all(problem, monkeypatch):
    model, part, eps = problem
    work = explore(model, part, eps, most=1500)
    full = work.left()
    count = np.bincount(full.image, minlength=32)
    assert np.array_equal(count[work.open], work.waiting[work.open])
    for name, size in (("MOST_DOMAINS", count), ("MOST_CUTS", np.bincount(full.image, full.cuts))):
        with monkeypatch.context() as patch:
            patch.setattr(_resume, name, int(size.sum()) // 2)
            some = work.left()
        kept = np.unique(some.image)
        assert 0 < kept.size < np.unique(full.image).size
        assert same(some, full.where(np.isin(full.image, kept)))
        assert size[kept].sum() <= size.sum() // 2
    # Of an image with a tie the pool holds not all.
    work.tied[full.image[0]] = True
    assert same(work.left(), full.where(full.image != full.image[0]))
    # Nor of one that is counted otherwise.
    work.waiting[full.image[-1]] += 1
    ends = (full.image[0], full.image[-1])
    assert ends[0] != ends[1]
    assert same(work.left(), full.where(~np.isin(full.image, ends)))


@pytest.mark.usefixtures("handing_over")
def test_an_image_with_too_many_domains_keeps_those_it_had_before(problem, monkeypatch):
    model, part, eps = problem
    whole = explore(model, part, eps)
    monkeypatch.setattr(_resume, "MOST_DOMAINS", 20)
    more, real = [], _certify.completed

    def completed(now, *args):
        found = real(now, *args)
        more.append(found.image.size - now.image.size)
        return found

    monkeypatch.setattr(_certify, "completed", completed)
    bounds, left = Bounds.clean(model, part, "linf"), {}

    def settle(seconds):
        return _certify.settle_at(
            model, part, bounds, (), eps, jax.random.key(0), budget=Budget(seconds), left=left
        )

    for progress in settle(120.0):
        assert left[NAME].image.size <= 20
        if progress.open <= 4 and sum(more[-2:]) > 0:
            break
    assert sum(more[-2:]) > 0
    list(settle(120.0))
    assert np.array_equal(bounds.radii.lower >= eps, whole.certified)
    assert set(np.flatnonzero(bounds.radii.upper <= eps).tolist()) == whole.found.keys()
    assert left[NAME].image.size == 0


def test_new_images_begin_before_those_that_are_resumed_and_none_is_lost(problem, monkeypatch):
    model, part, eps = problem
    whole = explore(model, part, eps)
    some = explore(model, part.take(np.arange(16)), eps, most=600)
    left = some.left()
    assert left.image.size > 20
    work = BranchAndBound(LINES, model, part, eps, batch=32, left=left)
    is_open = np.concatenate([some.open, ~work.certified[16:]])
    first = np.repeat(np.arange(16, 32), work.waiting[16:])[:32]
    work.certified[:16] = some.certified[:16]
    work.found = dict(some.found)
    run = work.run(Budget(120.0))
    next(run)
    # One batch of whole balls, and of what has been begun nothing yet.
    assert set(np.flatnonzero(work.spent)) <= set(first)
    assert work.spent.sum() >= first.size
    kept = work.left()
    assert set(kept.image.tolist()) <= set(np.flatnonzero(work.spent).tolist())
    both = _resume.completed(kept, left, work.open)
    assert set(np.unique(left.image)) <= set(both.image.tolist())
    list(run)
    assert not work.open.any()
    assert np.array_equal(work.certified, whole.certified)
    assert work.found.keys() == whole.found.keys()
    assert np.all((work.spent > 0) == is_open)
    # Of whole balls that were added and not explored there is nothing to go on from.
    added = BranchAndBound(LINES, model, part, eps, batch=32)
    added._add_more()
    assert len(added.frontier) == 32
    assert added.left().image.size == 0
    # What had no time is told, whatever has begun.
    monkeypatch.setattr(_certify, "BranchAndBound", Small)
    bounds, left = Bounds.clean(model, part, "linf"), {}
    ticks = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: 1.0 * next(ticks))
    monkeypatch.setattr(_branch, "time", clock)
    monkeypatch.setattr(_certify, "SEARCHES", {"linf": LINES})
    *_, told = _certify._branch(model, part, bounds, eps, Budget(2.0), left)
    begun = sum(one.domains > 0 or one.seconds is not None for one in told.per_image)
    assert (told.images, told.late) == (begun, 32 - begun)
    assert 0 < begun < 32
    assert set(left[NAME].image.tolist()) <= {one.image for one in told.per_image if one.domains}


def test_what_was_kept_before_is_cut_to_the_same_size():
    of = lambda *image: OpenDomains(**{
        name: np.zeros(len(image), array.dtype)
        for name, array in vars(OpenDomains.none()).items() if name not in {"image", "cuts"}
    }, image=np.int32(image), cuts=np.ones(len(image), np.int32))  # fmt: skip
    now, before = of(0, 0, 4), of(0, 1, 1, 2, 3, 3, 3)
    is_open = np.array([True, True, False, True, True])

    def kept():
        return _resume.completed(now, before, is_open).image.tolist()

    assert kept() == [0, 0, 4, 1, 1, 3, 3, 3]
    for name in ("MOST_DOMAINS", "MOST_CUTS"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_resume, name, 5)
            assert kept() == [0, 0, 4, 1, 1]
            patch.setattr(_resume, name, 4)
            assert kept() == [0, 0, 4]


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("name", ["other", "side", "point"])
def test_an_image_with_a_domain_that_cannot_be_begins_anew(name, problem):
    model, part, eps = problem
    left = explore(model, part, eps, most=1500).left()
    array = getattr(left, name).copy()
    array[0] = {"other": part.labels[left.image[0]], "side": 64, "point": 1e9}[name]
    changed = dataclasses.replace(left, **{name: array})
    row = 0 if name == "other" else np.repeat(np.arange(left.image.size), left.cuts)[0]
    work = BranchAndBound(LINES, model, part, eps, batch=32, left=changed)
    held = np.bincount(left.image, minlength=32)
    whole = (held == 0) | (np.arange(32) == left.image[row])
    anew = BranchAndBound(LINES, model, part, eps, batch=32).waiting
    assert np.array_equal(work.waiting, np.where(whole, anew, held))


@pytest.mark.usefixtures("handing_over")
def test_an_interrupted_step_leaves_what_stood_before_it(problem, monkeypatch):
    model, part, eps = problem
    whole = explore(model, part, eps)
    bounds, left, tries = Bounds.clean(model, part, "linf"), {}, 0
    while not tries or left[NAME].image.size:
        real, calls = _branch._halves, itertools.count()

        def interrupted(*args, real=real, calls=calls):
            if next(calls) == 20:
                raise KeyboardInterrupt
            return real(*args)

        work = _certify.settle_at(
            model, part, bounds, (), eps, jax.random.key(0), budget=Budget(120.0), left=left
        )
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(_branch, "_halves", interrupted)
            list(work)
        tries += 1
    assert tries > 3
    assert np.array_equal(bounds.radii.lower >= eps, whole.certified)
    assert set(np.flatnonzero(bounds.radii.upper <= eps).tolist()) == whole.found.keys()


def test_nothing_is_taken_from_within_a_step(problem, monkeypatch):
    model, part, eps = problem
    work = explore(model, part, eps, most=1000)
    before = work.left()
    monkeypatch.setattr(_branch, "_halves", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(work.run(Budget(120.0)))
    assert work.left() is None
    monkeypatch.undo()
    next(work.run(Budget(120.0)))
    # It began anew, with what is open.
    assert 0 < work.left().image.size < before.image.size


def test_what_methods_left_open_goes_straight_to_branch_and_bound(problem):
    model, part, eps = problem
    bounds = Bounds.clean(model, part, "linf")
    left = {NAME: explore(model, part, eps, most=1500).left()}
    held = np.unique(left[NAME].image)
    assert 0 < held.size < 32

    def settle(left, *, again=False):
        methods = ["ibp-linf", "pgd40-linf"]
        work = _certify.settle_at(
            model, part, bounds, methods, eps, jax.random.key(0), left=left, again=again
        )
        return [(one.images, one.settled) for one in work]

    (first, settled), (second, _) = settle(left)
    assert (first, second) == (32 - held.size, 32 - held.size - settled)
    assert set(held) <= set(np.flatnonzero(_certify.open_at(bounds, eps)))
    still = int(np.sum(_certify.open_at(bounds, eps)))
    assert settle(None)[0][0] == settle(left, again=True)[0][0] == still


def test_what_is_known_is_written_when_it_has_changed_and_not_all_the_time(monkeypatch):
    known, now, writes = [[0]], [100.0], []

    def write():
        writes.append((known[0], now[0]))
        now[0] += 2.0

    monkeypatch.setattr(_saving, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    save = _saving.Saving(lambda: [known[0]], write)
    save()
    assert writes == []
    known[0] = [0]  # another object
    save()
    save()
    assert writes == [([0], 100.0)]
    known[0] = [1]
    save()
    now[0] = 121.9
    save()
    assert len(writes) == 1
    now[0] = 122.0  # ten times what the last one took
    save()
    save()
    assert writes[1:] == [([1], 122.0)]


def test_a_file_that_lacks_something_says_what(tmp_path):
    path = tmp_path / "left.npz"
    filed(path, some_left())
    with np.load(path) as stored:
        arrays = dict(stored)
    for name, said in ((["about", "digest"], "about, digest"), ([f"{NAME}/side"], f"{NAME}/side")):
        np.savez(path, **{key: array for key, array in arrays.items() if key not in name})
        with pytest.raises(InputError, match=f"is not used: it lacks {said}; what is open"):
            read_open_domains(path, ABOUT)


def test_a_run_forgets_what_is_left_of_other_networks(tmp_path):
    folder = RunFolder(tmp_path)
    path = folder.open_domains(3, "linf", 0.02)
    assert path.name == "seed-3-linf-0.02.npz"
    filed(path, some_left())
    folder.forget_sweep()
    assert not path.exists()
