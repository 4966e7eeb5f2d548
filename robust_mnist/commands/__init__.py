"""What each command does, as functions of its settings.

Imports that cost time happen inside, when the command is known to need them.
"""

from collections.abc import Callable
from typing import Any

from robust_mnist import config
from robust_mnist.commands._result import Result as Result


def run(command: Any) -> Result:
    """Carry out a command of `robust_mnist.config`.

    Raises:
        InputError: The settings do not fit the files, the data or the methods.
    """
    return _HANDLERS[type(command)](command)


def _run(command: config.Run) -> Result:
    from robust_mnist.commands import _pipeline

    return _pipeline.run(command)


def _train(command: config.Train) -> Result:
    from robust_mnist.commands import _pipeline

    return _pipeline.train(command)


def _sweep(command: config.Sweep) -> Result:
    from robust_mnist.commands import _pipeline

    return _pipeline.sweep(command)


def _report(command: config.Report) -> Result:
    from robust_mnist.commands import _report

    return _report.report(command)


def _data(command: config.Data) -> Result:
    from robust_mnist.commands import _lists

    return _lists.data(command)


def _methods(command: config.Methods) -> Result:
    from robust_mnist.commands import _lists

    return _lists.methods(command)


def _devices(command: config.Devices) -> Result:
    from robust_mnist.commands import _lists

    return _lists.devices(command)


_HANDLERS: dict[type, Callable[[Any], Result]] = {
    config.Run: _run,
    config.Train: _train,
    config.Sweep: _sweep,
    config.Report: _report,
    config.Data: _data,
    config.Methods: _methods,
    config.Devices: _devices,
}
