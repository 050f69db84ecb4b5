"""Which worker runs a version of a model: from a path, request or factory to the loader that knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.errors import InputError
from bridge.formats.detect import FORMATS, Framework, is_converted, locate
from bridge.formats.request import InputSpec, ReadRequest
from bridge.worker.references import is_reference

FACTORY = "factory"
"""The `format` of a request whose `path` is a Python factory, `pkg.mod:build`."""

_SIDES = "bridge.worker.sides"
_LOADERS: Mapping[str, str] = {
    "onnx": f"{_SIDES}.onnx_file:load",
    "tf": f"{_SIDES}.tf_source:load",
    "torch": f"{_SIDES}.torch_source:load",
}


@dataclass(frozen=True)
class Party:
    """One version of the model: the loader of its worker, what that is asked, and what to call it.

    `converted` is the directory that `bridge convert` wrote, where it is one. `framework` is None where
    only loading tells. `sorts_names`: its inputs and outputs are listed by name, so that their order says
    nothing about the model. `python` is another interpreter that runs it, `device` where it computes, and
    `variables` what its process is told about that (`bridge.verification.setting`).
    """

    path: str
    loader: str
    request: Mapping[str, Any]
    converted: Path | None = None
    framework: Framework | None = None
    sorts_names: bool = False
    python: str | None = None
    device: str = "cpu"
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def ordinary(self) -> bool:
        """Whether it is run by bridge's own interpreter, on the CPU, as ever."""
        return self.python is None and self.device == "cpu" and not self.variables


Version = str | Path | ReadRequest | Party
"""A version of a model: a path, a factory `pkg.mod:build`, a request, or what was resolved already."""


def resolve(
    version: Version,
    *,
    as_target: bool,
    trust: bool = False,
    model: str | None = None,
    custom_objects: str | None = None,
    inputs: Sequence[InputSpec] = (),
) -> Party:
    """The worker for a path, a request, or a factory `pkg.mod:build`.

    As a target, a directory that bridge wrote is run as what it is for: the reloaded SavedModel of a
    TensorFlow directory, `load()` of `model.py` for PyTorch. As a source it is read as any other model, by
    its SavedModel or `model.pt2`; without a `model.pt2` its `model.py` is run. A program that was exported
    in training mode is read as in evaluation mode, but as a target it runs as it is.
    Raises InputError for a path that holds no model.
    """
    if isinstance(version, Party):
        return version
    if isinstance(version, ReadRequest):
        return _of_request(version, version.path)
    if isinstance(version, str) and is_reference(version):
        request = ReadRequest(
            version, FACTORY, inputs=tuple(inputs), trust=True, custom_objects=custom_objects
        )
        return _of_request(request, version)
    path = Path(version)
    converted = path if path.is_dir() and is_converted(path) else None
    if converted is not None:
        is_saved_model = (path / "saved_model.pb").is_file()
        if as_target and is_saved_model:
            return Party(
                str(path), f"{_SIDES}.saved_model:load", {"path": str(path)}, path, "tf", sorts_names=True
            )
        if not is_saved_model and (as_target or not (path / "model.pt2").is_file()):
            return Party(str(path), f"{_SIDES}.torch_directory:load", {"path": str(path)}, path, "torch")
    try:
        location = locate(path)
    except InputError as error:
        raise _with_factory_hint(error, str(version)) from None
    party = _of_request(
        ReadRequest(
            str(location.path),
            location.format,
            model=model,
            inputs=tuple(inputs),
            trust=trust,
            custom_objects=custom_objects,
        ),
        str(path),
        converted,
    )
    if as_target and party.framework == "torch":
        return replace(party, request={**party.request, "as_is": True})
    return party


def _of_request(request: ReadRequest, path: str, converted: Path | None = None) -> Party:
    if request.format == FACTORY:
        return Party(path, f"{_SIDES}.factory:load", request.to_json())
    framework = FORMATS[request.format].framework
    return Party(
        path,
        _LOADERS[framework],
        request.to_json(),
        converted,
        framework,
        sorts_names=request.format in ("saved_model", "saved_model_v1", "tf_bundle"),
    )


def _with_factory_hint(error: InputError, text: str) -> InputError:
    """For a text with a colon that is neither a path nor a factory, say how a factory is written."""
    module, colon, _ = text.rpartition(":")
    if not colon or "/" in text or not module:
        return error
    return InputError(
        error.message,
        hint=f"{error.hint}; a Python factory is written package.module:function",
        where=error.where,
    )
