"""Loading a `.pt2` archive without running code that is stored in it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.export import ExportedProgram

from bridge.errors import InputError, TrustError
from bridge_converters.torch_to_onnx.axes import Axes
from bridge_converters.torch_to_onnx.containers import register_containers
from bridge_converters.torch_to_onnx.packed import declare_operators
from bridge_converters.torch_to_onnx.quiet import quiet
from bridge_converters.torch_to_onnx.user_code import first_line

EXTRA_FILE = "bridge.json"
"""Name of the file in archives that bridge writes; it holds an ExportRecord."""

_LEGACY_PICKLES = ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt")


@dataclass(frozen=True)
class ExportRecord:
    """What bridge knows about a module that it exported and a `.pt2` archive does not say.

    `module_types` are class names by module path, `axes` is what is known about the dynamic axes, `notes`
    are sentences for the user, `attention_dropouts` the ratios of the attention nodes in training.
    """

    module_types: Mapping[str, str] = field(default_factory=dict)
    axes: Axes = field(default_factory=Axes)
    notes: tuple[str, ...] = ()
    attention_dropouts: tuple[float, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ExportRecord:
        record = json.loads(text)
        return cls(
            module_types={str(path): str(kind) for path, kind in record["module_types"].items()},
            axes=Axes(
                _by_place(record["axes"]["labels"], _label),
                _by_place(record["axes"]["bounds"], _bounds),
            ),
            notes=tuple(map(str, record["notes"])),
            attention_dropouts=tuple(map(float, record["attention_dropouts"])),
        )


_Value = TypeVar("_Value")


def _by_place(record: Any, value: Callable[[Any], _Value]) -> dict[int, dict[int, _Value]]:
    return {
        int(position): {int(axis): value(each) for axis, each in axes.items()}
        for position, axes in record.items()
    }


def _label(record: Any) -> str | int:
    return record if isinstance(record, int) else str(record)


def _bounds(record: Any) -> tuple[int, int | None]:
    least, most = record
    return int(least), None if most is None else int(most)


def load_archive(path: Path, *, trust: bool) -> tuple[ExportedProgram, ExportRecord | None]:
    """The program of an archive written by `torch.export.save`, and bridge's record if bridge wrote it.

    Raises TrustError if loading would unpickle arbitrary objects or load compiled code and `trust` is
    False, and InputError if the file is damaged or of a version that this PyTorch cannot read.
    """
    try:
        reasons = _code_in(path)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _damaged(path, error) from error
    if reasons and not trust:
        raise TrustError(
            f"loading {path} would run code that is stored in it ({'; '.join(reasons)})",
            hint="if you trust where the file comes from, run the same command with --trust",
        )
    declare_operators()
    extra = {EXTRA_FILE: ""}
    try:
        register_containers(path)
        with quiet():
            program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # torch's deserialiser raises AssertionError, KeyError, RuntimeError and more
        raise _damaged(path, error) from error
    return program, _record(path, extra[EXTRA_FILE])


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be loaded as an exported program: {first_line(error)}",
        hint=f"it is damaged or was written by another version of PyTorch (this is {torch.__version__}); "
        "write it again with torch.export.save",
    )


def _record(path: Path, text: str | bytes) -> ExportRecord | None:
    if not text:
        return None
    try:
        return ExportRecord.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _code_in(path: Path) -> list[str]:
    """Why loading an archive would run code from it; empty if it would not."""
    reasons = []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            # Entries lie under a folder called like the archive when it was written.
            name = entry.split("/", 1)[-1]
            base = name.rsplit("/", 1)[-1]
            if name.startswith("data/aotinductor/"):
                reasons.append("compiled code")
            elif base.startswith(("custom_obj_", "opaque_obj_")):
                reasons.append(f"the pickled object {base}")
            elif (
                name.startswith("data/sample_inputs/") or base in _LEGACY_PICKLES or _is_legacy_weights(name)
            ):
                if not _is_plain(archive.read(entry)):
                    reasons.append(f"objects other than tensors in {name}")
            elif base.endswith("_config.json"):
                reasons.extend(_pickled_payloads(archive, entry))
    return list(dict.fromkeys(reasons))


def _is_legacy_weights(name: str) -> bool:
    return name.startswith(("data/weights/", "data/constants/")) and name.endswith(".pt")


def _pickled_payloads(archive: zipfile.ZipFile, entry: str) -> list[str]:
    config: dict[str, Any] = json.loads(archive.read(entry)).get("config", {})
    folder = entry.rsplit("/", 1)[0]
    found = []
    for fqn, payload in config.items():
        if payload.get("use_pickle") and not _is_plain(archive.read(f"{folder}/{payload['path_name']}")):
            found.append(f"the pickled tensor {fqn}")
    return found


def _is_plain(data: bytes) -> bool:
    """Whether PyTorch's restricted unpickler, which runs no code, can load the bytes."""
    if not data:
        return True
    try:
        torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        return False
    return True
