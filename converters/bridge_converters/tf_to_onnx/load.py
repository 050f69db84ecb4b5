"""Run a TensorFlow model of any format in TensorFlow itself, as the reference to compare others with.

Nothing here goes through the reader's lifted graph, so that a fault of the reader cannot excuse itself;
only the interface (names and order of inputs and outputs) is shared with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge_converters.tf_to_onnx.functions import Signature
from bridge_converters.tf_to_onnx.runnable import FunctionRunnable as FunctionRunnable
from bridge_converters.tf_to_onnx.tf1 import GraphModel, default_inputs, open_graph

Array = npt.NDArray[Any]


class Runnable(Protocol):
    """A model that computes: named numpy arrays in, the outputs in order out."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(self, inputs: Mapping[str, Array]) -> list[Array]: ...


def load_runnable(request: ReadRequest) -> Runnable:
    """The model of a request in inference mode; inputs and outputs are named and ordered as the reader does.

    Raises the same errors as the reader for a file that cannot be loaded.
    """
    if request.format in ("keras", "h5", "h5_weights"):
        return FunctionRunnable(keras_signature(request))
    if request.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import open_saved_model

        return FunctionRunnable(open_saved_model(request))
    if request.format == "tf_bundle":
        from bridge_converters.tf_to_onnx.objects import open_exported

        return FunctionRunnable(open_exported(request.path))
    if request.format in ("saved_model_v1", "tf1_checkpoint", "frozen_graph"):
        model = open_graph(request)
        return GraphRunnable(restored_session(model), model.inputs, model.outputs)
    raise InputError(f"{request.format!r} is not a TensorFlow format that can be run", where=request.path)


def keras_signature(request: ReadRequest) -> Signature:
    """The inference function of a Keras file, traced as Keras computes it."""
    from bridge_converters.tf_to_onnx.keras_source import load_keras, plain_signature

    return plain_signature(load_keras(request), request.inputs, static_batch=request.static_batch)


class GraphRunnable:
    """Tensors of a graph, computed in a session."""

    def __init__(
        self, session: tf.compat.v1.Session, inputs: Mapping[str, str], outputs: Mapping[str, str]
    ) -> None:
        self.input_names = tuple(inputs)
        self.output_names = tuple(outputs)
        self._session = session
        self._inputs = dict(inputs)
        self._outputs = list(outputs.values())

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        feeds = {self._inputs[name]: inputs[name] for name in self.input_names}
        return [np.asarray(each) for each in self._session.run(self._outputs, feeds)]


def restored_session(model: GraphModel) -> tf.compat.v1.Session:
    """A session on a TensorFlow 1 graph with its variables restored from the checkpoint."""
    graph = tf.Graph()
    with graph.as_default():
        graph_def = tf.compat.v1.GraphDef()
        graph_def.CopyFrom(model.graph)
        for node in _every_node(graph_def):
            node.device = ""
        default_inputs(graph_def, model.inputs.values())
        tf.import_graph_def(graph_def, name="")
    session = tf.compat.v1.Session(graph=graph)
    if model.checkpoint is not None:
        _restore(session, model.checkpoint)
    return session


def _every_node(graph_def: tf.compat.v1.GraphDef) -> Iterator[tf.compat.v1.NodeDef]:
    yield from graph_def.node
    for definition in graph_def.library.function:
        yield from definition.node_def


def _restore(session: tf.compat.v1.Session, checkpoint: str) -> None:
    """Assign every variable of the graph that the checkpoint has a value for."""
    graph = session.graph
    reader = tf.train.load_checkpoint(checkpoint)
    assignments: list[Any] = []
    feeds: dict[Any, Array] = {}
    with graph.as_default():
        for operation in graph.get_operations():
            if operation.type not in ("Variable", "VariableV2", "VarHandleOp"):
                continue
            key = _stored_name(operation)
            if not reader.has_tensor(key):
                continue
            value = np.asarray(reader.get_tensor(key))
            fed = tf.compat.v1.placeholder(tf.as_dtype(value.dtype), value.shape)
            feeds[fed] = value
            handle = operation.outputs[0]
            if operation.type == "VarHandleOp":
                assignments.append(tf.raw_ops.AssignVariableOp(resource=handle, value=fed))
            else:
                assignments.append(tf.raw_ops.Assign(ref=handle, value=fed))
    session.run(assignments, feeds)


def _stored_name(operation: tf.Operation) -> str:
    shared = operation.get_attr("shared_name") if operation.type == "VarHandleOp" else b""
    return str(shared.decode() or operation.name)
