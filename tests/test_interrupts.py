"""A signal ends a command with one line and exit code 130, wherever it arrives."""

import signal
import subprocess
import sys
import textwrap

import pytest


def command(body):
    """A process of the command line in which the command is this body."""
    script = f"""
import gc, signal, sys
from robust_mnist import __main__, cli, interrupts
from robust_mnist.console import Console

def parse(words):
{textwrap.indent(textwrap.dedent(body), "    ")}

cli.parse = parse
sys.exit(__main__.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


SAID = "robust-mnist: interrupted; the same command continues"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_is_one_line(number):
    assert command(f"signal.raise_signal(signal.{number})") == (130, [], [SAID])


@pytest.mark.parametrize("quiet", [True, False])
def test_a_signal_that_a_callback_swallows_is_acted_on_at_the_next_boundary(quiet):
    body = f"""
    def swallow(phase, about):
        if phase == "start":
            signal.raise_signal(signal.SIGINT)

    with Console(quiet={quiet}, every=0).progress("work", 3) as update:
        update(1, "")
        gc.callbacks.append(swallow)
        gc.collect()
        gc.callbacks.clear()
        print("went on")
        update(2, "")
        print("went on too far")
    """
    code, out, err = command(body)
    assert (code, out) == (130, ["went on"])
    assert err == (["work 1/3"] if not quiet else []) + [SAID]


def test_an_import_that_is_cut_short_is_an_interrupt_not_a_failure():
    body = """
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("Encountered an error while initializing the extension") from None
    """
    assert command(body) == (130, [], [SAID])


def test_a_second_signal_ends_at_once():
    body = """
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)
        print("went on")
    """
    code, out, err = command(body)
    assert (code, out) == (130, [])
    assert err == ["robust-mnist: ended at once; the same command continues"]


def test_what_a_library_says_at_exit_is_not_heard_after_an_interrupt():
    body = """
    import atexit
    atexit.register(lambda: 1 / 0)
    signal.raise_signal(signal.SIGINT)
    """
    assert command(body) == (130, [], [SAID])


def test_a_deferred_signal_is_noted_and_acted_on_afterwards():
    body = """
    with interrupts.deferred() as asked:
        signal.raise_signal(signal.SIGINT)
        interrupts.check()
        print(asked())
    interrupts.check()
    print("went on")
    """
    assert command(body) == (130, ["True"], [SAID])


def test_outside_a_command_handlers_are_put_back():
    from robust_mnist import interrupts

    usual = signal.getsignal(signal.SIGINT)
    with interrupts.deferred() as asked:
        assert signal.getsignal(signal.SIGINT) is not usual
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        assert signal.getsignal(signal.SIGINT) is usual  # a second one does what it always does
    assert signal.getsignal(signal.SIGINT) is usual
