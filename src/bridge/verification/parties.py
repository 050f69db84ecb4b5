"""Which worker runs a version of a model: from a path or request to the loader that knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.formats.detect import FORMATS, is_converted, locate
from bridge.formats.request import InputSpec, ReadRequest

_SOURCE_LOADERS = {
    "onnx": "bridge.worker.sides.onnx_file:load",
    "tf": "bridge.worker.sides.tf_source:load",
    "torch": "bridge.worker.sides.torch_source:load",
}


@dataclass(frozen=True)
class Party:
    """One version of the model: the loader of its worker, what that is asked, and what to call it.

    `converted` is the directory that `bridge convert` wrote, where it is one.
    """

    path: str
    loader: str
    request: Mapping[str, Any]
    converted: Path | None = None


def resolve(
    version: str | Path | ReadRequest | Party,
    *,
    as_target: bool,
    trust: bool = False,
    model: str | None = None,
    custom_objects: str | None = None,
    inputs: Sequence[InputSpec] = (),
) -> Party:
    """The worker for a path or a request.

    As a target, a directory that bridge wrote is run as what it is for: the reloaded SavedModel of a
    TensorFlow directory, `load()` of `model.py` for PyTorch. As a source it is read as any other model.
    Raises InputError for a path that holds no model.
    """
    if isinstance(version, Party):
        return version
    if isinstance(version, ReadRequest):
        loader = _SOURCE_LOADERS[FORMATS[version.format].framework]
        return Party(version.path, loader, version.to_json())
    path = Path(version)
    if as_target and path.is_dir() and is_converted(path):
        kind = "saved_model" if (path / "saved_model.pb").is_file() else "torch_directory"
        return Party(str(path), f"bridge.worker.sides.{kind}:load", {"path": str(path)}, path)
    location = locate(path)
    request = ReadRequest(
        str(location.path),
        location.format,
        model=model,
        inputs=tuple(inputs),
        trust=trust,
        custom_objects=custom_objects,
    )
    return Party(str(path), _SOURCE_LOADERS[location.framework], request.to_json())
