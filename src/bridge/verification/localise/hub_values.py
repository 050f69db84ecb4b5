"""A task for a worker: the values of a hub graph, as read and in canonical form, under onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnx_ir as ir
import onnxruntime

from bridge.hub import metadata
from bridge.passes import pipeline
from bridge.worker.standalone import read_tensors, write_tensors

Array = np.ndarray[Any, np.dtype[Any]]

_IR_VERSION = 11


def compute(request: dict[str, Any]) -> dict[str, Any]:
    """Write the value `name` of the canonical graph, and the one made from the source's value `source`.

    `request`: `hub` (the file of the reader's graph), `inputs`, `name`, `source`, `results` (the file to
    write: `canonical` and `reader`, in the hub's order of axes, where there are such values, and
    `input:I`, what the node of `name` was fed with), `node` (the file for that node as a model).
    """
    feeds = read_tensors(request["inputs"], writable=True)
    model = ir.load(request["hub"])
    results = {}
    for value in _values(model):
        if metadata.source_value(value) == request["source"]:
            results["reader"] = run(model, feeds, [value.name or ""])[0]
            break
    canonical = pipeline.canonicalise(model)
    found = next((value for value in _values(canonical) if value.name == request["name"]), None)
    if found is not None:
        node, read = alone(found)
        arrays = run(canonical, feeds, [request["name"], *read])
        results["canonical"] = arrays[0]
        results.update((f"input:{position}", array) for position, array in enumerate(arrays[1:]))
        Path(request["node"]).write_bytes(node)
    write_tensors(request["results"], results)
    return {}


def extract(request: dict[str, Any]) -> dict[str, Any]:
    """Write the part of the ONNX model `file` from the values `inputs` to the value `output`.

    `out` is the file to write. Returns the names of its `inputs`, in their order.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(request["file"]))
    part = onnx.utils.Extractor(model).extract_model(request["inputs"], [request["output"]])
    onnx.save(part, request["out"])
    return {"inputs": [each.name for each in part.graph.input]}


def alone(value: ir.Value) -> tuple[bytes, list[str]]:
    """The node that computes a value as an ONNX model of its own, weights included, and what it reads."""
    node = value.producer()
    assert node is not None
    assert node.graph is not None
    names, graph = [], onnx.GraphProto(name="node")
    for each in dict.fromkeys(each for each in node.inputs if each is not None):
        if each.const_value is not None:
            tensor = onnx.numpy_helper.from_array(np.asarray(each.const_value.numpy()), each.name)
            graph.initializer.append(tensor)
        else:
            graph.input.append(ir.to_proto(each))
            names.append(each.name or "")
    graph.node.append(ir.to_proto(node))
    graph.output.append(ir.to_proto(value))
    opsets = [onnx.helper.make_opsetid(*each) for each in node.graph.opset_imports.items()]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    return model.SerializeToString(), names


def _values(model: ir.Model) -> list[ir.Value]:
    """The values that the main graph computes, the last first: moves of a value keep its source's name."""
    return [value for node in reversed(list(model.graph)) for value in node.outputs]


def run(model: ir.Model, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    """Values of the main graph by name, in the model's own precision, under onnxruntime without rewriting."""
    values = {value.name: value for value in [*model.graph.inputs, *_values(model)]}
    outputs = list(model.graph.outputs)
    model.graph.outputs[:] = [values[name] for name in names]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "model.onnx"
            ir.save(model, file, external_data="model.onnx.data", size_threshold_bytes=1024)
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            taken = {each.name: feeds[each.name] for each in session.get_inputs()}
            return [np.asarray(result) for result in session.run(None, taken)]
    finally:
        model.graph.outputs[:] = outputs
