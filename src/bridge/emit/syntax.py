"""Copies of syntax trees."""

from __future__ import annotations

import ast
from typing import Any, TypeVar

Node = TypeVar("Node", bound=ast.AST)


def clone(node: Node) -> Node:
    """A deep copy of a tree without source positions; several times as fast as `copy.deepcopy`."""
    copied: Node = _clone(node)
    return copied


def _clone(value: Any) -> Any:
    if isinstance(value, ast.AST):
        return type(value)(**{name: _clone(each) for name, each in ast.iter_fields(value)})
    return [_clone(each) for each in value] if isinstance(value, list) else value
