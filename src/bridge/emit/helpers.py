"""Helper functions of the emitted file: lowerings without a one-line spelling, and what they call."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from bridge.emit.specialise import function_tree, helper_functions
from bridge.emit.syntax import clone, names, unparse


@dataclass(frozen=True)
class Definition:
    """A helper function as it is printed, and the names that its text mentions."""

    text: str
    names: frozenset[str]


def definitions(functions: Iterable[Callable[..., Any]]) -> list[Definition]:
    """The definitions of functions and of all helpers they call, callees first, each once.

    Raises ValueError if two different functions have the same name.
    """
    found: dict[str, Callable[..., Any]] = {}
    ordered: list[Definition] = []

    def visit(function: Callable[..., Any]) -> None:
        known = found.get(function.__name__)
        if known is function:
            return
        if known is not None:
            raise ValueError(f"two helper functions are called {function.__name__}")
        found[function.__name__] = function
        for callee in helper_functions(function).values():
            visit(callee)
        ordered.append(_definition(function))

    for function in sorted(functions, key=lambda each: each.__name__):
        visit(function)
    return ordered


@cache
def _definition(function: Callable[..., Any]) -> Definition:
    spelled: ast.FunctionDef = _SpellOutAliases(function.__globals__).visit(clone(function_tree(function)))
    return Definition(unparse([spelled]), frozenset(names(spelled)))


def class_definitions(classes: Iterable[type]) -> dict[str, Definition]:
    """The definitions of classes by name, and of those beside them that their text mentions, these first."""
    ordered: dict[type, Definition] = {}

    def visit(source: type) -> None:
        if source in ordered:
            return
        module = inspect.getmodule(source)
        definition = _class_definition(source)
        for name in sorted(definition.names):
            used = getattr(module, name, None)
            if isinstance(used, type) and used is not source and used.__module__ == source.__module__:
                visit(used)
        ordered[source] = definition

    for source in sorted(classes, key=lambda each: each.__name__):
        visit(source)
    return {source.__name__: definition for source, definition in ordered.items()}


@cache
def _class_definition(source: type) -> Definition:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(source))).body
    return Definition(unparse([definition]), frozenset(names(definition)))


class _SpellOutAliases(ast.NodeTransformer):
    """Writes the types that a module's aliases stand for; the output has no aliases."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace

    def visit_Name(self, node: ast.Name) -> ast.AST:
        value = self._namespace.get(node.id)
        if isinstance(value, types.GenericAlias | types.UnionType):
            return ast.parse(repr(value), mode="eval").body
        return node


def import_statements(imports: Mapping[str, str], used: Collection[str]) -> str:
    """The import statements for the names that are used, in isort's order: standard library, then others."""
    plain: set[str] = set()
    members: dict[str, set[str]] = {}
    for statement in {imports[name] for name in used if name in imports}:
        match statement.split():
            case ["from", module, "import", name]:
                members.setdefault(module, set()).add(name)
            case _:
                plain.add(statement)
    merged = [f"from {module} import {', '.join(sorted(names))}" for module, names in members.items()]
    needed = [*sorted(plain), *sorted(merged)]
    standard = [each for each in needed if each.split()[1].partition(".")[0] in sys.stdlib_module_names]
    others = [each for each in needed if each not in standard]
    sections = [["from __future__ import annotations"], standard, others]
    return "\n\n".join("\n".join(section) for section in sections if section)
