"""Run a graph after the layout pass: channels-last nodes are put between the transposes they imply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from bridge.hub import metadata, recipe
from bridge.hub.recipe import Array

_SPATIAL_INPUTS = {"DeformConv": (0, 2, 4), "MaxUnpool": (0, 1)}


def as_onnx(model: ir.Model) -> onnx.ModelProto:
    """A valid ONNX model that computes what a laid-out graph means; strictly checked, shapes included."""
    model = ir.from_proto(ir.to_proto(model))
    for graph in (model.graph, *model.graph.subgraphs()):
        for node in list(graph):
            if metadata.layout_of(node) == "channels_last":
                _expand(graph, node)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _expand(graph: ir.Graph, node: ir.Node) -> None:
    for index in _SPATIAL_INPUTS.get(node.op_type, (0,)):
        value = node.inputs[index]
        if value is None:
            continue
        assert value.shape is not None
        rank = len(value.shape)
        perm = (0, rank - 1, *range(1, rank - 1))
        before = ir.node("Transpose", [value], {"perm": perm})
        before.outputs[0].name = f"{node.outputs[0].name}.implied_input_{index}"
        graph.insert_before(node, before)
        node.replace_input_with(index, before.outputs[0])
    for output in node.outputs:
        if output.shape is None or len(output.shape) < 3:
            continue
        rank = len(output.shape)
        after = ir.node("Transpose", [output], {"perm": (0, *range(2, rank), 1)})
        stored = after.outputs[0]
        output.replace_all_uses_with(stored, replace_graph_outputs=True)
        after.replace_input_with(0, output)
        stored.name, output.name = output.name, f"{output.name}.implied"
        stored.shape, output.shape = output.shape, None
        stored.type = output.type
        graph.insert_after(node, after)


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    """An onnxruntime session that computes the graph as written."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a model by name."""
    runner = session(proto)
    names = [output.name for output in runner.get_outputs()]
    return dict(zip(names, runner.run(names, dict(feeds)), strict=True))


def run_laid_out(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a laid-out model in the hub's order of axes, fed with arrays in the hub's order."""
    stored = {value.name: metadata.permutation_of(value) for value in model.graph.inputs}
    outputs = run(
        as_onnx(model),
        {
            name: array if stored[name] is None else np.ascontiguousarray(array.transpose(stored[name]))
            for name, array in feeds.items()
        },
    )
    for value in model.graph.outputs:
        perm = metadata.permutation_of(value)
        if perm is not None:
            outputs[value.name or ""] = outputs[value.name or ""].transpose(np.argsort(perm))
    return outputs


def operators(model: ir.Model) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in model.graph)


def internal_transposes(model: ir.Model) -> int:
    """How many Transposes neither read a graph input nor make a graph output."""
    return sum(
        node.op_type == "Transpose"
        and not (node.inputs[0] is not None and node.inputs[0].is_graph_input())
        and not node.outputs[0].is_graph_output()
        for node in model.graph
    )


def sources(model: ir.Model) -> dict[str, Array]:
    """The trained tensors of a model before any pass, by path."""
    return {
        info.path: value.const_value.numpy()
        for value in model.graph.initializers.values()
        if (info := metadata.weight_info(value)) is not None and value.const_value is not None
    }


def assert_recipes_hold(model: ir.Model, tensors: Mapping[str, Array]) -> None:
    """Every initializer with a recipe is what its recipe computes."""
    for value in model.graph.initializers.values():
        record = metadata.recipe_record(value)
        if record is not None:
            assert value.const_value is not None
            np.testing.assert_array_equal(
                recipe.run(recipe.from_json(record), tensors), value.const_value.numpy()
            )
