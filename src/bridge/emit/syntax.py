"""Copies of syntax trees, and walks over them: as `ast` does them, and several times as fast."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

Node = TypeVar("Node", bound=ast.AST)


def clone(node: Node) -> Node:
    """A deep copy of a tree without source positions; several times as fast as `copy.deepcopy`."""
    copied: Node = _clone(node)
    return copied


def _clone(value: Any) -> Any:
    if isinstance(value, ast.AST):
        if isinstance(value, ast.expr_context):
            return value  # `ast.parse` shares these as well
        fields = vars(value)
        return type(value)(**{name: _clone(fields[name]) for name in value._fields if name in fields})
    return [_clone(each) for each in value] if isinstance(value, list) else value


def walk(*trees: ast.AST) -> Iterator[ast.AST]:
    """All nodes of trees, in no particular order."""
    waiting = list(trees)
    while waiting:
        node = waiting.pop()
        yield node
        for value in vars(node).values():
            if isinstance(value, ast.AST):
                waiting.append(value)
            elif isinstance(value, list):
                waiting.extend(each for each in value if isinstance(each, ast.AST))


def names(*trees: ast.AST) -> set[str]:
    """Every plain name that trees read or write."""
    return {each.id for each in walk(*trees) if isinstance(each, ast.Name)}


def unparse(statements: Sequence[ast.stmt]) -> str:
    """The text of statements that have no source positions."""
    for each in walk(*statements):
        if isinstance(each, ast.stmt):
            each.lineno = 0  # where `ast.unparse` looks for comments on types
    return ast.unparse(ast.Module([*statements], []))
