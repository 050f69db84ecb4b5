"""Where in the source's tree of modules a node belongs. This module also runs in an old environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bridge.hub.metadata import Scope


class ScopeEntry(NamedTuple):
    """One level of the source's module tree.

    `name` is the attribute or layer name at this level (`"conv1"`, `"0"`), `type` the class name
    without its package (`"Conv2d"`), `call` counts the calls of the same module instance from 0.
    """

    name: str
    type: str
    call: int = 0


def scope_path(scope: Scope) -> str:
    """The dotted path of a scope, `layers.0.conv1`; the empty string for the root."""
    return ".".join(entry.name for entry in scope)
