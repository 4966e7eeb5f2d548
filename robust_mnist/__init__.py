"""How fast JAX trains and attacks a small classifier, and how robust that classifier really is.

The names below load on first use, so that importing the package costs nothing; JAX is imported
with the first name that needs it. The full surface is in the subpackages.
"""

import importlib


_HOMES = {
    "ATTACKS": "attacks",
    "CERTIFIERS": "certify",
    "InputError": "errors",
    "LiveCurves": "figures",
    "MLP": "models",
    "Radii": "records",
    "RunFolder": "records",
    "TrainSettings": "config",
    "load": "data",
    "plot": "figures",
    "radii": "sweep",
    "split": "data",
    "train": "training",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 the .pyi beside this file spells the names out


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("robust-mnist")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__", *globals()]
