"""Dropping what no output depends on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import onnx
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import bodies
from bridge.hub.recipe import from_json, sources


def drop_unused(model: ir.Model) -> ir.Model:
    """Remove nodes, optional outputs and initializers that no output depends on.

    The trained tensors among them are listed in the model's record (`SourceInfo.unused_weights`).
    """
    _drop_nodes(model.graph)
    used: set[str] = set()
    for graph in model.graphs():
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                graph.initializers.pop(name)
            elif (record := metadata.recipe_record(value)) is not None:
                used.update(sources(from_json(record)))
    unused = tuple(path for path in metadata.source_tensors(model) if path not in used)
    info = metadata.source_info(model)
    if unused != info.unused_weights:
        metadata.set_source_info(model, replace(info, unused_weights=unused))
    return model


def _drop_nodes(graph: ir.Graph) -> None:
    for node in reversed(graph):
        if not any(_is_read(output) for output in node.outputs):
            detach(node)
            graph.remove(node, safe=True)
            continue
        _drop_optional_outputs(node)
        for body in bodies(node):
            _drop_nodes(body)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def detach(node: ir.Node) -> None:
    """Let the bodies of a node that goes away read nothing any more."""
    for body in bodies(node):
        for inner in body:
            detach(inner)
            for index in range(len(inner.inputs)):
                inner.replace_input_with(index, None)


def _drop_optional_outputs(node: ir.Node) -> None:
    optional = _optional_outputs(node.op_type) if node.domain == "" else ()
    count = len(node.outputs)
    while (
        count > 1 and count <= len(optional) and optional[count - 1] and not _is_read(node.outputs[count - 1])
    ):
        count -= 1
    if count != len(node.outputs) and not node.attributes.get_int("training_mode", 0):
        node.resize_outputs(count)


@cache
def _optional_outputs(op_type: str) -> tuple[bool, ...]:
    """Which outputs of a standard operator may be left out; empty if it has a free number of them."""
    if not onnx.defs.has(op_type):
        return ()
    kinds = [output.option for output in onnx.defs.get_schema(op_type).outputs]
    option = onnx.defs.OpSchema.FormalParameterOption
    return () if option.Variadic in kinds else tuple(kind == option.Optional for kind in kinds)
