"""Docstrings of the emitted file. Names of the model enter them as identifiers only."""

from __future__ import annotations

import ast
import re
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


_PORT = re.compile(r"    (?P<name>\w+): (?:list of tensors, each )?(?P<dtype>\w+)")


def declared_types(source: str) -> dict[str, dict[str, str]]:
    """The dtypes that the docstring of a model.py lists below "Inputs:" and "Outputs:", by name, in order.

    Raises SyntaxError where the text is not Python.
    """
    listed: dict[str, dict[str, str]] = {"Inputs": {}, "Outputs": {}}
    section: dict[str, str] | None = None
    for line in (ast.get_docstring(ast.parse(source)) or "").splitlines():
        port = _PORT.match(line)
        if port is None:
            section = listed.get(line.removesuffix(":")) if line.endswith(":") else None
        elif section is not None:
            section[port["name"]] = port["dtype"]
    return listed


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
    dtypes = [
        dtype if dtype == carrier else f"{dtype} in {carrier}"
        for dtype, carrier in zip(signature.dtypes, signature.carriers, strict=True)
    ]
    values = zip(signature.names, dtypes, signature.shapes, kinds, strict=True)
    return [
        f"    {identifier(name)}: {_PHRASES[kind].format(f'{dtype} {shape_text(shape)}')}"
        for name, dtype, shape, kind in values
    ]
