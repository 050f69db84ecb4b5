"""TensorFlow 1: checkpoints with their graph, v1 SavedModels and frozen graphs, without a Session."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import variable_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from bridge.errors import InputError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub.metadata import WeightKind
from bridge_converters.tf_to_onnx.bundle import Bundle, Port, Weight
from bridge_converters.tf_to_onnx.functions import port
from bridge_converters.tf_to_onnx.interface import find_inputs, find_outputs
from bridge_converters.tf_to_onnx.lift import dataflow, inline_functions, lift_nodes, refuse_assignments
from bridge_converters.tf_to_onnx.scopes import module_scopes

_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_STATISTICS_SLOTS = {"FusedBatchNorm": (3, 4), "FusedBatchNormV2": (3, 4), "FusedBatchNormV3": (3, 4)}
_WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    "BatchMatMulV2": (1,),
    "BiasAdd": (1,),
    "Conv2D": (1,),
    "Conv2DBackpropInput": (1,),
    "Conv3D": (1,),
    "Conv3DBackpropInputV2": (1,),
    "DepthwiseConv2dNative": (1,),
    "FusedBatchNorm": (1, 2, 3, 4),
    "FusedBatchNormV2": (1, 2, 3, 4),
    "FusedBatchNormV3": (1, 2, 3, 4),
    "GatherV2": (0,),
    "MatMul": (1,),
}
"""Where the trained operands of an operator are: for graphs whose reads of variables were optimised away."""
_ENTRANCES = frozenset({"Enter", "RefEnter", "RefSwitch", "Switch"})
_BIASED = frozenset({"BatchMatMulV2", "Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "MatMul"})


@dataclass
class GraphModel:
    """A TensorFlow 1 graph with its interface and, unless it is frozen, the file of its variables' values.

    `inputs` and `outputs` map the names users see to tensors (`node:index`).
    """

    graph: tf.compat.v1.GraphDef
    inputs: dict[str, str]
    outputs: dict[str, str]
    checkpoint: str | None = None
    trainable: frozenset[str] | None = None
    meta: meta_graph_pb2.MetaGraphDef | None = field(default=None, repr=False)


def open_graph(request: ReadRequest) -> GraphModel:
    """The graph in a TensorFlow 1 file, and what its inputs and outputs are.

    A SavedModel's signature says it. In any other graph the inputs are its placeholders (without those
    that only the loss reads) and the outputs what nothing else computes with.

    Raises InputError where the file cannot be parsed or the interface is ambiguous.
    """
    if request.format == "frozen_graph":
        graph = _parse(tf.compat.v1.GraphDef(), Path(request.path))
        return _with_interface(GraphModel(graph, {}, {}), request)
    if request.format == "tf1_checkpoint":
        meta = _parse(meta_graph_pb2.MetaGraphDef(), Path(f"{request.path}.meta"))
        model = GraphModel(meta.graph_def, {}, {}, request.path, _trainable(meta), meta)
        signature = _signature(meta.signature_def)
        if signature is not None:
            model.inputs, model.outputs = signature
            return model
        return _with_interface(model, request)
    saved = _parse(saved_model_pb2.SavedModel(), Path(request.path) / "saved_model.pb")
    meta = _serving(saved, request)
    checkpoint = str(Path(request.path) / "variables" / "variables")
    model = GraphModel(meta.graph_def, {}, {}, checkpoint, _trainable(meta), meta)
    signature = _signature(meta.signature_def)
    if signature is None:
        return _with_interface(model, request)
    model.inputs, model.outputs = signature
    return model


def trace_graph(request: ReadRequest) -> Bundle:
    """The bundle of a TensorFlow 1 model.

    Raises InputError for an input whose shape nobody knows and for values missing in the checkpoint.
    """
    started = time.perf_counter()
    model = open_graph(request)
    tensors = [*model.inputs.values(), *model.outputs.values()]
    graph = dataflow(model.graph, [tensor.split(":")[0] for tensor in tensors])
    if graph.library.function:
        graph = inline_functions(graph, tensors)
    default_inputs(graph, model.inputs.values())
    refuse_assignments(graph)
    values = _constants(graph) if model.checkpoint is None else _values(graph, model.checkpoint)
    roles = _roles(graph, values, model.trainable)
    lifted = lift_nodes(
        graph,
        {name: (tf.TensorShape(value.shape), tf.as_dtype(value.dtype)) for name, value in values.items()},
    )
    _set_input_shapes(lifted, model, request)
    shapes = _import(lifted, request)
    inputs = tuple(_port(name, tensor, shapes) for name, tensor in model.inputs.items())
    outputs = tuple(_port(name, tensor, shapes) for name, tensor in model.outputs.items())
    for each in inputs:
        if each.shape is None:
            raise InputError(
                f"the graph does not say what shape its input {each.name!r} has",
                hint=f"say it, with a letter for what varies: --input {each.name}=Nx224x224x3",
                where=request.path,
            )
    return Bundle(
        graph=lifted,
        inputs=inputs,
        outputs=outputs,
        weights=tuple(Weight(name, name, *roles[name]) for name in values),
        values=values,
        format=request.format,
        root_type="Model",
        batched=len(inputs) == 1,
        scopes=module_scopes((name, tuple(name.split("/")[:-1])) for name in values),
        seconds=time.perf_counter() - started,
    )


def default_inputs(graph: tf.compat.v1.GraphDef, inputs: Iterable[str]) -> None:
    """Let placeholders with a default (a Dropout switch, for example) have that, unless they are inputs."""
    fed = {tensor.split(":")[0] for tensor in inputs}
    for node in graph.node:
        if node.op == "PlaceholderWithDefault" and node.name not in fed:
            node.op = "Identity"
            node.attr["T"].type = node.attr.pop("dtype").type
            node.attr.pop("shape", None)
        elif node.op == "PlaceholderWithDefault":
            node.op = "Placeholder"
            del node.input[:]


def weight_constants(graph: tf.compat.v1.GraphDef) -> list[str]:
    """The constants of a frozen graph that were variables, in the order of the graph.

    A frozen variable is a constant read by an Identity of the name that reading a variable had. Where a
    tool removed those, it is a constant of floating point in a place for trained operands.
    """
    constants = {node.name: node for node in graph.node if node.op == "Const"}
    nodes = {node.name: node for node in graph.node}
    operators = {node.name: node.op for node in graph.node}
    read: set[str] = set()
    placed: set[str] = set()
    for node in graph.node:
        sources = [_before_control_flow(name, nodes) for name in node.input]
        if node.op == "Identity" and sources[0] in constants and _reads_variable(node.name, sources[0]):
            read.add(sources[0])
        if node.op in ("Add", "AddV2"):
            placed.update(_biases(sources, constants, operators))
        for slot in _WEIGHT_SLOTS.get(node.op, ()):
            if slot < len(sources) and sources[slot] in constants:
                placed.add(sources[slot])
    found = read or {name for name in placed if tf.as_dtype(constants[name].attr["dtype"].type).is_floating}
    return [name for name in constants if name in found]


def _before_control_flow(name: str, nodes: Mapping[str, tf.compat.v1.NodeDef]) -> str:
    """The node whose tensor a branch or a loop takes from outside; the node itself elsewhere."""
    name = name.split(":")[0].lstrip("^")
    while nodes[name].op in _ENTRANCES:
        name = nodes[name].input[0].split(":")[0]
    return name


def _biases(
    sources: list[str], constants: Mapping[str, tf.compat.v1.NodeDef], operators: Mapping[str, str]
) -> Iterator[str]:
    """The constants of rank 1 that are added to what an operator with weights computes."""
    for name, other in (sources, sources[::-1]):
        if name in constants and operators.get(other) in _BIASED:
            shape = constants[name].attr["value"].tensor.tensor_shape
            if len(shape.dim) == 1:
                yield name


def _reads_variable(name: str, constant: str) -> bool:
    return name == f"{constant}/read" or "ReadVariableOp" in name.rpartition("/")[2]


def _parse(message: Any, path: Path) -> Any:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{path.name} is missing",
            hint="a TensorFlow 1 checkpoint is read with its .meta, .index and .data files beside each other",
            where=str(path),
        ) from error
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise InputError("the file is truncated or is no TensorFlow graph", where=str(path)) from error
    return message


def _serving(saved: saved_model_pb2.SavedModel, request: ReadRequest) -> meta_graph_pb2.MetaGraphDef:
    tagged = [meta for meta in saved.meta_graphs if "serve" in meta.meta_info_def.tags]
    found = tagged or list(saved.meta_graphs)
    if not found:
        raise InputError("the SavedModel holds no graph", where=request.path)
    return found[0]


def _signature(signatures: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]] | None:
    """The inputs and outputs of the default signature, or of the only one."""
    named = {name: each for name, each in signatures.items() if not name.startswith("__saved_model")}
    chosen = named.get("serving_default") or (next(iter(named.values())) if len(named) == 1 else None)
    if chosen is None or not chosen.outputs:
        return None
    return (
        {name: info.name for name, info in sorted(chosen.inputs.items())},
        {name: info.name for name, info in sorted(chosen.outputs.items())},
    )


def _with_interface(model: GraphModel, request: ReadRequest) -> GraphModel:
    shapes = _import(model.graph, request)
    model.outputs = find_outputs(model.graph, shapes, where=request.path)
    model.inputs = find_inputs(model.graph, model.outputs.values(), where=request.path)
    return model


def _trainable(meta: meta_graph_pb2.MetaGraphDef) -> frozenset[str] | None:
    """The names of the variables that were trained; None if the graph does not say."""
    if "trainable_variables" not in meta.collection_def:
        return None
    names = set()
    for content in meta.collection_def["trainable_variables"].bytes_list.value:
        names.add(variable_pb2.VariableDef.FromString(content).variable_name.split(":")[0])
    return frozenset(names)


def _constants(graph: tf.compat.v1.GraphDef) -> dict[str, npt.NDArray[Any]]:
    wanted = set(weight_constants(graph))
    return {
        node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if node.name in wanted
    }


def _values(graph: tf.compat.v1.GraphDef, checkpoint: str) -> dict[str, npt.NDArray[Any]]:
    names = [node.name for node in graph.node if node.op in _VARIABLES]
    if not names:
        return {}
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        keys = {node.name: _checkpoint_key(node) for node in graph.node if node.op in _VARIABLES}
        missing = sorted(key for key in keys.values() if not reader.has_tensor(key))
        if missing:
            raise InputError(
                f"the checkpoint has no value for {len(missing)} variable(s) of the graph: "
                f"{', '.join(missing[:5])}",
                hint="give the checkpoint that was saved with this graph",
                where=checkpoint,
            )
        return {name: np.asarray(reader.get_tensor(key)) for name, key in keys.items()}
    except (tf.errors.OpError, ValueError) as error:
        raise InputError(
            f"the values of the variables cannot be read: {str(error).strip().splitlines()[0]}",
            hint="keep the .index and .data files beside each other",
            where=checkpoint,
        ) from error


def _checkpoint_key(node: tf.compat.v1.NodeDef) -> str:
    shared = node.attr["shared_name"].s.decode() if node.op == "VarHandleOp" else ""
    return shared or node.name


def _roles(
    graph: tf.compat.v1.GraphDef,
    values: Mapping[str, npt.NDArray[Any]],
    trainable: frozenset[str] | None,
) -> dict[str, tuple[WeightKind, bool]]:
    """Which variables training moves. A frozen graph does not say: floating ones, without statistics."""
    if trainable is not None:
        return {name: ("parameter", True) if name in trainable else ("buffer", False) for name in values}
    statistics = _statistics(graph)
    return {
        name: ("buffer", False) if name in statistics or value.dtype.kind not in "fV" else ("parameter", True)
        for name, value in values.items()
    }


def _statistics(graph: tf.compat.v1.GraphDef) -> set[str]:
    """The moving statistics of batch normalization: by their place, or by the names TensorFlow gives them."""
    nodes = {node.name: node for node in graph.node}
    found = {name for name in nodes if name.rpartition("/")[2] in ("moving_mean", "moving_variance")}
    for node in graph.node:
        for slot in _STATISTICS_SLOTS.get(node.op, ()):
            source = nodes[node.input[slot].split(":")[0]]
            while source.op in ("Identity", "ReadVariableOp"):
                source = nodes[source.input[0].split(":")[0]]
            found.add(source.name)
    return found


def _set_input_shapes(graph: tf.compat.v1.GraphDef, model: GraphModel, request: ReadRequest) -> None:
    """Put the shapes the user gave, or a fixed batch, into the placeholders."""
    nodes = {node.name: node for node in graph.node}
    specs = _specs_by_name(request.inputs, list(model.inputs), request)
    for name, tensor in model.inputs.items():
        node = nodes[tensor.split(":")[0]]
        if name in specs:
            shape = tf.TensorShape([None if isinstance(axis, str) else axis for axis in specs[name].shape])
            node.attr["shape"].shape.CopyFrom(shape.as_proto())
        declared = node.attr["shape"].shape
        if request.static_batch and declared.dim and declared.dim[0].size == -1:
            declared.dim[0].size = 1


def _specs_by_name(
    specs: tuple[InputSpec, ...], names: list[str], request: ReadRequest
) -> dict[str, InputSpec]:
    if not specs:
        return {}
    if all(each.name is not None for each in specs):
        found = {str(each.name): each for each in specs}
        unknown = sorted(set(found) - set(names))
        if unknown:
            raise InputError(
                f"the graph has no input {unknown[0]!r}",
                hint=f"its inputs are {', '.join(names)}",
                where=request.path,
            )
        return found
    if len(specs) != len(names):
        raise InputError(
            f"the graph has {len(names)} input(s) ({', '.join(names)}), but {len(specs)} were specified",
            hint="name them: --input name=SHAPE",
            where=request.path,
        )
    return dict(zip(names, specs, strict=True))


def _import(graph: tf.compat.v1.GraphDef, request: ReadRequest) -> tf.Graph:
    """TensorFlow's own graph, with inferred shapes. Raises InputError for operators it does not know."""
    with tf.Graph().as_default() as imported:
        try:
            tf.import_graph_def(graph, name="")
        except (ValueError, tf.errors.OpError) as error:
            raise InputError(
                f"TensorFlow refuses the graph: {str(error).strip().splitlines()[0]}",
                hint="name the module that registers its custom operators: --custom-objects pkg.mod",
                where=request.path,
            ) from error
    return imported


def _port(name: str, tensor: str, graph: tf.Graph) -> Port:
    return port(name, graph.get_tensor_by_name(tensor))
