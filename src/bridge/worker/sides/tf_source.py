"""The side of a TensorFlow file of any format: the model it holds, run by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.double import function_form, graph_form, keras_form, keras_naming
from bridge_converters.tf_to_onnx.form import Form, Naming
from bridge_converters.tf_to_onnx.functions import Signature, call_flat
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.load import FunctionRunnable, GraphRunnable, restored_session

from bridge.formats.request import ReadRequest
from bridge.worker import device
from bridge.worker.sides.tf_side import Parts, TensorFlowSide, Trainer

Array = np.ndarray[Any, np.dtype[Any]]

_WHAT = {
    "keras": "Keras model",
    "h5": "Keras model",
    "h5_weights": "Keras model",
    "saved_model": "SavedModel",
    "tf_bundle": "the object in memory as a SavedModel",
}


def load(request: Mapping[str, Any]) -> TensorFlowSide:
    """Load the model of a ReadRequest (as JSON), with a `dtype` beside it that `run` shall compute in.

    Raises what the TensorFlow reader raises while loading.
    """
    record = dict(request)
    dtype = record.pop("dtype", None)
    device.tensorflow_device(tf)
    read = ReadRequest.from_json(record)
    what = _WHAT.get(read.format, "TensorFlow 1 graph")
    return TensorFlowSide(_parts(read), what=what, dtype=dtype)


def _parts(request: ReadRequest) -> Parts:
    if request.format in ("keras", "h5", "h5_weights"):
        from bridge_converters.tf_to_onnx.keras_source import load_keras

        return keras_parts(load_keras(request), request)
    if request.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import open_saved_model

        return function_parts(open_saved_model(request))
    if request.format == "tf_bundle":
        from bridge_converters.tf_to_onnx.objects import exported_naming, open_exported

        signature = open_exported(request.path)
        parts = function_parts(signature, lambda: exported_naming(request.path, signature))
        return replace(parts, weights=lambda: _kept_tensors(request.path) | parts.form("float64").stored())
    return _graph_parts(request)


def keras_parts(model: Any, request: ReadRequest, rebuild: Callable[[], Any] | None = None) -> Parts:
    """The parts of a Keras model; `rebuild` makes its architecture again where no configuration can.

    The inference function in float64 is the one that was traced for `run`. Gradients and training need the
    model built again, which takes as long as loading it.
    """
    from bridge_converters.tf_to_onnx.keras_source import plain_signature, trace_keras
    from bridge_converters.tf_to_onnx.keras_tree import layer_paths, variables

    def weights() -> dict[str, Array]:
        found = {each.path: np.asarray(each.variable) for each in variables(model, layer_paths(model))}
        if all(each.dtype == tf.resource for each in signature.function.captured_inputs):
            return found
        # A tensor that a layer keeps without a variable (Normalization with given statistics) has its name
        # from the reader.
        bundle = trace_keras(model, format="keras", inputs=request.inputs, static_batch=request.static_batch)
        return {**{each.path: bundle.values[each.node] for each in bundle.weights}, **found}

    signature = plain_signature(model, request.inputs, static_batch=request.static_batch)

    def form(dtype: str | None) -> Form:
        if dtype not in (None, "float64"):
            return keras_form(model, request, rebuild=rebuild, dtype=dtype)
        return function_form(signature, naming=lambda: keras_naming(model, signature), dtype=dtype)

    def trainer() -> Trainer:
        traced = plain_signature(
            model, request.inputs, static_batch=request.static_batch, training=True
        ).function
        return Trainer(
            lambda *tensors: call_flat(traced, tensors),
            [each if isinstance(each, tf.Variable) else each.value for each in model.trainable_variables],
        )

    return Parts(
        FunctionRunnable(signature),
        arguments(signature.function),
        form,
        weights,
        lambda: keras_form(model, request, rebuild=rebuild),
        trainer,
    )


def function_parts(signature: Signature, naming: Callable[[], Naming] | None = None) -> Parts:
    """The parts of a concrete function; without `naming` its weights have the reader's names."""
    return Parts(
        FunctionRunnable(signature),
        arguments(signature.function),
        lambda dtype: function_form(signature, naming=naming, dtype=dtype),
        trainer=lambda: Trainer(
            lambda *tensors: call_flat(signature.function, tensors),
            signature.function.trainable_variables,
            ["the file holds an inference function only: training steps are timed in inference mode"],
        ),
    )


def _kept_tensors(directory: str) -> dict[str, Array]:
    """Tensors that the object kept without variables: a SavedModel holds them as nameless constants."""
    bundle = Bundle.load(directory)
    return {each.path: bundle.values[each.node] for each in bundle.weights if each.kind == "buffer"}


def _graph_parts(request: ReadRequest) -> Parts:
    from bridge_converters.tf_to_onnx.tf1 import open_graph

    model = open_graph(request)
    session = restored_session(model)
    tensors = [session.graph.get_tensor_by_name(name) for name in model.inputs.values()]
    return Parts(
        GraphRunnable(session, model.inputs, model.outputs),
        tensors,
        lambda dtype: graph_form(model, session, request, dtype=dtype),
    )
