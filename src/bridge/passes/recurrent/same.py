"""Whether two modules compute the same for themselves: masks, lengths, the order of steps."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import constant

_DEPTH = 16
"""How many nodes back two computations are compared."""

_REPEATABLE = frozenset(
    {"Cast", "Equal", "Gather", "GatherND", "KeptFirst", "Not", "ReduceMax", "ReduceSum", "Reshape"}
    | {"ReverseSequence", "Shape", "Slice", "Squeeze", "TopK", "Transpose", "Unsqueeze"}
)
"""Operators between a module's input or mask and its recurrences, which make the same of the same."""


def is_same(first: ir.Value | None, second: ir.Value | None, depth: int = _DEPTH) -> bool:
    """Whether two values are one, or are made in the same way of the same."""
    if first is second:
        return True
    if first is None or second is None or depth == 0:
        return False
    arrays = constant(first), constant(second)
    if arrays[0] is not None and arrays[1] is not None:
        return (
            arrays[0].dtype == arrays[1].dtype
            and arrays[0].tobytes() == arrays[1].tobytes()
            and (arrays[0].shape == arrays[1].shape)
        )
    one, other = first.producer(), second.producer()
    if one is None or other is None or one.op_type not in _REPEATABLE or _kind(one) != _kind(other):
        return False
    pairs = zip(one.inputs, other.inputs, strict=True)
    return first.index() == second.index() and all(is_same(*pair, depth - 1) for pair in pairs)


def _kind(node: ir.Node) -> object:
    attributes = sorted((name, str(each.value)) for name, each in node.attributes.items())
    return node.domain, node.op_type, attributes, len(node.inputs)
