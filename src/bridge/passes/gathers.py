"""Elements that are read by their places along one axis."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, attribute, fuse, integers, producer
from bridge.passes.dims import dim_of


def recognise_gathers(model: ir.Model) -> ir.Model:
    """GatherElements of data that is the same along all axes but one, and GatherND by one number, as Gather.

    Such data has size 1 along the other axes, or was expanded from that: it is read as a vector. Needs
    inferred shapes.
    """
    for node in list(model.graph):
        if node.op_type == "GatherElements" and node.domain == "":
            _from_vector(node)
        elif node.op_type == "GatherND" and node.domain == "":
            _by_one_number(node)
    return model


def _by_one_number(node: ir.Node) -> None:
    data, indices = node.inputs
    if indices is None or indices.shape is None or attribute(node, "batch_dims", 0) != 0:
        return
    count = len(indices.shape)
    if indices.shape[-1] != 1:
        return
    unsqueeze = producer(indices, "Unsqueeze")
    axes = None if unsqueeze is None else integers(unsqueeze.inputs[1])
    numbers = unsqueeze.inputs[0] if unsqueeze is not None and axes in ((-1,), (count - 1,)) else None
    fuse([node], "Gather", [data, numbers or _squeezed(indices, [count - 1], node)], {"axis": 0})


def _from_vector(node: ir.Node) -> None:
    data, indices = node.inputs
    axis = attribute(node, "axis", 0)
    if data is None or data.shape is None or not isinstance(axis, int):
        return
    count = len(data.shape)
    expand = producer(data, "Expand")
    before = data if expand is None else expand.inputs[0]
    if before is None or before.shape is None or len(before.shape) != count:
        return
    others = [each for each in range(count) if each != axis % count]
    if any(before.shape[each] != 1 for each in others):
        return
    size = dim_of(before.shape[axis])
    if before is not data and (size is None or size != dim_of(data.shape[axis])):
        return
    vector = _squeezed(before, others, node) if others else before
    fuse([node], "Gather", [vector, indices], {"axis": 0})


def _squeezed(value: ir.Value, axes: list[int], before: ir.Node) -> ir.Value:
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    squeeze = ir.node("Squeeze", [value, add_constant(graph, np.asarray(axes, np.int64), "axes")])
    metadata.set_scope(squeeze, metadata.scope_of(before))
    metadata.set_location(squeeze, metadata.location_of(before))
    made = squeeze.outputs[0]
    assert value.shape is not None
    left = [size for axis, size in enumerate(value.shape) if axis not in axes]
    made.type, made.shape = value.type, ir.Shape(left)
    graph.insert_before(before, squeeze)
    return made
