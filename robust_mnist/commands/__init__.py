"""What each command does, as functions of its settings."""

import importlib
from typing import Any

from robust_mnist import config
from robust_mnist.commands._opening import with_run as with_run
from robust_mnist.commands._result import Result as Result


# Module and function by name: what a command needs is imported when it is known to be wanted.
_HANDLERS = {
    config.Run: ("pipeline", "run"),
    config.Train: ("pipeline", "train"),
    config.Sweep: ("pipeline", "sweep"),
    config.Certify: ("certify", "certify"),
    config.Close: ("certify", "close"),
    config.Verify: ("verify", "verify"),
    config.Smooth: ("smooth", "smooth"),
    config.Merge: ("pages", "merge"),
    config.Report: ("pages", "report"),
    config.Audit: ("trust", "audit"),
    config.Selftest: ("trust", "selftest"),
    config.Data: ("lists", "data"),
    config.Methods: ("lists", "methods"),
    config.Devices: ("lists", "devices"),
    config.Calibrate: ("gate", "calibrate"),
    config.Compare: ("gate", "compare"),
    config.Accelerators: ("trends", "accelerators"),
    config.History: ("trends", "history"),
}


def run(command: Any) -> Result:
    """Carry out a command of `robust_mnist.config`.

    Raises:
        InputError: The settings do not fit the files, the data or the methods.
    """
    module, function = _HANDLERS[type(command)]
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)(command)
