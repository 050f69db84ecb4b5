"""Where and how one version computes: its environment, its device, its precision there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.environments.choice import EnvironmentChoice
from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.verification.parties import FACTORY, Party
from bridge.worker import device as computing

_DEVICE = re.compile(r"^(cpu|(cuda|gpu)(:\d+)?)$")
_BITS = {"bfloat16": 8, "float16": 11, "tf32": 11}
"""The bits of a type's significand, the hidden one included."""
_LEGACY = "bridge.worker.legacy"
_LOADERS = {
    "tf": f"{_LEGACY}.tensorflow_model:load",
    "torch": f"{_LEGACY}.torch_model:load",
    None: f"{_LEGACY}.factory:load",
}


@dataclass(frozen=True)
class Setting:
    """What was asked for one version.

    `device` is `cpu`, `cuda`, `cuda:1`, or `gpu`, which means the same as `cuda`. `allow_tf32` lets a GPU
    round the factors of products of float32 to 10 bits, `autocast` is the narrower type that PyTorch may
    choose operator by operator, `deterministic` asks for the algorithms that give the same bits every time.
    """

    environment: EnvironmentChoice = field(default_factory=EnvironmentChoice)
    device: str = "cpu"
    allow_tf32: bool = False
    autocast: str | None = None
    deterministic: bool = False

    def applied(self, party: Party, *, on_progress: Callable[[str], None] | None = None) -> Party:
        """The party as it is to be loaded. Raises InputError and EnvironmentFailure for what cannot be."""
        device = checked_device(self.device)
        python = self.environment.interpreter(on_progress=on_progress)
        moved = party if python is None else in_environment(party, python)
        return replace(moved, device=device, variables=self._variables(device))

    def _variables(self, device: str) -> Mapping[str, str]:
        """What the worker's process is told; nothing where it is to compute as ever."""
        return computing.variables(
            device, allow_tf32=self.allow_tf32, autocast=self.autocast, deterministic=self.deterministic
        )

    @property
    def precision(self) -> str | None:
        """The narrowest type that products may be computed in, where it is not the model's own."""
        if self.autocast is not None:
            return self.autocast
        return "tf32" if self.allow_tf32 and self.device != "cpu" else None


def narrowest(precisions: Iterable[str | None]) -> str | None:
    """The least precise of some types, None for the models' own."""
    return min((each for each in precisions if each is not None), key=_BITS.__getitem__, default=None)


def checked_device(name: str) -> str:
    """The name of a device as workers know it. Raises InputError for one that is none."""
    if _DEVICE.match(name) is None:
        raise InputError(f"{name!r} is not a device", hint="choose cpu, cuda, cuda:0, cuda:1, ... or gpu")
    kind, colon, index = name.partition(":")
    return "cpu" if kind == "cpu" else f"cuda{colon}{index}"


def in_environment(party: Party, python: str) -> Party:
    """The party as the loaders of old environments take it, to be run by another interpreter.

    Raises InputError for an ONNX file, which has no framework of its own.
    """
    if party.framework == "onnx":
        raise InputError(
            "an ONNX model needs no environment of its own: bridge runs it with onnxruntime",
            hint="leave out its --source-python, --source-env, --target-python or --target-env",
            where=party.path,
        )
    return replace(party, loader=_LOADERS[party.framework], request=_legacy_request(party), python=python)


def legacy_loader(request: ReadRequest) -> str:
    """The loader of a request in an old environment."""
    from bridge.formats.detect import FORMATS

    framework = None if request.format == FACTORY else FORMATS[request.format].framework
    if framework == "onnx":
        raise InputError(
            "an ONNX model needs no environment of its own",
            hint="leave out --source-python and --source-env",
            where=request.path,
        )
    return _LOADERS[framework]


def _legacy_request(party: Party) -> Mapping[str, Any]:
    if "format" in party.request:
        return {key: value for key, value in party.request.items() if key != "as_is"}
    # A directory by bridge: its SavedModel, or its model.py.
    directory = Path(party.request["path"])
    format = "saved_model" if (directory / "saved_model.pb").is_file() else "converted"
    return {**ReadRequest(str(directory), format, trust=True).to_json(), **_beside(party.request)}


def _beside(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"dtype": request["dtype"]} if "dtype" in request else {}
