"""How large ids may be that a program's inputs hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

_aten = torch.ops.aten

_KEEP_ELEMENTS = """
    to _to_copy clone contiguous detach alias view reshape _unsafe_view flatten unflatten squeeze unsqueeze
    expand expand_as repeat permute transpose t slice select narrow split split_with_sizes chunk unbind cat
    stack flip roll
"""
"""Operators whose results hold elements of their first argument."""


def id_limits(program: ExportedProgram) -> dict[int, int]:
    """The exclusive upper bound of ids, by position among the tensor inputs, where the graph shows one.

    An input shows it by reaching the indices of an embedding, an indexing or a gather, directly or through
    operators that keep its elements. Several such uses leave the smallest bound.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = [each for each in program.graph_signature.user_inputs if isinstance(each, str)]
    tensors = [nodes[name] for name in names if isinstance(nodes[name].meta.get("val"), torch.Tensor)]
    found = {}
    for position, node in enumerate(tensors):
        bounds = list(_bounds(node))
        if bounds:
            found[position] = min(bounds)
    return found


def _bounds(start: fx.Node) -> Iterator[int]:
    pending, seen = [start], {start}
    while pending:
        node = pending.pop()
        for user in node.users:
            bound = _bound(user, node)
            if isinstance(bound, int):
                yield bound
            if user not in seen and _keeps_elements(user, node):
                seen.add(user)
                pending.append(user)


def _keeps_elements(user: fx.Node, node: fx.Node) -> bool:
    if getattr(user.target, "__name__", "") == "getitem":
        return True
    if not isinstance(user.target, torch._ops.OpOverload):
        return False
    name = user.target._schema.name.rpartition("::")[2]
    first = user.args[0] if user.args else None
    return name in _KEEP_ELEMENTS.split() and (
        first is node or (isinstance(first, list | tuple) and node in first)
    )


def _bound(user: fx.Node, ids: fx.Node) -> Any:
    """The size of the axis that a node looks up by ids; None if it does not."""
    args = user.args
    match user.target:
        case _aten.embedding.default if args[1] is ids:
            return _size(args[0], 0)
        case _aten.embedding_bag.default | _aten.embedding_bag.padding_idx if args[1] is ids:
            return _size(args[0], 0)
        case _aten.index_select.default if args[2] is ids:
            return _size(args[0], args[1])
        case _aten.gather.default if args[2] is ids:
            return _size(args[0], args[1])
        case _aten.one_hot.default if args[0] is ids:
            return args[1] if len(args) > 1 and isinstance(args[1], int) and args[1] > 0 else None
        case _aten.index.Tensor if isinstance(args[1], list | tuple) and ids in args[1]:
            return _size(args[0], list(args[1]).index(ids))
    return None


def _size(node: Any, axis: Any) -> Any:
    """The size of a tensor along an axis, where that is a number."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    if not isinstance(value, torch.Tensor) or not isinstance(axis, int) or not value.ndim:
        return None
    return value.shape[axis]
