import contextlib
import io
import re

import pytest

from robust_mnist.commands import _watch
from robust_mnist.console import Console


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass where a test says so, for the bar and for the rate."""
    now = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    monkeypatch.setattr(_watch.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def shown(monkeypatch):
    """What a terminal of some width shows at the end: `with shown(80) as lines`."""

    @contextlib.contextmanager
    def shown(width):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        for name, value in {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}.items():
            monkeypatch.setenv(name, value)
        lines = []
        yield lines
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\r", terminal.getvalue())
        frames = plain.strip().split("\n")
        lines += [frame.split("\r")[-1].rstrip() for frame in frames[-2:]]

    return shown


def train(clock, *, networks=1):
    """Two records, 40 s apart."""
    record = {
        "train_cross_entropy": 4.1e-4, "valid_cross_entropy": 0.338, "valid_mse": 0.01,
        "valid_accuracy": 0.941,
    }  # fmt: skip
    with Console().progress("train", 500) as update:
        watch = _watch.Watch(networks, 10_000 * networks, update)
        for epoch in (110, 120):
            watch([record | {"epoch": epoch}] * networks)
            clock[0] += 40


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_epoch_time_left_rate_and_all_four_metrics(shown, clock, width):
    with shown(width) as lines:
        train(clock)
    # 38 stretches of 10 epochs are left, of 40 s each.
    assert lines == [
        "train ━━━━━╸                   120/500 0:01:20 left 0:25:20",
        "2,500 images/s  train CE 4.1e-04  valid CE 0.338, MSE 0.0100, acc 94.1%",
    ]


def test_ten_million_images_a_second_leave_room_for_the_metrics(shown, clock):
    with shown(80) as lines:
        train(clock, networks=50_000)
    assert lines[1].startswith("125,000,000 images/s")
    assert lines[1].endswith("acc 94.1%")


def test_on_a_narrow_terminal_the_bar_gives_way_before_the_numbers(shown, clock):
    with shown(40) as lines:
        train(clock)
    assert re.fullmatch(r"train ━+[━╸ ]+ 120/500 0:01:20 left 0:25:20", lines[0])
    assert lines[1] == "2,500 images/s  train CE 4.1e-04  valid…"


def test_work_of_uneven_steps_foretells_no_time_left(shown, clock):
    with shown(80) as lines, Console().progress("close", 30, even=False) as update:
        update(3, "27 open")
        clock[0] += 40
        update(6, "24 open")
    assert lines == ["close ━━━━╸                     6/30 0:00:40", "24 open"]


def test_a_bar_without_text_takes_one_line(shown, clock):
    with shown(80) as lines, Console().progress("audit", 3) as update:
        clock[0] += 1
        update(3, "")
    assert lines[-1] == "audit ━━━━━━━━━━━━━━━━━━━━━━━━ 3/3 0:00:01 left 0:00:00"


def test_a_log_has_the_same_text_on_a_line_with_the_progress(capsys):
    with Console(every=0).progress("train", 500) as update:
        update(120, "acc 94.1%")
    assert capsys.readouterr().err == "train 120/500  acc 94.1%\n"
