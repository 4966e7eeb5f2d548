"""What the two sides of a comparison name: results that exist, or code that is to be measured."""

import contextlib
import dataclasses
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from robust_mnist.errors import InputError, NotComparable
from robust_mnist.records import Timings, read_timings


# The two folders that decide what is measured, and how.
PARTS = ("robust_mnist", "benchmarks")


@dataclasses.dataclass(frozen=True)
class Results:
    """Result files.

    Attributes:
        name: What the user gave.
        launches: One or more, in the order they were measured.
    """

    name: str
    launches: list[Timings]


@dataclasses.dataclass(frozen=True)
class Code:
    """Code that can be measured.

    Attributes:
        name: What the user gave.
        folder: Where it lies; None for a git revision.
        state: The commit of a revision, a hash of the content of a folder.
        note: What the user should know about the name; mostly empty.
    """

    name: str
    folder: Path | None
    state: str
    note: str = ""

    @property
    def short(self) -> str:
        """A word for names of folders: the start of a commit, or the name of a folder."""
        name = self.state if self.folder is None else self.folder.resolve().name
        return re.sub(r"[^\w.-]+", "-", name)[:12] or "code"


def resolve(name: str, side: str) -> Results | Code:
    """Find out what a name means; a path goes before a git revision of the same name.

    Args:
        name: A result file, a folder of them, a folder with the code, or a git revision.
        side: `"A"`, the baseline, or `"B"`.

    Raises:
        InputError: It is none of these, or a file that is no result.
        NotComparable: It is a folder without results, or the baseline is missing.
    """
    path = Path(name)
    if not name or not _exists(path):
        if commit := _commit(name):
            return Code(name, None, commit)
        missing = NotComparable if side == "A" else InputError
        raise missing(
            f"{side} is missing: {name!r} is no result file, no folder of them, no folder with "
            "robust_mnist/ and benchmarks/, and no git revision here"
        )
    if not is_code(path):
        return Results(name, read_timings(path))
    note = f"{name} is a folder and a git revision; the folder is taken" if _commit(name) else ""
    return Code(name, path, content_hash(path), note)


def is_code(folder: Path) -> bool:
    """Whether the folder holds what can be measured."""
    return all((folder / part).is_dir() for part in PARTS)


def content_hash(folder: Path) -> str:
    """Hash of every file that decides what is measured, so that changed code has another name."""
    digest = hashlib.sha256()
    paths = (path.relative_to(folder) for part in PARTS for path in (folder / part).rglob("*"))
    for path in sorted(paths):
        # Python and pytest leave caches behind.
        cached = any(part == "__pycache__" or part.startswith(".") for part in path.parts)
        if not cached and (folder / path).is_file():
            content = hashlib.sha256((folder / path).read_bytes()).hexdigest()
            digest.update(f"{path.as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def checked_out(code: Code) -> Iterator[Path]:
    """The folder of the code; a revision gets one for the time of the block.

    Raises:
        InputError: The revision has no benchmarks, or git cannot check it out.
    """
    if code.folder is not None:
        yield code.folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="robust-mnist-") as room:
        tree = Path(room).resolve() / "tree"
        try:
            made = _git("worktree", "add", "--detach", "--quiet", str(tree), code.state)
            if made.returncode:
                raise InputError(
                    f"git cannot check out {code.name}: {made.stderr.strip()}; name another"
                )
            if not is_code(tree):
                raise InputError(
                    f"{code.name} has no robust_mnist/ and benchmarks/ to measure; name another"
                )
            yield tree
        finally:
            # Twice, because one that was interrupted while it was made is locked.
            _git("worktree", "remove", "--force", "--force", str(tree))


def retired(tree: Path) -> dict[str, str]:
    """Benchmarks that were given up on purpose, each with the reason.

    They stand in `benchmarks/RETIRED`, one a line: the name, a space, the reason. Lines that start
    with `#` are comments.

    Raises:
        InputError: A name has no reason.
    """
    path = tree / "benchmarks" / "RETIRED"
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, reason = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if not reason.strip():
            raise InputError(f"benchmarks/RETIRED, line {number}: {name} needs a reason after it")
        found[name] = reason.strip()
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file may still be a revision
        return False


def _commit(name: str) -> str:
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    found = _git(*words)
    return found.stdout.strip() if found.returncode == 0 else ""


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    # Hooks are for the user's own checkouts.
    command = ["git", "-c", "core.hooksPath=/dev/null", *words]
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "there is no git on this machine")
