"""From a traced graph to tf2onnx's graph: TensorFlow's optimiser, then the conversion."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import ml_dtypes
import onnx
import tensorflow as tf
import tf2onnx
from tensorflow.core.framework import tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer
from tf2onnx import optimizer, tf_utils, tfonnx, utils

from bridge.errors import BridgeError, UnsupportedOp, UnsupportedOps
from bridge_converters.tf_to_onnx import markers
from bridge_converters.tf_to_onnx.array_writes import place_array_writes
from bridge_converters.tf_to_onnx.bundle import Bundle, Port
from bridge_converters.tf_to_onnx.cases import split_cases
from bridge_converters.tf_to_onnx.handlers import custom_handlers
from bridge_converters.tf_to_onnx.patching import replaced
from bridge_converters.tf_to_onnx.stopped import drop_stops_in_variances

OPSET = 18
"""The newest opset that tf2onnx 1.17 writes."""

OUTPUT = "bridge_output_"
"""The names of nodes that stand for the model's outputs start with this."""

_CONSTANT_REWRITERS = ("rewriter_lstm_tf2", "rewrite_single_direction_lstm", "rewrite_bi_direction_lstm")

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.OpError,
)

_HOPELESS = {
    "PyFunc": "it runs Python code that no other framework has",
    "EagerPyFunc": "it runs Python code that no other framework has",
    "LookupTableFindV2": "lookup tables hold no tensors",
    "LookupTableFind": "lookup tables hold no tensors",
    "HashTableV2": "lookup tables hold no tensors",
    "MutableHashTableV2": "lookup tables hold no tensors",
    "StringSplitV2": "strings are not converted",
    "StaticRegexReplace": "strings are not converted",
    "StringLower": "strings are not converted",
    "ParseExampleV2": "serialised examples are not converted",
    "ParseSingleExample": "serialised examples are not converted",
    "RaggedTensorToVariant": "ragged tensors are not converted",
    "RaggedTensorToTensor": "ragged tensors are not converted",
}


@dataclass(frozen=True)
class Exported:
    """tf2onnx's model and what its names mean.

    `outputs` are the names by which the graph knows the bundle's outputs, in their order. `shapes` are the
    shapes of its values, `source_shapes` those of the TensorFlow tensors (None for an unknown rank,
    -1 for an unknown axis).
    """

    model: onnx.ModelProto
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...] | None]
    source_shapes: Mapping[str, tuple[int, ...] | None]


def export(bundle: Bundle) -> Exported:
    """Convert a traced graph. Weights are graph inputs of the result.

    Raises UnsupportedOps listing every operator that has no counterpart, and BridgeError where tf2onnx
    fails on one.
    """
    graph_def = tf.compat.v1.GraphDef()
    graph_def.CopyFrom(bundle.graph)
    outputs = _add_outputs(graph_def, bundle.outputs)
    _refuse(graph_def, bundle)
    split_cases(graph_def)
    inputs = [port.tensor for port in bundle.inputs]
    weights = [f"{weight.node}:0" for weight in bundle.weights]
    graph_def = _optimise(graph_def, [*inputs, *weights], outputs)
    place_array_writes(graph_def)
    drop_stops_in_variances(graph_def)
    present = {node.name for node in graph_def.node}
    weights = [name for name in weights if name.split(":")[0] in present]
    utils.INTERNAL_NAME = 1
    with _quiet(), _without_constant_rewriters(), _keeping_bfloat16(), tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        try:
            converted = tfonnx.process_tf_graph(
                graph,
                continue_on_error=False,
                opset=OPSET,
                custom_op_handlers=custom_handlers(),
                input_names=[*inputs, *weights],
                output_names=outputs,
            )
            converted = optimizer.optimize_graph(converted, catch_errors=False, optimizers=_optimizers())
        except _FAILURES as error:
            raise BridgeError(
                f"tf2onnx cannot convert the graph: {_first_line(error)}",
                hint="bridge inspect lists the operators of the model; the message names the one that failed",
            ) from error
        names = [name for node in converted.get_nodes() for name in node.output]
        return Exported(
            converted.make_model("", graph_name="model"),
            tuple(outputs),
            shapes={name: _axes(converted.get_shape(name)) for name in names},
            source_shapes={
                tensor.name: None if tensor.shape.rank is None else _axes(tensor.shape.as_list())
                for operation in graph.get_operations()
                if not operation.name.startswith(OUTPUT)
                for tensor in operation.outputs
            },
        )


def _axes(shape: Sequence[int | None] | None) -> tuple[int, ...] | None:
    return None if shape is None else tuple(-1 if axis is None else axis for axis in shape)


def _add_outputs(graph_def: tf.compat.v1.GraphDef, ports: Sequence[Port]) -> list[str]:
    """Give every output a node of its own: an input, a weight or one tensor twice may be an output."""
    taken = {node.name for node in graph_def.node}
    names = []
    for position, port in enumerate(ports):
        name = f"{OUTPUT}{position}"
        while name in taken:
            name += "_"
        node = graph_def.node.add(name=name, op="Identity", input=[port.tensor])
        node.attr["T"].type = tf.as_dtype(port.dtype).as_datatype_enum
        names.append(f"{name}:0")
    return names


def _refuse(graph_def: tf.compat.v1.GraphDef, bundle: Bundle) -> None:
    found: dict[str, list[str]] = {}
    nodes = [*graph_def.node, *(node for each in graph_def.library.function for node in each.node_def)]
    for node in nodes:
        foreign = node.op == markers.OP_TYPE and markers.parse(node.attr["token"].s) is None
        if node.op in _HOPELESS or foreign:
            found.setdefault("PyFunc" if foreign else node.op, []).append(_place(node.name, bundle))
    if found:
        raise UnsupportedOps(
            [
                UnsupportedOp(op, "tensorflow", _HOPELESS[op], len(places), tuple(Counter(places)))
                for op, places in found.items()
            ],
            target="the ONNX hub",
            hint="cut the model before these operators, and feed the rest with numbers",
        )


def _place(node: str, bundle: Bundle) -> str:
    """The layer a node belongs to, else its own name."""
    prefix = node
    while prefix:
        scope = bundle.scopes.get(prefix)
        if scope:
            return ".".join(entry.name for entry in scope)
        prefix = prefix.rpartition("/")[0]
    return node


def _optimise(
    graph_def: tf.compat.v1.GraphDef, inputs: Sequence[str], outputs: Sequence[str]
) -> tf.compat.v1.GraphDef:
    """Fold constants, inline functions and drop control dependencies with TensorFlow's own optimiser.

    It allocates a feed for every placeholder; weights pose as ImmutableConst meanwhile, which it
    neither feeds nor folds, so that no memory is spent on them.
    """
    disguised: dict[str, tf.compat.v1.NodeDef] = {}
    weights = {name.split(":")[0] for name in inputs}
    for node in graph_def.node:
        shape = node.attr["shape"].shape if node.op == "Placeholder" else None
        if node.name in weights and shape is not None and _is_static(shape):
            disguised[node.name] = tf.compat.v1.NodeDef()
            disguised[node.name].CopyFrom(node)
            node.op = "ImmutableConst"
            node.attr["memory_region_name"].s = b"weight"
    config = config_pb2.ConfigProto()
    config.graph_options.infer_shapes = True
    options = config.graph_options.rewrite_options
    options.optimizers[:] = ["constfold", "function", "dependency"]
    options.experimental_disable_folding_quantization_emulation = True
    options.min_graph_nodes = -1
    with tf.Graph().as_default():
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def)
    fetches = meta_graph_pb2.CollectionDef()
    fetches.node_list.value.extend([*inputs, *outputs])
    meta_graph.collection_def["train_op"].CopyFrom(fetches)
    optimised = tf_optimizer.OptimizeGraph(config, meta_graph)
    for node in optimised.node:
        if node.name in disguised:
            node.CopyFrom(disguised[node.name])
    return optimised


def _is_static(shape: tensor_shape_pb2.TensorShapeProto) -> bool:
    return not shape.unknown_rank and all(dim.size > 0 for dim in shape.dim)


def _optimizers() -> Mapping[str, type]:
    """tf2onnx's optimizers but the one that writes Einsum as products of tensors of five axes."""
    return {
        name: each
        for name, each in optimizer._get_optimizers().items()
        if each is not optimizer.EinsumOptimizer
    }


@contextmanager
def _without_constant_rewriters() -> Iterator[None]:
    """Leave loops as they are: what finds an LSTM in one insists on its weights being constants."""
    with ExitStack() as stack:
        for name in _CONSTANT_REWRITERS:
            stack.enter_context(replaced(tfonnx, name, lambda graph, nodes: nodes))
        yield


@contextmanager
def _keeping_bfloat16() -> Iterator[None]:
    """Let bfloat16 be bfloat16: tf2onnx takes it for float16, which rounds and overflows elsewhere."""
    bfloat16 = onnx.TensorProto.BFLOAT16
    of_tf = {**tf_utils.TF_TO_ONNX_DTYPE, types_pb2.DT_BFLOAT16: bfloat16}
    to_numpy = {**utils.ONNX_TO_NUMPY_DTYPE, bfloat16: ml_dtypes.bfloat16}
    with replaced(tf_utils, "TF_TO_ONNX_DTYPE", of_tf), replaced(utils, "ONNX_TO_NUMPY_DTYPE", to_numpy):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tf2onnx's log to itself: what matters in it is raised."""
    logger = logging.getLogger(tf2onnx.__name__)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
