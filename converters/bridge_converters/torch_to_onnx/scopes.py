"""The module path of a node of a program, as the hub records it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import fx

from bridge.hub.metadata import Scope, ScopeEntry

_CALL = re.compile(r"@(\d+)$")
_NO_STACK = "_empty_nn_module_stack_from_metadata_hook"
_IN_CLOSURE = ".cell_contents."
_UNKNOWN_CONTAINER = "ModuleList"


def module_path(node: fx.Node) -> str | None:
    """The dotted path of the module that made a node, `layers.0`; None where torch did not record it."""
    stack = _stack(node)
    return list(stack.values())[-1][0] if stack else None


def scope_of_node(node: fx.Node, module_types: Mapping[str, str]) -> Scope | None:
    """The scope of a node: one entry for each part of its module's path.

    `module_types` gives the class names of modules by path. It is needed for containers whose own
    forward never runs (an `nn.ModuleList`), which torch.export does not record; a container that it does
    not have is taken for a ModuleList. A module that is registered elsewhere than where it is called
    has the path under which it is registered. None where torch recorded no module.
    """
    stack = _stack(node)
    path = module_path(node)
    if path is None:
        return None
    if _IN_CLOSURE in path:
        # The branches of torch.cond are traced as functions; a module that one takes from its surroundings
        # has an expression of Python as its path, which ends in the real one.
        path = path.rpartition(_IN_CLOSURE)[2]
        if path not in module_types:
            return None
    recorded = {
        level: (kind, int(call[1]) if (call := _CALL.search(key)) else 0)
        for key, (level, kind) in stack.items()
    }
    entries = []
    names = path.split(".") if path else []
    for depth, name in enumerate(names, start=1):
        level = ".".join(names[:depth])
        kind, number = recorded.get(level, (module_types.get(level, _UNKNOWN_CONTAINER), 0))
        entries.append(ScopeEntry(name, class_name(kind), number))
    return tuple(entries)


def root_type(nodes: list[fx.Node], default: str) -> str:
    """The class name of the root module as the nodes of a program record it."""
    for node in nodes:
        for level, kind in _stack(node).values():
            if level == "":
                return class_name(kind)
    return default


def _stack(node: fx.Node) -> dict[str, tuple[str, str]]:
    """Path and class by key, outermost first; empty for nodes that torch itself put in."""
    stack = node.meta.get("nn_module_stack") or {}
    return {str(key): (str(path), str(kind)) for key, (path, kind) in stack.items() if key != _NO_STACK}


def class_name(qualified: str) -> str:
    """The last part of a qualified class name: `Conv2d` for `torch.nn.modules.conv.Conv2d`."""
    return qualified.rsplit(".", 1)[-1]
