"""Removing nodes that return their input."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import all_nodes, attribute, constant, integers, rank, replace_value, static_shape


def drop_identities(model: ir.Model) -> ir.Model:
    """Remove nodes without effect: Identity, and casts, moves, paddings and slices that change nothing.

    A Dropout stays: it means something in training, and so does an Identity that stops gradients. A node
    between an input or weight and an output of the graph stays, since both names are the user's.
    """
    for node in list(all_nodes(model)):
        if node.domain != "" or not node.inputs or len(node.outputs) != 1:
            continue
        rule = _RULES.get(node.op_type)
        if rule is not None and rule(node):
            _bypass(node)
    return model


def _bypass(node: ir.Node) -> None:
    source, output = node.inputs[0], node.outputs[0]
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    if source is None:
        return
    if output.is_graph_output():
        producer = source.producer()
        if producer is None or source.is_graph_output() or producer.graph is not graph:
            return
    elif source.is_graph_output() and not output.uses():
        return
    if source.type is None:
        source.type = output.type
    if source.shape is None:
        source.shape = output.shape
    replace_value(output, source)
    graph.remove(node, safe=True)


def _passes_gradients(node: ir.Node) -> bool:
    return not metadata.stops_gradient(node)


def _same_type(node: ir.Node) -> bool:
    value = node.inputs[0]
    return value is not None and value.dtype is not None and value.dtype == node.attributes.get_int("to", -1)


def _same_order(node: ir.Node) -> bool:
    perm = attribute(node, "perm")
    return isinstance(perm, tuple) and perm == tuple(range(len(perm)))


def _same_shape(node: ir.Node) -> bool:
    """Equal shapes; where one axis is free, the count of elements decides that it is equal too."""
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None or len(before.shape) != len(after.shape):
        return False
    free = sum(not isinstance(axis, int) for axis in before.shape)
    return before.shape == after.shape and (free < 2 or all(_is_named(axis) for axis in before.shape))


def _is_named(axis: int | ir.SymbolicDim) -> bool:
    return isinstance(axis, int) or axis.value is not None


def _same_static_shape(node: ir.Node) -> bool:
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    return before is not None and before == after


def _whole(node: ir.Node) -> bool:
    """A slice whose steps are 1 and that keeps the whole of every axis, the free ones included."""
    starts, ends = integers(node.inputs[1]), integers(node.inputs[2])
    steps = integers(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else (1,)
    if starts is None or ends is None or steps is None or any(step != 1 for step in steps):
        return False
    return _same_static_shape(node) or (all(s == 0 for s in starts) and all(e >= 2**31 - 1 for e in ends))


def _nothing_padded(node: ir.Node) -> bool:
    pads = integers(node.inputs[1])
    return pads is not None and not any(pads)


def _single(node: ir.Node) -> bool:
    return len(node.inputs) == 1


def _rank_two(node: ir.Node) -> bool:
    value = node.inputs[0]
    return (
        value is not None
        and value.shape is not None
        and len(value.shape) == 2
        and node.attributes.get_int("axis", 1) == 1
    )


def _no_axes(node: ir.Node) -> bool:
    return len(node.inputs) > 1 and (axes := constant(node.inputs[1])) is not None and axes.size == 0


def _reaches_no_further(node: ir.Node) -> bool:
    """An expansion to sizes of 1, or to the shape that the data has already."""
    wanted, count = integers(node.inputs[1]), rank(node.inputs[0])
    if (
        wanted is not None
        and count is not None
        and len(wanted) <= count
        and all(size == 1 for size in wanted)
    ):
        return True
    return _same_static_shape(node)


def _multiplies_by_one(node: ir.Node) -> bool:
    return _neutral(node, 1)


def _adds_nothing(node: ir.Node) -> bool:
    """An integer plus zero; a float plus zero is another one where it is -0.0."""
    value = node.inputs[0]
    return value is not None and value.dtype is not None and value.dtype.is_integer() and _neutral(node, 0)


def _is_restricted_by_true(node: ir.Node) -> bool:
    return _neutral(node, 1)


def _is_widened_by_false(node: ir.Node) -> bool:
    return _neutral(node, 0)


def _neutral(node: ir.Node, number: int) -> bool:
    """Whether the second input is this number everywhere and changes neither shape nor type of the first."""
    data, other = node.inputs
    array = constant(other)
    if array is None or array.size != 1 or array.dtype.kind not in "fiub":
        return False
    count = rank(data)
    return count is not None and array.ndim <= count and bool(array.reshape(-1)[0] == number)


_RULES = {
    "Add": _adds_nothing,
    "And": _is_restricted_by_true,
    "Cast": _same_type,
    "Concat": _single,
    "Div": _multiplies_by_one,
    "Expand": _reaches_no_further,
    "Flatten": _rank_two,
    "Identity": _passes_gradients,
    "Mul": _multiplies_by_one,
    "Or": _is_widened_by_false,
    "Pad": _nothing_padded,
    "Reshape": _same_shape,
    "Slice": _whole,
    "Squeeze": _no_axes,
    "Sub": _adds_nothing,
    "Sum": _single,
    "Transpose": _same_order,
    "Unsqueeze": _no_axes,
}
"""When an operator returns its first input."""
