"""A TensorFlow model in double precision, run by TensorFlow: the reference that errors are measured against.

A Keras model is built again from its configuration with every float32 replaced by float64. Any other
graph is frozen by TensorFlow itself, its control flow lowered, and its types are rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bridge.errors import BridgeError
from bridge.formats.request import ReadRequest
from bridge_converters.tf_to_onnx.functions import Signature
from bridge_converters.tf_to_onnx.lift import dataflow, inline_functions
from bridge_converters.tf_to_onnx.load import (
    Array,
    FunctionRunnable,
    GraphRunnable,
    Runnable,
    restored_session,
)
from bridge_converters.tf_to_onnx.tf1 import open_graph

_SINGLE = frozenset({"float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"})
_SINGLE_TYPES = frozenset({types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16})
_FAILURES = (ValueError, TypeError, NotImplementedError, KeyError, AttributeError, tf.errors.OpError)


def load_double(request: ReadRequest) -> Runnable:
    """The model of a request in float64; its floating inputs are widened, and its outputs are float64.

    Operators that TensorFlow has in float32 only (image resizing) stay in float32 between casts.
    Raises BridgeError where TensorFlow cannot compute the model in double precision.
    """
    if request.format in ("keras", "h5", "h5_weights"):
        return _double_keras(request)
    if request.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import open_saved_model

        return _double_function(open_saved_model(request))
    if request.format == "tf_bundle":
        from bridge_converters.tf_to_onnx.objects import open_exported

        return _double_function(open_exported(request.path))
    model = open_graph(request)
    session = restored_session(model)
    names = [tensor.split(":")[0] for tensor in model.outputs.values()]
    with session.graph.as_default():
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), names
        )
    return _run_graph(frozen, model.inputs, model.outputs)


class _Widened:
    """A model of float64 inputs that takes inputs of any floating type."""

    def __init__(self, model: Runnable) -> None:
        self.input_names = model.input_names
        self.output_names = model.output_names
        self._model = model

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        return self._model.run({name: _widen(inputs[name]) for name in self.input_names})


def _widen(value: Array) -> Array:
    floating = value.dtype.kind == "f" or value.dtype.name == "bfloat16"
    return value.astype(np.float64) if floating else value


def _double_keras(request: ReadRequest) -> Runnable:
    from bridge_converters.tf_to_onnx.keras_source import load_keras, plain_signature

    model = load_keras(request)
    try:
        with _default_dtype("float64"):
            double = _rebuild(model, request)
            signature = plain_signature(double, _double_specs(request), static_batch=request.static_batch)
    except _FAILURES:
        return _double_function(plain_signature(model, request.inputs, static_batch=request.static_batch))
    return _Widened(FunctionRunnable(signature))


def _rebuild(model: Any, request: ReadRequest) -> Any:
    """The same Keras model in float64, with the same weights. Raises ValueError if a part stays narrower."""
    import keras

    from bridge_converters.tf_to_onnx.keras_source import factory_model

    if request.format == "h5_weights":
        double = factory_model(request)
    else:
        config = _doubled(keras.saving.serialize_keras_object(model))
        double = keras.saving.deserialize_keras_object(config, safe_mode=not request.trust)
    if not double.built:
        double.build(model.input_shape)
    double.set_weights(model.get_weights())
    narrow = [each.path for each in double.weights if each.dtype in _SINGLE]
    if narrow or any(each.compute_dtype in _SINGLE for each in double._flatten_layers()):
        raise ValueError(f"{len(narrow)} variables stay in single precision")
    return double


def _doubled(config: Any) -> Any:
    """A serialised configuration with every narrower floating dtype replaced by float64."""
    if isinstance(config, dict):
        return {key: _doubled(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_doubled(value) for value in config)
    return "float64" if isinstance(config, str) and config in _SINGLE else config


def _double_specs(request: ReadRequest) -> tuple[Any, ...]:
    return tuple(replace(each, dtype="float64") if each.dtype in _SINGLE else each for each in request.inputs)


@contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def _double_function(signature: Signature) -> Runnable:
    """A concrete function, frozen by TensorFlow and rewritten."""
    frozen = convert_variables_to_constants_v2(
        signature.function, lower_control_flow=True, aggressive_inlining=True
    )
    return _run_graph(
        frozen.graph.as_graph_def(),
        dict(zip(signature.inputs, [tensor.name for tensor in frozen.inputs], strict=True)),
        dict(zip(signature.outputs, [tensor.name for tensor in frozen.outputs], strict=True)),
    )


def _run_graph(
    frozen: tf.compat.v1.GraphDef, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> Runnable:
    needed = [tensor.split(":")[0] for tensor in (*inputs.values(), *outputs.values())]
    kept = dataflow(frozen, needed, control=True)
    if kept.library.function:
        kept = inline_functions(kept, [*inputs.values(), *outputs.values()])
    rewritten = widen_graph(kept)
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(rewritten, name="")
        except (ValueError, tf.errors.OpError) as error:
            raise BridgeError(
                f"TensorFlow cannot compute this model in float64: {str(error).strip().splitlines()[0]}",
                hint="compare in float32 with tolerances instead",
            ) from error
    return _Widened(GraphRunnable(tf.compat.v1.Session(graph=graph), inputs, outputs))


def widen_graph(graph_def: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """A graph without functions in which every floating tensor is float64.

    FusedBatchNorm, which exists in single precision only, is decomposed. Other operators whose
    definition rules out float64 keep float32, with casts around them. Raises BridgeError for a
    FusedBatchNorm in training mode.
    """
    result = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.op.startswith("FusedBatchNorm"):
            _decompose_batch_norm(node, result)
            continue
        widened = result.node.add()
        widened.CopyFrom(node)
        for name in ("_output_shapes", "_class"):
            widened.attr.pop(name, None)
        definition = op_def_registry.get(node.op)
        if definition is None or node.op == "Cast":
            _widen_types(widened)
            continue
        if node.op == "Const":
            _widen_constant(widened)
            continue
        single = {
            attr.name
            for attr in definition.attr
            if attr.HasField("allowed_values")
            and attr.allowed_values.list.type
            and types_pb2.DT_DOUBLE not in attr.allowed_values.list.type
        }
        _widen_types(widened, keep=single)
        _cast_borders(widened, definition, single, result)
    return result


def _widen_types(node: tf.compat.v1.NodeDef, keep: set[str] | frozenset[str] = frozenset()) -> None:
    for name, attr in node.attr.items():
        if name in keep:
            continue
        if attr.type in _SINGLE_TYPES:
            attr.type = types_pb2.DT_DOUBLE
        for position, each in enumerate(attr.list.type):
            if each in _SINGLE_TYPES:
                attr.list.type[position] = types_pb2.DT_DOUBLE


def _widen_constant(node: tf.compat.v1.NodeDef) -> None:
    if node.attr["dtype"].type in _SINGLE_TYPES:
        value = tf.make_ndarray(node.attr["value"].tensor).astype(np.float64)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        node.attr["dtype"].type = types_pb2.DT_DOUBLE


def _cast_borders(
    node: tf.compat.v1.NodeDef, definition: Any, single: set[str], graph_def: tf.compat.v1.GraphDef
) -> None:
    """Casts where an operator takes or gives float32 whatever its attributes say."""

    def is_single(argument: Any) -> bool:
        if argument.type_attr:
            return argument.type_attr in single and node.attr[argument.type_attr].type in _SINGLE_TYPES
        return argument.type in _SINGLE_TYPES

    if any(argument.number_attr or argument.type_list_attr for argument in definition.input_arg):
        return
    for position, argument in enumerate(definition.input_arg):
        if is_single(argument):
            dtype = node.attr[argument.type_attr].type if argument.type_attr else argument.type
            name = f"{node.name}/bridge_narrow_{position}"
            _cast(graph_def, name, node.input[position], types_pb2.DT_DOUBLE, dtype)
            node.input[position] = name
    outputs = [position for position, argument in enumerate(definition.output_arg) if is_single(argument)]
    if outputs == [0] and len(definition.output_arg) == 1:
        argument = definition.output_arg[0]
        dtype = node.attr[argument.type_attr].type if argument.type_attr else argument.type
        name = node.name
        node.name = f"{name}/bridge_narrow"
        _cast(graph_def, name, node.name, dtype, types_pb2.DT_DOUBLE)
    elif outputs:
        raise BridgeError(f"TensorFlow has {node.op} in single precision only", where=node.name)


def _cast(graph_def: tf.compat.v1.GraphDef, name: str, source: str, before: int, after: int) -> None:
    node = graph_def.node.add(name=name, op="Cast", input=[source])
    node.attr["SrcT"].type = before
    node.attr["DstT"].type = after


def _decompose_batch_norm(node: tf.compat.v1.NodeDef, graph_def: tf.compat.v1.GraphDef) -> None:
    """(x - mean) * rsqrt(variance + epsilon) * scale + offset, channels where `data_format` says."""
    if node.attr["is_training"].b:
        raise BridgeError("a FusedBatchNorm in training mode has no float64 kernel", where=node.name)
    x, scale, offset, mean, variance = node.input[:5]
    if node.attr["data_format"].s.startswith(b"NC"):
        spatial = 3 if len(node.attr["data_format"].s) == 5 else 2
        shape = tf.make_tensor_proto([-1] + [1] * spatial, tf.int32)
        _constant(graph_def, f"{node.name}/shape", shape)
        reshaped = []
        for name, source in zip(
            ("scale", "offset", "mean", "variance"), (scale, offset, mean, variance), strict=True
        ):
            made = _node(graph_def, f"{node.name}/{name}", "Reshape", source, f"{node.name}/shape")
            reshaped.append(made)
        scale, offset, mean, variance = reshaped
    _constant(graph_def, f"{node.name}/epsilon", tf.make_tensor_proto(node.attr["epsilon"].f, tf.float64))
    shifted = _node(graph_def, f"{node.name}/shifted", "AddV2", variance, f"{node.name}/epsilon")
    inverse = _node(graph_def, f"{node.name}/inverse", "Rsqrt", shifted)
    factor = _node(graph_def, f"{node.name}/factor", "Mul", inverse, scale)
    centred = _node(graph_def, f"{node.name}/centred", "Sub", x, mean)
    scaled = _node(graph_def, f"{node.name}/scaled", "Mul", centred, factor)
    _node(graph_def, node.name, "AddV2", scaled, offset)


def _node(graph_def: tf.compat.v1.GraphDef, name: str, op: str, *inputs: str) -> str:
    node = graph_def.node.add(name=name, op=op, input=list(inputs))
    node.attr["T"].type = types_pb2.DT_DOUBLE
    if op == "Reshape":
        node.attr["Tshape"].type = types_pb2.DT_INT32
    return name


def _constant(graph_def: tf.compat.v1.GraphDef, name: str, value: Any) -> None:
    node = graph_def.node.add(name=name, op="Const")
    node.attr["dtype"].type = value.dtype
    node.attr["value"].tensor.CopyFrom(value)
