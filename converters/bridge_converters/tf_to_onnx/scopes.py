"""Read the modules of a model out of the names of a graph that was traced without hooks.

Keras 3 enters a layer's name scope twice for every call, once to build and once to compute, and
TensorFlow makes each a new name: the first call of `conv` computes in `conv_1`, its second in `conv_3`.
An operator's own scope (`batchnorm`, `Tensordot`) is entered once, so a scope that appears as `x_1` and is
not explained by an `x` beside it is a layer's. Class names are not in a graph.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from bridge.hub.metadata import Scope, ScopeEntry

UNKNOWN_CLASS = "Layer"

_CALL = re.compile(r"^(Stateful)?PartitionedCall(_\d+)?$")
_NUMBERED = re.compile(r"^(?P<name>.+)_\d+$")


def split(node: str) -> tuple[str, tuple[str, ...]]:
    """A node's name without the calls it was inlined from: the prefix of those calls, and the rest in parts."""
    parts = node.split("/")
    calls = 0
    while calls < len(parts) - 1 and _CALL.match(parts[calls]):
        calls += 1
    return "/".join(parts[:calls]), tuple(parts[calls:])


def keras_scopes(nodes: Iterable[str], *, rooted: bool) -> dict[str, Scope]:
    """Which name scopes of a graph belong to which calls of Keras layers.

    `nodes` are the names of the graph's nodes in the order in which they were made. `rooted` says that the
    outermost layer is the model itself, which is no part of a scope.
    """
    scopes: dict[str, Scope] = {}
    levels: dict[str, _Level] = {}
    for node in nodes:
        prefix, parts = split(node)
        scope: Scope | None = ()
        for depth, part in enumerate(parts):
            level = levels.setdefault(prefix, _Level())
            leaf = depth == len(parts) - 1
            if part not in level.seen:
                level.seen[part] = level.resolve(part, leaf=leaf)
            prefix = f"{prefix}/{part}" if prefix else part
            layer = level.seen[part]
            if layer is None or leaf:
                break
            if depth > 0 or not rooted:
                name, call = layer
                scope = (*scope, ScopeEntry(name, UNKNOWN_CLASS, call))
            scopes[prefix] = scope
    return scopes


def module_scopes(reads: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, Scope]:
    """Name scopes of plain modules, told by the weights they read.

    `reads` are pairs of a node that reads a variable and the path of the module that owns the variable.
    """
    scopes: dict[str, Scope] = {}
    for node, owner in reads:
        prefix, parts = split(node)
        if not owner:
            continue
        scope = tuple(ScopeEntry(name, "Module", 0) for name in owner)
        for depth in range(1, len(owner) + 1):
            if depth == len(owner) or parts[:depth] == owner[:depth]:
                inside = [*([prefix] if prefix else []), *parts[:depth]]
                scopes.setdefault("/".join(inside), scope[:depth])
    return scopes


class _Level:
    """The names seen so far directly below one scope, as TensorFlow's own counter of names saw them."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, int] | None] = {}
        self._taken: dict[str, int] = {}
        self._calls: Counter[str] = Counter()

    def resolve(self, part: str, *, leaf: bool) -> tuple[str, int] | None:
        """The layer and call that a new name stands for; None for an operator's name."""
        numbered = _NUMBERED.match(part)
        if numbered is not None and not leaf:
            name = numbered["name"]
            before = dict(self._taken)
            self._unique(name)
            if self._unique(name) == part:
                call = self._calls[name]
                self._calls[name] += 1
                return name, call
            self._taken = before
        if numbered is not None:
            before = dict(self._taken)
            if self._unique(numbered["name"]) == part:
                return None
            self._taken = before
        self._unique(part)
        return None

    def _unique(self, name: str) -> str:
        """The name that TensorFlow gives to a scope or operator that asks for this one."""
        key = base = name.lower()
        count = self._taken.get(key, 0)
        self._taken[key] = count + 1
        if not count:
            return name
        while key in self._taken:
            key = f"{base}_{count}"
            count += 1
        self._taken[key] = 1
        return f"{name}_{count - 1}"
