"""Trained matrices that are cut and then transposed."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import attribute, is_trained, only_use, rank, static_shape
from bridge.hub.recipe import Source, step
from bridge.passes.fold_trained import make_initializer
from bridge.passes.moves import permutation


def transpose_before_splits(model: ir.Model) -> ir.Model:
    """`Split` of a trained matrix whose parts are all transposed, as the split of the transposed matrix.

    A tensor that several projections share stays one, so its parts are cut in the graph; its transposition
    becomes part of its recipe. Tensors that others read stay as they are.
    """
    for node in list(model.graph):
        if node.op_type == "Split" and node.domain == "" and is_trained(node.inputs[0]):
            _turn(node, model)
    return model


def _turn(node: ir.Node, model: ir.Model) -> None:
    matrix, axis = node.inputs[0], attribute(node, "axis", 0)
    shape = static_shape(matrix)
    if matrix is None or shape is None or rank(matrix) != 2 or not isinstance(axis, int):
        return
    if only_use(matrix) is not node:
        return
    readers = [use.node for output in node.outputs for use in output.uses()]
    if any(not output.uses() for output in node.outputs) or not all(map(_transposes, readers)):
        return
    if any(reader.graph is not node.graph for reader in readers):
        return
    if any(output.is_graph_output() for each in (node, *readers) for output in each.outputs):
        return
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    wanted = ir.Value(name=matrix.name, type=matrix.type, shape=ir.Shape(shape[::-1]))
    recipe = step("transpose", Source(str(matrix.name)), perm=(1, 0))
    shapes = {path: tensor.shape for path, tensor in metadata.source_tensors(model).items()}
    turned = make_initializer(graph, wanted, recipe, shapes, {})
    parts = ir.node(
        "Split",
        [turned, *node.inputs[1:]],
        {**{name: each.value for name, each in node.attributes.items()}, "axis": 1 - axis % 2},
        num_outputs=len(node.outputs),
    )
    metadata.set_scope(parts, metadata.scope_of(node))
    metadata.set_location(parts, metadata.location_of(node))
    graph.insert_before(node, parts)
    for old, new in zip(node.outputs, parts.outputs, strict=True):
        part = static_shape(old)
        new.type, new.shape = old.type, None if part is None else ir.Shape(part[::-1])
        for reader in [use.node for use in old.uses()]:
            reader.outputs[0].replace_all_uses_with(new)
            graph.remove(reader, safe=True)
    graph.remove(node, safe=True)


def _transposes(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and node.domain == "" and permutation(node) == (1, 0)
