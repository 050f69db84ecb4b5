"""The side of a TensorFlow file of any format: the model it holds, run by TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from bridge_converters.tf_to_onnx.double import load_double
from bridge_converters.tf_to_onnx.functions import Signature
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.load import FunctionRunnable, GraphRunnable, Runnable, restored_session

from bridge.formats.request import ReadRequest

Array = np.ndarray[Any, np.dtype[Any]]

_WHAT = {
    "keras": "Keras model",
    "h5": "Keras model",
    "h5_weights": "Keras model",
    "saved_model": "SavedModel",
    "tf_bundle": "the object in memory as a SavedModel",
}


def load(request: Mapping[str, Any]) -> TensorFlowSide:
    """Load the model of a ReadRequest (as JSON). Raises what the TensorFlow reader raises while loading."""
    read = ReadRequest.from_json(request)
    if read.format in ("keras", "h5", "h5_weights"):
        return _keras_side(read)
    if read.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import open_saved_model

        return _function_side(read, open_saved_model(read), None)
    if read.format == "tf_bundle":
        from bridge_converters.tf_to_onnx.bundle import Bundle
        from bridge_converters.tf_to_onnx.objects import open_exported

        bundle = Bundle.load(read.path)
        values = {weight.path: bundle.values[weight.node] for weight in bundle.weights}
        return _function_side(read, open_exported(read.path), values)
    return _graph_side(read)


def _keras_side(request: ReadRequest) -> TensorFlowSide:
    from bridge_converters.tf_to_onnx.keras_source import load_keras, plain_signature
    from bridge_converters.tf_to_onnx.keras_tree import layer_paths, variables

    model = load_keras(request)
    signature = plain_signature(model, request.inputs, static_batch=request.static_batch)
    captured = signature.function.captured_inputs
    if any(each.dtype != tf.resource for each in captured):
        return _function_side(request, signature, None)
    weights = {each.path: np.asarray(each.variable) for each in variables(model, layer_paths(model))}
    return _function_side(request, signature, weights)


def _function_side(
    request: ReadRequest, signature: Signature, weights: Mapping[str, Array] | None
) -> TensorFlowSide:
    return TensorFlowSide(request, FunctionRunnable(signature), arguments(signature.function), weights)


def _graph_side(request: ReadRequest) -> TensorFlowSide:
    from bridge_converters.tf_to_onnx.tf1 import open_graph

    model = open_graph(request)
    session = restored_session(model)
    tensors = [session.graph.get_tensor_by_name(name) for name in model.inputs.values()]
    return TensorFlowSide(request, GraphRunnable(session, model.inputs, model.outputs), tensors, None)


class TensorFlowSide:
    """See docs/worker-protocol.md for what a loaded model answers.

    `weights` are the tensors by path where they are at hand; otherwise the reader's trace finds them.
    """

    def __init__(
        self,
        request: ReadRequest,
        runnable: Runnable,
        tensors: Sequence[Any],
        weights: Mapping[str, Array] | None,
    ) -> None:
        self._request = request
        self._runnable = runnable
        self._weights = weights
        self._double: Runnable | None = None
        self.inputs = [
            {
                "name": name,
                "dtype": tensor.dtype.base_dtype.name,
                "shape": None if tensor.shape.rank is None else tensor.shape.as_list(),
            }
            for name, tensor in zip(runnable.input_names, tensors, strict=True)
        ]
        self.outputs = list(runnable.output_names)
        what = _WHAT.get(request.format, "TensorFlow 1 graph")
        self.what = f"{what} under TensorFlow {tf.__version__}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        if self._weights is not None:
            return dict(self._weights)
        from bridge_converters.tf_to_onnx.reader import trace

        bundle = trace(self._request)
        return {each.path: bundle.values[each.node] for each in bundle.weights}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        return self._runnable.run(feeds)

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._double is None:
            self._double = load_double(self._request)
        return self._double.run(feeds)
