"""Sequences that are only made to be taken apart again."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import (
    add_constant,
    all_nodes,
    attribute,
    integers,
    producer,
    rank,
    scalar,
    take_over,
)
from bridge.passes.unused import drop_unused


def split_without_sequences(model: ir.Model) -> ir.Model:
    """`SplitToSequence` of which elements are taken by constant numbers as `Split`.

    This is how `torch.chunk` and `torch.split` are exported. Needs the size of the axis.
    """
    changed = False
    for node in list(all_nodes(model)):
        if node.op_type == "SplitToSequence" and node.domain == "" and node.graph is not None:
            sizes = _sizes(node)
            readers = [use.node for use in node.outputs[0].uses()]
            taken = [_element(reader, node.outputs[0], len(sizes)) for reader in readers]
            if sizes and not node.outputs[0].is_graph_output() and all(each is not None for each in taken):
                _split(model, node, sizes, dict(zip(readers, taken, strict=True)))
                changed = True
    return drop_unused(model) if changed else model


def _sizes(node: ir.Node) -> list[int]:
    """The sizes of the parts; empty if they are not known, or if the parts lose the axis."""
    data = node.inputs[0]
    count = rank(data)
    if data is None or data.shape is None or count is None or len(node.inputs) < 2:
        return []
    axis = attribute(node, "axis", 0)
    assert isinstance(axis, int)
    size, parts = data.shape[axis], integers(node.inputs[1])
    if not isinstance(size, int) or parts is None or node.inputs[1] is None:
        return []
    if rank(node.inputs[1]) == 0:
        (each,) = parts
        parts = () if each <= 0 else tuple(min(each, size - start) for start in range(0, size, each))
    return list(parts) if sum(parts) == size else []


def _element(reader: ir.Node, sequence: ir.Value, count: int) -> int | None:
    taken = producer(reader.outputs[0], "SequenceAt")
    if taken is not reader or reader.inputs[0] is not sequence:
        return None
    index = scalar(reader.inputs[1])
    return None if index is None or not -count <= index < count else int(index) % count


def _split(model: ir.Model, node: ir.Node, sizes: list[int], taken: dict[ir.Node, int | None]) -> None:
    assert node.graph is not None
    data, axis = node.inputs[0], attribute(node, "axis", 0)
    assert data is not None
    assert isinstance(axis, int)
    parts = add_constant(model.graph, np.asarray(sizes, np.int64), f"{node.outputs[0].name}_sizes")
    made = ir.node("Split", [data, parts], {"axis": axis}, num_outputs=len(sizes))
    made.metadata_props.update(node.metadata_props)
    node.graph.insert_before(node, made)
    for reader, index in taken.items():
        assert index is not None
        old, new = reader.outputs[0], made.outputs[index]
        identity = ir.node("Identity", [new])
        identity.metadata_props.update(reader.metadata_props)
        reader.graph.insert_before(reader, identity)  # type: ignore[union-attr]
        take_over(old, identity.outputs[0])
    for output, size in zip(made.outputs, sizes, strict=True):
        output.type = data.type
        output.shape = None if data.shape is None else ir.Shape(_with_size(data.shape, axis, size))


def _with_size(shape: ir.Shape, axis: int, size: int) -> list[int | ir.SymbolicDim]:
    axes = list(shape)
    axes[axis] = size
    return axes
