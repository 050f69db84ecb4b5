"""Which artifact an output path means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge.errors import InputError

Target = Literal["torch", "tf", "onnx"]
ArtifactKind = Literal["directory", "pt2", "onnx"]

TARGETS: tuple[Target, ...] = ("torch", "tf", "onnx")

_OF_TARGET: dict[Target, dict[str, ArtifactKind]] = {
    "torch": {"": "directory", ".pt2": "pt2"},
    "tf": {"": "directory"},
    "onnx": {".onnx": "onnx"},
}

_NOT_YET: dict[str, str] = {
    ".keras": "a .keras file holds built-in layers only",
    ".h5": "Keras weights alone cannot be loaded without their model",
    ".tflite": "TensorFlow Lite has a converter of its own, which takes a SavedModel",
    ".safetensors": "weights alone cannot be loaded without their model",
    ".pt": "a pickled module needs its class to be loaded",
    ".pth": "a pickled module needs its class to be loaded",
}


@dataclass(frozen=True)
class Artifact:
    """What to write and where: a directory (source, weights, map, framework artifact) or one file."""

    kind: ArtifactKind
    path: Path


def artifact(output: str | Path, to: Target) -> Artifact:
    """The artifact that the suffix of an output path means for a target.

    No suffix, or a trailing slash, means a directory. Raises InputError for a suffix that is the
    other framework's, that is not written yet, or that bridge does not know.
    """
    path = Path(output)
    kinds = _OF_TARGET[to]
    suffix = "" if str(output).endswith("/") or path.is_dir() else path.suffix.lower()
    kind = kinds.get(suffix)
    if kind is None and suffix == "" and to == "onnx":
        raise InputError(
            "an ONNX model is a file, and its name ends in .onnx",
            hint=f"write -o {path}.onnx",
            where=str(output),
        )
    if kind is not None:
        return Artifact(kind, path)
    possible = _choices(to, path)
    for other, theirs in _OF_TARGET.items():
        if suffix in theirs:
            raise InputError(
                f"the output's suffix {suffix} is for --to {other}, not for --to {to}",
                hint=f"write --to {other}, or {possible}",
                where=str(output),
            )
    if suffix in _NOT_YET:
        raise InputError(
            f"{suffix} is not written by bridge yet: {_NOT_YET[suffix]}",
            hint=f"write {possible}",
            where=str(output),
        )
    raise InputError(
        f"the output's suffix {suffix} means no artifact for --to {to}",
        hint=f"write {possible}",
        where=str(output),
    )


def default_output(source: str | Path, to: Target) -> Path:
    """Where a conversion goes if the user does not say: beside the input, named for the target."""
    path = Path(source)
    path = path if path.name else path.absolute()
    stem = (path.name if path.is_dir() else path.stem).replace(".", "_")
    return path.with_name(f"{stem}.onnx" if to == "onnx" else f"{stem}_{to}")


def _choices(to: Target, path: Path) -> str:
    bare = path.with_suffix("")
    options = [f"-o {bare}/" if suffix == "" else f"-o {bare}{suffix}" for suffix in _OF_TARGET[to]]
    return " or ".join(options)
