"""A task for a worker: the values of a hub graph, as read and in canonical form, under onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from bridge.hub import metadata
from bridge.passes import pipeline
from bridge.worker.standalone import read_tensors, write_tensors

Array = np.ndarray[Any, np.dtype[Any]]


def compute(request: dict[str, Any]) -> dict[str, Any]:
    """Write the value `name` of the canonical graph, and the one made from the source's value `source`.

    `request`: `hub` (the file of the reader's graph), `inputs`, `name`, `source`, `results` (the file to
    write: `canonical` and `reader`, in the hub's order of axes, where there are such values).
    """
    feeds = read_tensors(request["inputs"], writable=True)
    model = ir.load(request["hub"])
    results = {}
    read = next(
        (value for value in _values(model) if metadata.source_value(value) == request["source"]), None
    )
    if read is not None:
        results["reader"] = run(model, feeds, [read.name or ""])[0]
    canonical = pipeline.canonicalise(model)
    if any(value.name == request["name"] for value in _values(canonical)):
        results["canonical"] = run(canonical, feeds, [request["name"]])[0]
    write_tensors(request["results"], results)
    return {}


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
