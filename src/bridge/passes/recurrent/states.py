"""Reading the states of layers where the graph first joins them and then takes them apart."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import all_nodes, attribute, constant, integers, producer
from bridge.passes.moves import axes_of


def read_parts(model: ir.Model) -> None:
    """Let what takes one row of joined rows read that row: `Gather(Concat(Unsqueeze(a), ...), 0)` is a.

    The states of a stack of layers are joined to one tensor, and a user's `h[-1]` takes one of them.
    """
    for node in list(all_nodes(model)):
        if node.graph is None or node.domain != "":
            continue
        rows = _rows(node.inputs[0]) if node.op_type in ("Gather", "Slice", "Squeeze") else []
        if not rows:
            continue
        taken = _taken(node, len(rows))
        if (
            taken is None
            or not all(0 <= row < len(rows) for row in taken)
            or node.outputs[0].is_graph_output()
        ):
            continue
        if node.op_type == "Slice":
            for use in list(node.outputs[0].uses()):
                if use.node.op_type == "Squeeze" and len(taken) == 1 and axes_of(use.node, 3) == (0,):
                    use.node.outputs[0].replace_all_uses_with(rows[taken[0]])
        else:
            node.outputs[0].replace_all_uses_with(rows[taken[0]])


def _rows(value: ir.Value | None) -> list[ir.Value]:
    """The rows of a value of rank 3 that is made of rows (batch, size); empty if it is not."""
    row = producer(value, "Unsqueeze")
    if row is not None:
        inner = row.inputs[0]
        return [inner] if inner is not None and axes_of(row, 3) == (0,) and _is_matrix(inner) else []
    joined = producer(value, "Concat")
    if joined is None or attribute(joined, "axis") != 0:
        return []
    parts = [_rows(part) for part in joined.inputs]
    return [row for part in parts for row in part] if all(parts) else []


def _is_matrix(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) == 2


def _taken(node: ir.Node, count: int) -> range | None:
    """The rows that a node takes, if it takes some in a row along axis 0."""
    if node.op_type == "Squeeze":
        return range(1) if count == 1 and axes_of(node, 3) == (0,) else None
    if node.op_type == "Gather":
        index = constant(node.inputs[1])
        if index is None or index.ndim != 0 or attribute(node, "axis", 0) != 0:
            return None
        row = int(index) + (count if index < 0 else 0)
        return range(row, row + 1)
    bounds = [integers(each) for each in node.inputs[1:]]
    if len(bounds) < 3 or any(bound is None or len(bound) != 1 for bound in bounds):
        return None
    numbers = [bound[0] for bound in bounds if bound is not None]
    if numbers[2] not in (0, -3) or (len(numbers) == 4 and numbers[3] != 1):
        return None
    return range(*slice(numbers[0], numbers[1]).indices(count))
