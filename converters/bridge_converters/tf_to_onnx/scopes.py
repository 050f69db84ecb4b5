"""Read the modules of a model out of the names of a graph that was traced without hooks.

Keras 3 enters a layer's name scope twice for every call, once to build and once to compute, and
TensorFlow makes each a new name: the first call of `conv` computes in `conv_1`, its second in `conv_3`.
An operator's own scope (`batchnorm`, `Tensordot`) is entered once, so a scope that appears as `x_1` and is
not explained by an `x` beside it is a layer's. Class names are not in a graph.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.hub.scope import ScopeEntry

if TYPE_CHECKING:
    from bridge.hub.metadata import Scope

UNKNOWN_CLASS = "Layer"

_CALL = re.compile(r"^(Stateful)?PartitionedCall(_\d+)?$")
_NUMBERED = re.compile(r"^(?P<name>.+)_\d+$")


def split(node: str) -> tuple[str, tuple[str, ...]]:
    """The prefix of the calls that a node was inlined from, and the rest of its name in parts."""
    parts = node.split("/")
    calls = 0
    while calls < len(parts) - 1 and _CALL.match(parts[calls]):
        calls += 1
    return "/".join(parts[:calls]), tuple(parts[calls:])


@dataclass(frozen=True)
class KerasScopes:
    """Which name scopes of a graph belong to which calls of layers, and the name of the model itself."""

    scopes: dict[str, Scope]
    root: str | None


def keras_scopes(nodes: Iterable[str], *, reads: Mapping[str, Iterable[str]]) -> KerasScopes:
    """The layers in the names of a Keras model's graph; the outermost layer is the model itself.

    `nodes` are the names of the graph's nodes in the order in which they were made, `reads` the
    variables that a node reads. Calls of the same name that read different variables are different
    layers of that name; the second is called `name_1`, as in a Keras file.
    """
    found: dict[str, tuple[str, str, int]] = {}
    levels: dict[str, _Level] = {}
    read_below: dict[str, set[str]] = {}
    for node in nodes:
        prefix, parts = split(node)
        for part in parts[:-1]:
            parent, level = prefix, levels.setdefault(prefix, _Level())
            prefix = f"{prefix}/{part}" if prefix else part
            layer = level.resolve(part)
            if layer is None:
                break
            found.setdefault(prefix, (parent, *layer))
            read_below.setdefault(prefix, set()).update(reads.get(node, ()))
        else:
            levels.setdefault(prefix, _Level()).mark(parts[-1])
    names = _tell_apart(found, read_below)
    scopes: dict[str, Scope] = {}
    root: str | None = None
    for prefix, (parent, name, _) in found.items():
        if parent not in found:
            root = root or name
            scopes[prefix] = ()
        else:
            scopes[prefix] = (*scopes[parent], ScopeEntry(names[prefix][0], UNKNOWN_CLASS, names[prefix][1]))
    return KerasScopes(scopes, root)


def _tell_apart(
    found: Mapping[str, tuple[str, str, int]], read_below: Mapping[str, set[str]]
) -> dict[str, tuple[str, int]]:
    """The name and call of every layer scope: layers of equal names are told apart by their variables."""
    result: dict[str, tuple[str, int]] = {}
    known: dict[tuple[str, str], list[set[str]]] = {}
    calls: Counter[tuple[str, str, int]] = Counter()
    for prefix, (parent, name, _) in found.items():
        layers = known.setdefault((parent, name), [])
        variables = read_below[prefix]
        index = next((each for each, other in enumerate(layers) if other == variables), len(layers))
        if index == len(layers):
            layers.append(variables)
        result[prefix] = (name if index == 0 else f"{name}_{index}", calls[(parent, name, index)])
        calls[(parent, name, index)] += 1
    return result


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
        self._seen: dict[str, tuple[str, int] | None] = {}
        self._taken: dict[str, int] = {}
        self._calls: Counter[str] = Counter()

    def resolve(self, part: str) -> tuple[str, int] | None:
        """The layer and call that the name of a scope stands for; None for the scope of an operator."""
        if part not in self._seen:
            self._seen[part] = self._layer(part)
        return self._seen[part]

    def mark(self, part: str) -> None:
        """Take note of the name of an operator."""
        if part in self._seen:
            return
        self._seen[part] = None
        numbered = _NUMBERED.match(part)
        before = dict(self._taken)
        if numbered is None or self._unique(numbered["name"]) != part:
            self._taken = before
            self._unique(part)

    def _layer(self, part: str) -> tuple[str, int] | None:
        numbered = _NUMBERED.match(part)
        if numbered is not None:
            name = numbered["name"]
            before = dict(self._taken)
            self._unique(name)
            if self._unique(name) == part:
                self._calls[name] += 1
                return name, self._calls[name] - 1
            self._taken = before
        self.mark(part)
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
