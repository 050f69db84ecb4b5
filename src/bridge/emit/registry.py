"""The targets: for each its table of lowerings, its dialect and its savers, found by name."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, cast

from bridge.emit.dialect import Dialect, Signature
from bridge.emit.lowering import LoweringTable
from bridge.errors import MissingPackage

TargetName = Literal["torch", "tf"]

_PACKAGES = {"torch": ("torch", "torch"), "tf": ("tensorflow", "tf")}


class Saver(Protocol):
    """Writes the framework's own artifact from the emitted source that already lies in a directory."""

    def __call__(self, directory: Path, inputs: Signature, outputs: Signature) -> list[str]:
        """Save into `directory`; returns notes for the user. Raises BridgeError where it cannot be done."""


def dialect(target: TargetName) -> Dialect:
    """The spelling of a target. Raises MissingPackage if its framework is not installed."""
    module = _module(target, "_dialect")
    return cast(Dialect, module.DIALECT)


def table(target: TargetName) -> LoweringTable:
    """The lowerings of a target. Raises MissingPackage if its framework is not installed."""
    return cast(LoweringTable, _module(target, "_table").TABLE)


def saver(target: TargetName) -> Saver:
    """The saver of a target's artifact. Raises MissingPackage if its framework is not installed."""
    return cast(Saver, _module(target, "_saver").save)


def _module(target: TargetName, name: str) -> ModuleType:
    package, extra = _PACKAGES[target]
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(package, extra=extra, why=f"converting to {target}")
    return importlib.import_module(f"bridge_converters.onnx_to_{target}.{name}")
