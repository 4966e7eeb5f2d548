"""The command line: parses, dispatches, and turns errors into one line and an exit code.

Nothing heavy is imported before the flags are known to be good, so `--help` and mistakes in flags
never wait for JAX.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import itertools
import json
import operator
import os
import re
import shlex
import sys
import textwrap
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from robust_mnist import interrupts
from robust_mnist.config import BENCH, COMMANDS
from robust_mnist.errors import InputError, closest, unknown


DONE, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, interrupts.EXIT_CODE
DESCRIPTION = (
    "Train small classifiers with JAX, attack them, and see how robust they really are. "
    "--version tells the version."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after the program's name; by default those of this process.

    Returns:
        0 done, 1 failure, 2 bad input, 3 regression, 4 baseline missing or not comparable, 5 wrong
        device, 130 interrupted and resumable.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        command = parse(words)
        if command is None:
            sys.stdout.flush()  # here, where a closed pipe is told from other errors
            return DONE
        return _run(command)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted; the same command continues", debug=debug)
    except Exception as error:  # noqa: BLE001 one line each, and --debug for the rest
        return _tell(error, debug=debug)


def _tell(error: Exception, *, debug: bool) -> int:
    """Say in one line what went wrong, and return the exit code."""
    text = " ".join(str(error).split())
    code = getattr(error, "exit_code", None)
    if interrupts.asked() and code != INTERRUPTED:
        # Where a library was cut short, the interrupt comes out as an error of that library.
        return _fail(INTERRUPTED, "interrupted; the same command continues", debug=debug)
    if isinstance(error, BrokenPipeError):
        # Whoever read stdout has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    if code is not None:  # it was foreseen, and says all there is to say
        return _fail(int(code), text, debug=debug)
    if isinstance(error, OSError) and error.filename is not None:
        way = "choose another place, or see that this one can be used"
        line = " ".join(f"{error.filename}: {error.strerror}; {way}".split())
        return _fail(BAD_INPUT, line, debug=debug)
    return _fail(FAILURE, f"{type(error).__name__}: {text} (--debug shows where)", debug=debug)


def parse(words: Sequence[str]) -> Any:
    """The command the words ask for; None when they asked for help or the version, then printed.

    Raises:
        InputError: A command, a flag or a value is wrong.
    """
    if list(words[:1]) == ["--version"]:
        import robust_mnist

        sys.stdout.write(f"robust-mnist {robust_mnist.__version__}\n")
        return None
    if words and words[0] == "bench":
        return _parse(words[1:], BENCH, "robust-mnist bench")
    return _parse(words, COMMANDS, "robust-mnist")


def _parse(words: Sequence[str], commands: Mapping[str, type], program: str) -> Any:
    if not words:
        raise InputError(
            f"name a command, one of {', '.join(commands)}; {program} --help says what each does"
        )
    held = None
    if words[0] in commands:
        name = f"{program} {words[0]}".removeprefix("robust-mnist ")
        held = _with_run(words, commands)
        _check_flags(words[1:], name, commands[words[0]], negated=held is not None)
    elif words[0] not in _ALONE and not words[0].startswith(_COMPLETION):
        if not words[0].startswith("-"):
            raise unknown("command", words[0], commands)
        raise InputError(
            f"{words[0]} goes behind a command, one of {', '.join(commands)}; "
            f"{program} --help says what each does"
        )
    default = {} if held is None else {words[0]: {"default": held}}
    named = tuple(
        Annotated[kind, tyro.conf.subcommand(name, **default.get(name, {}))]
        for name, kind in commands.items()
    )
    # A run may hold a switch that is on: then tyro would know its `--no-` alone.
    switches = (tyro.conf.FlagCreatePairsOff,) if held is None else ()
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                functools.reduce(operator.or_, named),  # type: ignore[call-overload]
                prog=program,
                description=DESCRIPTION,
                args=list(words),
                config=(
                    tyro.conf.OmitArgPrefixes,
                    tyro.conf.OmitSubcommandPrefixes,
                    *switches,
                ),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            return None
        said = _one_line(complaint.getvalue())
        if said.startswith("unknown words") or "--run" in said:
            said += _meant(words, commands.get(words[0]))
        raise InputError(said) from None


# What stands alone, and how the flags begin by which tyro writes completions for a shell.
_ALONE = ("-h", "--help")
_COMPLETION = "--tyro-"
_POSITIONAL = get_args(tyro.conf.Positional[str])[1]


def _with_run(words: Sequence[str], commands: Mapping[str, type]) -> Any:
    """The command with the settings of the run that `--run` names; None if none is named."""
    kind = commands.get(words[0])
    if kind is None or {"-h", "--help"} & {*words}:
        return None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run", nargs="?")
    run = parser.parse_known_args(words)[0].run
    if not run:
        return None
    from robust_mnist import commands as handlers

    return handlers.with_run(kind, run)


def _check_flags(words: Sequence[str], name: str, command: type, *, negated: bool) -> None:
    """Refuse a flag that the command does not have, and a list without a value.

    The latter tyro takes for the empty list, and settings take that for unset. `negated` allows
    switches to be turned off.

    Raises:
        InputError: A flag belongs to another command or to none, or lacks its values.
    """
    flags = _flags(command)
    if negated:
        off = {flag.replace("--", "--no-", 1) for flag, kind in flags.items() if kind is bool}
        flags |= dict.fromkeys(off, bool)
    for word, following in itertools.pairwise([*words, "--"]):
        # As tyro reads it: with or without "=value", and with underscores as well.
        flag = word.partition("=")[0].replace("_", "-")
        if not flag.startswith("--") or flag in {*_ALONE, "--"} or flag.startswith(_COMPLETION):
            continue
        if flag not in flags:
            raise _no_flag(flag, name, flags)
        if get_origin(flags[flag]) is tuple and word == flag and following.startswith("--"):
            raise InputError(f"{word} needs a value")


def _meant(words: Sequence[str], command: type | None) -> str:
    """A hint for who names a run as `report` takes it, without `--run`."""
    flags = {} if command is None else _flags(command)
    if "--run" not in flags or any(word.partition("=")[0] == "--run" for word in words):
        return ""
    for before, word in itertools.pairwise(words):
        # A path would refuse words that are too long for a name.
        run = os.path.isfile(f"{word}/run.json")  # noqa: PTH113
        if run and (not before.startswith("--") or flags.get(before) is bool):
            return f"; did you mean --run {shlex.quote(word)}?"
    return ""


def _flags(kind: type) -> dict[str, Any]:
    """The flags of a command, and the types of their values."""
    found: dict[str, Any] = {}
    marked = get_type_hints(kind, include_extras=True)
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= _flags(hint)  # type: ignore[arg-type]
        elif _POSITIONAL not in get_args(marked[name]):
            found[f"--{name.replace('_', '-')}"] = hint
    return found


def _no_flag(flag: str, name: str, flags: Iterable[str]) -> InputError:
    every = COMMANDS | {f"bench {name}": kind for name, kind in BENCH.items()}
    others = [other for other, kind in every.items() if flag in _flags(kind)]
    if not others:
        way = closest(flag, flags) or f"; robust-mnist {name} --help lists what there is"
        return InputError(f"{name} has no flag {flag}{way}")
    verb = "has" if len(others) == 1 else "have"
    return InputError(f"{name} has no flag {flag}; {_listed(others)} {verb} it")


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: `run, sweep and close`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _one_line(box: str) -> str:
    """The message inside tyro's framed complaint, without the advice below it."""
    # The title stands in the frame, or above a rule where the terminal has no frames.
    framed = "╭" in box
    lines = [line.strip("│╰╯").rstrip() for line in box.splitlines()[1 if framed else 2 :]]
    rule = lambda line: line.strip() and set(line.strip()) <= set("─-")
    lines = list(itertools.takewhile(lambda line: not rule(line), lines))
    if wrong := _MISSING.match(textwrap.dedent("\n".join(lines))):
        # What each is for stands below it, further in.
        names = re.findall(r"^ {4}(\S.*)$", wrong[2], re.MULTILINE)
        return f"{wrong[1]} needs {_listed(names)}"
    message = _reworded(" ".join(" ".join(lines).split()).rstrip("."))
    return message or "the command line cannot be read; see --help"


# What tyro and Python say of a value, and what a person needs to know.
_WORDINGS = (
    # Our own messages say what they are about; tyro puts "Error parsing train:" before them.
    (r"^Error parsing (?!--)\S+: |^Error parsing \S+: (?=--)", ""),
    (r"^Unrecognized options: (.*)$", r"unknown words or flags: \1; --help lists what there is"),
    (r"^Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)$",
     r"\1 takes a whole number, got \2"),
    (r"^Error parsing (\S+): could not convert string to float: (.*)$",
     r"\1 takes a number, got \2"),
    # Early releases of tyro show the flag as Python does: ('--seeds',).
    (r"^Missing value for argument '(?:\(')?(\S+?)(?:',\))?'\. Expected 1 values$",
     r"\1 needs a value"),
)  # fmt: skip
_MISSING = re.compile(r"^Missing from robust-mnist (.*?):\n(.*)$", re.DOTALL)
_CHOICE = re.compile(r"^invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\)$")


def _reworded(message: str) -> str:
    for pattern, plain in _WORDINGS:
        message = re.sub(pattern, plain, message)
    if wrong := _CHOICE.match(message):
        value, flag, listed = wrong.groups()
        choices = re.findall(r"'([^']*)'", listed)
        return f"{flag} takes {' or '.join(choices)}, got {value!r}{closest(value, choices)}"
    return message


def _run(command: Any) -> int:
    from robust_mnist import commands

    result = commands.run(command)
    if command.output.json:
        sys.stdout.write(json.dumps(result.data, indent=2, allow_nan=False) + "\n")
    else:
        sys.stdout.write(result.text.rstrip("\n") + "\n")
    sys.stdout.flush()
    return int(result.exit_code)


def _fail(code: int, message: str, *, debug: bool) -> int:
    if code == INTERRUPTED:
        interrupts.settle()
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"robust-mnist: {message}\n")
    return code
