"""Repetitions that the operators behind them do themselves."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import attribute
from bridge.passes.dims import Dim, dim_of
from bridge.passes.unused import drop_unused

_BROADCASTING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"}
    | {"Mod", "Mul", "Or", "Pow", "Sub", "Where", "Xor"}
)


def drop_broadcasts(model: ir.Model) -> ir.Model:
    """Let operators that broadcast read a value before an Expand, where the others have the axes it makes.

    So do the indices of a Gather whose rows are read that way. An Expand that anything else reads, or
    without which a result were smaller, stays. Needs inferred shapes.
    """
    for node in list(model.graph):
        if node.op_type == "Expand" and node.domain == "":
            _drop(node)
    return drop_unused(model)


def _drop(expand: ir.Node) -> None:
    data, expanded = expand.inputs[0], expand.outputs[0]
    uses = expanded.uses()
    if data is None or data.shape is None or expanded.is_graph_output() or not uses:
        return
    same_rank = len(data.shape) == len(expanded.shape or ())
    gathers = [use.node for use in uses if same_rank and _takes_rows(use.node, expanded)]
    rows = {node.outputs[0]: _rows(node, data) for node in gathers}
    readers = {use.node for use in uses if use.node not in gathers}
    for value in rows:
        if value.is_graph_output() or not value.uses():
            return
        readers.update(use.node for use in value.uses())
    changed = {expanded: data.shape, **rows}
    if not all(_does_without(node, changed) for node in readers):
        return
    for use in uses:
        use.node.replace_input_with(use.idx, data)
    for value, shape in rows.items():
        value.shape = shape
        metadata.set_source_value(value, None)


def _takes_rows(node: ir.Node, indices: ir.Value) -> bool:
    """Whether a node reads rows of a table, which something else is, at the indices."""
    if node.op_type != "Gather" or node.domain != "" or attribute(node, "axis", 0) != 0:
        return False
    table = node.inputs[0]
    return (
        node.inputs[1] is indices and table is not indices and table is not None and table.shape is not None
    )


def _rows(node: ir.Node, indices: ir.Value) -> ir.Shape:
    table = node.inputs[0]
    assert table is not None
    assert table.shape is not None
    assert indices.shape is not None
    return ir.Shape([*indices.shape, *list(table.shape)[1:]])


def _does_without(node: ir.Node, changed: Mapping[ir.Value, ir.Shape]) -> bool:
    """Whether a node's result keeps all its axes when operands have the axes from before an expansion."""
    if node.op_type not in _BROADCASTING or node.domain != "":
        return False
    shape = node.outputs[0].shape
    axes = [None if each is None else changed.get(each, each.shape) for each in node.inputs]
    if shape is None or any(each is None for each in axes):
        return False
    given = [[dim_of(axis) for axis in each or ()] for each in axes]
    wanted = [dim_of(axis) for axis in shape]
    return max(map(len, given)) == len(wanted) and all(
        size is not None and any(_from_last(axes, place) == size for axes in given)
        for place, size in enumerate(reversed(wanted), start=1)
    )


def _from_last(axes: list[Dim], place: int) -> Dim:
    return axes[-place] if place <= len(axes) else 1
