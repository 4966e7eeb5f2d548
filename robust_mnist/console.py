"""What the person at the terminal sees: progress and notes on stderr, results on stdout."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from robust_mnist import interrupts


class Console:
    """Progress bars on a terminal, a line now and then in a log, nothing when quiet.

    Everything goes to stderr, so that stdout carries results alone.

    Args:
        quiet: Say nothing but errors.
        every: Seconds between two progress lines where stderr is not a terminal.
    """

    def __init__(self, *, quiet: bool = False, every: float = 5.0) -> None:
        self.quiet = quiet
        self.every = every

    def note(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    @contextlib.contextmanager
    def progress(
        self, title: str, total: int, *, even: bool = True
    ) -> Iterator[Callable[[int, str], None]]:
        """Follow a piece of work of `total` steps.

        Progress is told where a step has ended, which is where a Ctrl-C that got lost is acted on.

        Args:
            title: What is done.
            total: Steps in all.
            even: Whether all steps take about as long: if not, no time left is foretold.

        Yields:
            `update(done, text)`: how many steps are done by now, and what to say beside the bar.
        """
        interrupts.check()
        with self._shown(title, total, even) as show:

            def update(done: int, text: str) -> None:
                interrupts.check()
                show(done, text)

            yield update
        interrupts.check()

    @contextlib.contextmanager
    def _shown(self, title: str, total: int, even: bool) -> Iterator[Callable[[int, str], None]]:
        if self.quiet:
            yield lambda _done, _text: None
        elif sys.stderr.isatty():
            with self._bar(title, total, even) as update:
                yield update
        else:
            yield _Lines(title, total, even, self.every, self.note)

    @contextlib.contextmanager
    def _bar(self, title: str, total: int, even: bool) -> Iterator[Callable[[int, str], None]]:
        # Imported here: `--help` and errors in flags must stay fast.
        from rich import console, live, progress, table, text as texts

        stderr = console.Console(stderr=True)
        whole = table.Column(no_wrap=True)  # where it is narrow, only the bar gives way
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(table_column=whole),
            progress.TimeElapsedColumn(table_column=whole),
            *([progress.TextColumn("left"), progress.TimeRemainingColumn(table_column=whole)]
              if even else []),
        )  # fmt: skip
        # Steps may be minutes apart; what is older than the period counts for no time left.
        bar = progress.Progress(*columns, console=stderr, speed_estimate_period=3600)
        task = bar.add_task(title, total=total)
        # On a line of its own: beside the bar it would leave 80 columns no room for both.
        line = texts.Text(no_wrap=True, overflow="ellipsis")

        def update(done: int, text: str) -> None:
            bar.update(task, completed=done)
            line.plain = text

        shown = lambda: console.Group(bar, line) if line.plain else bar
        with live.Live(get_renderable=shown, console=stderr, refresh_per_second=10):
            yield update


class _Lines:
    """Progress for a log file: the first, the last, and one line every few seconds."""

    def __init__(
        self, title: str, total: int, even: bool, every: float, note: Callable[[str], None]
    ) -> None:
        self.title = title
        self.total = total
        self.even = even
        self.every = every
        self.note = note
        self.start = time.monotonic()
        self.last = self.start
        self.before: int | None = None

    def __call__(self, done: int, text: str) -> None:
        now = time.monotonic()
        if self.before is None:
            # What a resumed run had done before, and what compiled, says nothing about the rate.
            self.start, self.before = now, done
        if done < self.total and now - self.last < self.every:
            return
        self.last = now
        rest, since = self.total - done, done - self.before
        # The first steps often cost more than the rest: too few of them foretell nothing.
        known = self.even and rest and 20 * since >= rest
        left = f", about {(now - self.start) / since * rest:.0f} s left" if known else ""
        self.note(f"{self.title} {done}/{self.total}{left}  {text}".rstrip())
