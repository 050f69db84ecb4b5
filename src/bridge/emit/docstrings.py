"""Docstrings of the emitted file. Names of the model enter them as identifiers only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bridge.emit.dialect import Kind, Signature
from bridge.emit.names import identifier, is_index

_PHRASES: Mapping[Kind, str] = {
    "tensor": "{}",
    "sequence": "list of tensors, each {}",
    "optional tensor": "{}, or None",
    "optional sequence": "list of tensors, each {}, or None",
}


def file_docstring(title: str, usage: str, inputs: Signature, outputs: Signature) -> str:
    """The first lines of model.py: what it is, how to load it, what it takes and gives."""
    lines = [title, "", usage, "", "Inputs:", *_describe(inputs), "Outputs:", *_describe(outputs)]
    return "\n".join(lines) + "\n"


def shape_text(shape: Iterable[Any] | None) -> str:
    """`(batch, 3, 224, 224)`: dynamic axes by name."""
    if shape is None:
        return "any shape"
    parts = [str(dim) if isinstance(dim, int) else identifier(str(dim), default="n") for dim in shape]
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"


def module_text(path: Sequence[str]) -> str:
    """A module's path in dotted form, or what the root is called."""
    return ".".join(part if is_index(part) else identifier(part) for part in path) or "The whole model"


def _describe(signature: Signature) -> list[str]:
    kinds: Sequence[Kind] = signature.kinds or ["tensor" for _ in signature.names]
    values = zip(signature.names, signature.dtypes, signature.shapes, kinds, strict=True)
    return [
        f"    {identifier(name)}: {_PHRASES[kind].format(f'{dtype} {shape_text(shape)}')}"
        for name, dtype, shape, kind in values
    ]
