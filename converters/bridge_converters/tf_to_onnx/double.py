"""A TensorFlow model in double precision, computed by TensorFlow: what errors are measured against.

A Keras model is built again from its configuration with every float32 replaced by float64, so that its
constants are exact as well. Any other model keeps its graph, which is evaluated in float64. A Keras
model that cannot be built again is treated like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import tensorflow as tf

from bridge.formats.request import InputSpec, ReadRequest
from bridge_converters.tf_to_onnx.evaluate import Resource
from bridge_converters.tf_to_onnx.form import Form, Naming, Routine, function_routine
from bridge_converters.tf_to_onnx.functions import Signature, capture_handles, trace_signature
from bridge_converters.tf_to_onnx.lift import dataflow
from bridge_converters.tf_to_onnx.load import restored_session
from bridge_converters.tf_to_onnx.program import Program
from bridge_converters.tf_to_onnx.scopes import keras_scopes
from bridge_converters.tf_to_onnx.tf1 import GraphModel, default_inputs, open_graph

_NARROWER: Mapping[str, frozenset[str]] = {
    "float64": frozenset({"float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}),
    "float16": frozenset({"float32"}),
    "bfloat16": frozenset({"float32"}),
}
"""The dtypes and policies that give way to a dtype."""
FAILURES = (ValueError, TypeError, NotImplementedError, KeyError, AttributeError, tf.errors.OpError)
"""What building or tracing a model in a dtype that its author did not think of may raise."""
_DROPPING = ("rate", "stddev", "dropout", "recurrent_dropout", "_dropout")
_UNTRAINED = "Keras cannot build this model in float64, so that only its inference function is at hand"


def load_double(request: ReadRequest) -> Form:
    """The model of a request in float64; its floating inputs are widened, and its outputs are float64.

    Operators that TensorFlow has in float32 only stay in float32 between casts: `Form.single` names them.
    Raises what the reader raises while loading.
    """
    if request.format in ("keras", "h5", "h5_weights"):
        from bridge_converters.tf_to_onnx.keras_source import load_keras

        return keras_form(load_keras(request), request)
    if request.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import open_saved_model

        return function_form(open_saved_model(request))
    if request.format == "tf_bundle":
        from bridge_converters.tf_to_onnx.objects import exported_naming, open_exported

        signature = open_exported(request.path)
        return function_form(signature, naming=lambda: exported_naming(request.path, signature))
    model = open_graph(request)
    return graph_form(model, restored_session(model), request)


def function_form(
    signature: Signature, *, naming: Callable[[], Naming] | None = None, dtype: str | None = "float64"
) -> Form:
    """The form of a concrete function. Without `naming` its weights are called what the reader calls them."""
    routine = function_routine(signature, {})
    return Form(routine, naming or (lambda: function_naming(signature)), dtype=dtype)


def function_naming(signature: Signature) -> Naming:
    """What the reader calls the captures of a concrete function."""
    bundle = trace_signature(signature, format="saved_model", root_type="Model")
    return Naming({weight.node: (weight.path, weight.trainable) for weight in bundle.weights}, bundle.scopes)


def graph_form(
    model: GraphModel, session: tf.compat.v1.Session, request: ReadRequest, *, dtype: str | None = "float64"
) -> Form:
    """The form of a TensorFlow 1 graph whose variables a session holds."""
    needed = [name.partition(":")[0] for name in model.outputs.values()]
    graph = dataflow(model.graph, needed, control=True)
    default_inputs(graph, model.inputs.values())
    values = _session_values(session, graph)
    handles = {node.name for node in graph.node if node.op == "VarHandleOp"}

    def naming() -> Naming:
        from bridge_converters.tf_to_onnx.tf1 import trace_graph

        bundle = trace_graph(request)
        return Naming(
            {weight.node: (weight.path, weight.trainable) for weight in bundle.weights}, bundle.scopes
        )

    routine = Routine(
        Program(graph, list(model.outputs.values())),
        {name: tensor.partition(":")[0] for name, tensor in model.inputs.items()},
        tuple(model.outputs),
        {name: Resource(tf.constant(value)) for name, value in values.items()},
        frozenset(set(values) - handles),
    )
    return Form(routine, naming, dtype=dtype)


def _session_values(session: tf.compat.v1.Session, graph: tf.compat.v1.GraphDef) -> dict[str, Any]:
    """The values of the variables of a graph, or of the constants that freezing made of them."""
    from bridge_converters.tf_to_onnx.tf1 import weight_constants

    tensors = {}
    with session.graph.as_default():
        for node in graph.node:
            if node.op in ("Variable", "VariableV2"):
                tensors[node.name] = session.graph.get_tensor_by_name(f"{node.name}:0")
            elif node.op == "VarHandleOp":
                handle = session.graph.get_tensor_by_name(f"{node.name}:0")
                tensors[node.name] = tf.raw_ops.ReadVariableOp(
                    resource=handle, dtype=tf.as_dtype(node.attr["dtype"].type)
                )
    if tensors:
        return dict(session.run(tensors))
    constants = {node.name: node for node in graph.node if node.op == "Const"}
    return {name: tf.make_ndarray(constants[name].attr["value"].tensor) for name in weight_constants(graph)}


def keras_form(
    model: Any, request: ReadRequest, *, rebuild: Callable[[], Any] | None = None, dtype: str = "float64"
) -> Form:
    """The form of a Keras model: built again, traced again, and trainable; or else its inference graph.

    `rebuild` makes the same architecture where the model cannot say how it is built. In a narrower dtype
    than the model's the layers decide what they compute in float32 all the same.
    """
    from bridge_converters.tf_to_onnx.keras_source import plain_signature

    for make in _makers(model, request, rebuild, dtype):
        try:
            with default_dtype(dtype):
                with _names_from_the_start():
                    double = make()
                _take_weights(double, model, request, dtype)
                specs = _specs(request.inputs, dtype)
                return traced_keras_form(
                    double, specs, static_batch=request.static_batch, dtype=dtype, called=model
                )
        except FAILURES:
            continue
    signature = plain_signature(model, request.inputs, static_batch=request.static_batch)
    routine = function_routine(signature, {})
    return Form(routine, lambda: keras_naming(model, signature), no_training=_UNTRAINED, dtype=dtype)


def traced_keras_form(
    model: Any,
    inputs: Sequence[InputSpec],
    *,
    static_batch: bool = False,
    dtype: str = "float64",
    called: Any = None,
) -> Form:
    """The form of a Keras model that is of the wanted dtype already, `inputs` included.

    `called` is the model that it is a copy of; the weights are called what they are called there.
    """
    from bridge_converters.tf_to_onnx.keras_source import plain_signature

    signature = plain_signature(model, inputs, static_batch=static_batch)
    resources: dict[int, Resource] = {}

    def training() -> Routine:
        with default_dtype(dtype), without_dropout(model):
            traced = plain_signature(model, inputs, static_batch=static_batch, training=True)
        return function_routine(traced, resources, effects=True)

    return Form(
        function_routine(signature, resources),
        lambda: keras_naming(model, signature, called),
        training=training,
        dtype=dtype if dtype == "float64" else None,
    )


def keras_naming(model: Any, signature: Signature, called: Any = None) -> Naming:
    """What bridge calls the variables and layers of a Keras model, by the nodes of a function of it.

    `called` is a model of the same architecture whose variables lend their paths.
    """
    from bridge_converters.tf_to_onnx.keras_tree import layer_paths, variables

    own = variables(model, layer_paths(model))
    named = own if called is None else variables(called, layer_paths(called))
    known = {
        id(each.variable.value.handle): (name.path, name.trainable)
        for each, name in zip(own, named, strict=True)
    }
    weights = {node: known[handle] for node, handle in capture_handles(signature).items() if handle in known}
    graph = signature.function.graph.as_graph_def()
    reads: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            if name.partition(":")[0] in weights:
                reads.setdefault(node.name, []).append(name.partition(":")[0])
    return Naming(weights, keras_scopes((node.name for node in graph.node), reads=reads).scopes)


def _makers(
    model: Any, request: ReadRequest, rebuild: Callable[[], Any] | None, dtype: str
) -> list[Callable[[], Any]]:
    """Ways to build a Keras model again, under another default dtype."""
    import keras

    from bridge_converters.tf_to_onnx.keras_source import factory_model

    def deserialized() -> Any:
        config = _retyped(keras.saving.serialize_keras_object(model), dtype)
        return keras.saving.deserialize_keras_object(config, safe_mode=not request.trust)

    if request.format == "h5_weights":
        return [lambda: factory_model(request)]
    return [deserialized] if rebuild is None else [deserialized, rebuild]


def _take_weights(double: Any, model: Any, request: ReadRequest, dtype: str) -> None:
    """Give a rebuilt model the weights. Raises ValueError if a part of it stays in its precision."""
    from bridge_converters.tf_to_onnx.keras_source import example_inputs

    if not double.built:
        double(example_inputs(model, request.inputs, static_batch=request.static_batch))
    double.set_weights(model.get_weights())
    narrow = [each.path for each in double.weights if each.dtype in _NARROWER[dtype]]
    if narrow or any(each.compute_dtype in _NARROWER[dtype] for each in double._flatten_layers()):
        raise ValueError(f"{len(narrow)} variables stay in their precision")


def _retyped(config: Any, dtype: str) -> Any:
    """A serialised configuration with every dtype that gives way to `dtype` replaced by it."""
    if isinstance(config, dict):
        return {key: _retyped(value, dtype) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_retyped(value, dtype) for value in config)
    return dtype if isinstance(config, str) and config in _NARROWER[dtype] else config


def _specs(inputs: Sequence[InputSpec], dtype: str) -> tuple[InputSpec, ...]:
    return tuple(replace(each, dtype=dtype) if each.dtype in _NARROWER[dtype] else each for each in inputs)


@contextmanager
def default_dtype(dtype: str) -> Iterator[None]:
    """Let Keras build and compute in a dtype unless a layer says otherwise."""
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


@contextmanager
def _names_from_the_start() -> Iterator[None]:
    """Let Keras count the names of nameless layers as in a new process, so that a copy is called alike."""
    from keras.src.backend.common import global_state

    counts = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", counts)


@contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """Let no layer of a Keras model drop or disturb anything in training."""
    changed = []
    for layer in model._flatten_layers():
        for name in _DROPPING:
            value = vars(layer).get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                changed.append((layer, name, value))
                object.__setattr__(layer, name, 0.0)
    try:
        yield
    finally:
        for layer, name, value in changed:
            object.__setattr__(layer, name, value)
