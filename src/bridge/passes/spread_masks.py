"""Masks of attention in an ONNX file, in the shapes that onnxruntime takes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, all_nodes, rank
from bridge.passes.dims import Dim, dim_of

_MASK = 3
_QUERY_AXIS = -2


def spread_masks(model: ir.Model) -> ir.Model:
    """Repeat masks of one row for all queries.

    The standard lets a mask of `Attention` spread over any of its axes; onnxruntime (1.32) wants as many
    rows as there are queries. Needs inferred shapes; a mask of an unknown number of rows is repeated too.
    """
    repeated: dict[tuple[object, ...], ir.Value] = {}
    for node in list(all_nodes(model)):
        if node.op_type != "Attention" or node.domain != "" or len(node.inputs) <= _MASK:
            continue
        query, mask = node.inputs[0], node.inputs[_MASK]
        if query is None or mask is None or rank(query) is None or rank(mask) is None:
            continue
        rows, queries = _length(mask), _length(query)
        if rows is not None and rows == queries:
            continue
        key = (node.graph, mask, queries or query)
        if key not in repeated:
            repeated[key] = _repeated(mask, query, node)
        node.replace_input_with(_MASK, repeated[key])
    return model


def _length(value: ir.Value) -> Dim:
    return None if value.shape is None else dim_of(value.shape[_QUERY_AXIS])


def _repeated(mask: ir.Value, query: ir.Value, reader: ir.Node) -> ir.Value:
    """The mask with a row for each query; the nodes that make it stand before the one that reads it."""
    graph = reader.graph
    assert isinstance(graph, ir.Graph)
    one = add_constant(graph, np.array([1], np.int64), "one")
    axes = rank(query) or 0
    size = ir.node("Shape", [query], {"start": axes + _QUERY_AXIS, "end": axes + _QUERY_AXIS + 1})
    shape = ir.node("Concat", [size.outputs[0], one], {"axis": 0})
    spread = ir.node("Expand", [mask, shape.outputs[0]])
    for value in (size.outputs[0], shape.outputs[0]):
        value.dtype = ir.DataType.INT64
    spread.outputs[0].type = mask.type
    for node, name in ((size, "queries"), (shape, "rows"), (spread, "mask")):
        node.outputs[0].name = f"{reader.outputs[0].name}_{name}"
        graph.insert_before(reader, node)
    return spread.outputs[0]
