"""What a module computes twice about shapes and positions."""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, constant, integers, only_use, producer, rank, replace_value

_CHEAP = frozenset({"Cast", "Expand", "Range", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
_SMALL = 64


def drop_duplicates(model: ir.Model) -> ir.Model:
    """Join chains of new axes, and nodes that make the same of the same about shapes and positions.

    Nodes of different modules, or of different calls of one, stay: a module would have to be handed what it
    can make itself.
    """
    for node in list(model.graph):
        if node.op_type == "Unsqueeze" and node.domain == "":
            _join(node)
    first: dict[Hashable, ir.Node] = {}
    for node in list(model.graph):
        if node.op_type not in _CHEAP or node.domain != "" or len(node.outputs) != 1:
            continue
        original = first.setdefault(_key(node), node)
        if original is not node and not node.outputs[0].is_graph_output():
            replace_value(node.outputs[0], original.outputs[0])
            model.graph.remove(node, safe=True)
    return model


def _join(node: ir.Node) -> None:
    """`Unsqueeze(Unsqueeze(x, inner), outer)` as one, where nothing else reads what is between."""
    between = node.inputs[0]
    inner, count = producer(between, "Unsqueeze"), rank(node.outputs[0])
    if inner is None or between is None or only_use(between) is not node or count is None:
        return
    outer_axes, inner_axes = integers(node.inputs[1]), integers(inner.inputs[1])
    if outer_axes is None or inner_axes is None or not isinstance(node.graph, ir.Graph):
        return
    outer = {axis % count for axis in outer_axes}
    kept = [axis for axis in range(count) if axis not in outer]
    axes = sorted(outer | {kept[axis % len(kept)] for axis in inner_axes})
    node.replace_input_with(0, inner.inputs[0])
    joined = ir.tensor(axes, dtype=ir.DataType.INT64)
    node.replace_input_with(1, add_constant(node.graph, joined.numpy(), f"{node.outputs[0].name}_axes"))
    inner.graph.remove(inner, safe=True)  # type: ignore[union-attr]


def _key(node: ir.Node) -> Hashable:
    attributes = tuple(sorted((name, str(each.value)) for name, each in node.attributes.items()))
    inputs = tuple(_identity(value) for value in node.inputs)
    return node.op_type, metadata.scope_of(node), inputs, attributes


def _identity(value: ir.Value | None) -> Hashable:
    """A value, or what a small constant contains."""
    array = constant(value) if value is not None and value.const_value is not None else None
    if array is None or array.size > _SMALL or array.dtype.kind not in "iufb":
        return value
    return str(array.dtype), array.shape, array.tobytes()
