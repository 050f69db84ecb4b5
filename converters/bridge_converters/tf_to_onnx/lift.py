"""A concrete function as a GraphDef whose variables are placeholders.

TensorFlow's own freezer (`convert_variables_to_constants_v2`) knows how a variable that becomes a
tensor changes its readers, through While, If and nested calls. It is used here with placeholders
in place of constants, so no weight is ever copied into the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.grappler import tf_optimizer

from bridge.errors import BridgeError, InputError
from bridge.worker.compatible import zip_equal

_NOT_INLINED = ("_XlaMustCompile", "_noinline", "api_implements", "_XlaCompile")
_TABLE_HINT = (
    "bridge converts tensors only: cut the model after its lookup tables or text processing, "
    "and feed it their numeric result"
)


@dataclass(frozen=True)
class Capture:
    """A tensor from outside the function: the placeholder that stands for it and where its value is.

    `variable` is None for a plain eager tensor, whose value is `value`.
    """

    node: str
    variable: tf.Variable | None
    tensor: tf.Tensor | None

    @property
    def source(self) -> Any:
        """The variable or tensor itself."""
        return self.tensor if self.variable is None else self.variable

    def numpy(self) -> np.ndarray[Any, np.dtype[Any]]:
        return np.asarray(self.source.numpy())


@dataclass(frozen=True)
class Lifted:
    """A graph without resources, and what its placeholders beyond the function's arguments stand for."""

    graph: tf.compat.v1.GraphDef
    captures: tuple[Capture, ...]


def lift_variables(
    function: tf.types.experimental.ConcreteFunction,
    *,
    is_state: Callable[[tf.Tensor], bool] = lambda tensor: False,
) -> Lifted:
    """The inlined graph of a function, with captured variables and tensors as placeholders.

    Nodes are in the order in which the program made them. Control flow stays functional (While, If).
    Raises BridgeError for a function whose outputs may depend on variables that it changes, and InputError
    for one that captures anything but variables and numeric tensors.

    A small tensor from outside is a constant of the graph already; `is_state` says of which of them a
    placeholder shall be made all the same.
    """
    captures = tuple(_captures(function))
    lifted = lift_graph(
        function.graph.as_graph_def(),
        [tensor.name for tensor in function.inputs],
        [tensor.name for tensor in arguments(function)],
        [tensor.name for tensor in function.outputs],
        {
            capture.node: (capture.source.shape, capture.source.dtype)
            for capture in captures
            if capture.variable is not None or is_state(capture.source)
        },
    )
    placeholders = {node.name for node in lifted.node if node.op == "Placeholder"}
    return Lifted(lifted, tuple(capture for capture in captures if capture.node in placeholders))


def lift_graph(
    traced: tf.compat.v1.GraphDef,
    inputs: Sequence[str],
    arguments: Sequence[str],
    outputs: Sequence[str],
    variables: Mapping[str, tuple[tf.TensorShape, tf.DType]],
) -> tf.compat.v1.GraphDef:
    """The inlined graph that computes the outputs, with the `variables` among its nodes as placeholders.

    `inputs` are all tensors that come from outside, `arguments` those that are the function's own.
    """
    inlined = inline_functions(traced, [*inputs, *outputs])
    needed = [name.partition(":")[0] for name in (*arguments, *outputs)]
    graph_def = dataflow(inlined, needed)
    _refuse_visible_assignments(inlined, graph_def)
    nodes = {node.name for node in graph_def.node}
    lifted = lift_nodes(graph_def, {name: spec for name, spec in variables.items() if name in nodes})
    kept = dataflow(lifted, needed)
    _sort(kept, traced)
    return kept


def inline_functions(graph_def: tf.compat.v1.GraphDef, keep: Iterable[str]) -> tf.compat.v1.GraphDef:
    """Inline every call of a function; `keep` are the tensors that must stay.

    Attributes that forbid it are dropped first: Keras compiles grouped convolutions apart.
    """
    cleaned = tf.compat.v1.GraphDef()
    cleaned.CopyFrom(graph_def)
    for node in _all_nodes(cleaned):
        if "_lower_using_switch_merge" in node.attr:
            node.attr["_lower_using_switch_merge"].b = False
        for name in _NOT_INLINED:
            node.attr.pop(name, None)
    _split_gathers(cleaned.node, "", "")
    for definition in cleaned.library.function:
        for name in _NOT_INLINED:
            definition.attr.pop(name, None)
        _split_gathers(definition.node_def, ":value:0", ":output:0")
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    options.optimizers.append("function")
    options.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    with tf.Graph().as_default():
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=cleaned)
    fetches = meta_graph_pb2.CollectionDef()
    fetches.node_list.value.extend(keep)
    meta_graph.collection_def["train_op"].CopyFrom(fetches)
    inlined = tf_optimizer.OptimizeGraph(config, meta_graph)
    _drop_call_boundaries(inlined)
    return inlined


def _split_gathers(nodes: Any, read: str, constant: str) -> None:
    """Turn lookups in a variable into lookups in its value, which TensorFlow's converter knows everywhere.

    `read` and `constant` are the suffixes that outputs of ReadVariableOp and Const have where they are read.
    """
    for node in [node for node in nodes if node.op in ("ResourceGather", "ResourceGatherNd")]:
        dtype, indices = node.attr["dtype"].type, node.attr["Tindices"].type
        batch = node.attr["batch_dims"].i
        value = nodes.add(name=f"{node.name}/ReadVariableOp", op="ReadVariableOp", input=[node.input[0]])
        value.attr["dtype"].type = dtype
        inputs = [value.name + read, node.input[1]]
        controls = [name for name in node.input if name.startswith("^")]
        if node.op == "ResourceGather":
            axis = nodes.add(name=f"{node.name}/axis", op="Const")
            axis.attr["dtype"].type = tf.int32.as_datatype_enum
            axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(batch, tf.int32))
            inputs.append(axis.name + constant)
        node.op = "GatherV2" if node.op == "ResourceGather" else "GatherNd"
        node.ClearField("input")
        node.ClearField("attr")
        node.input.extend([*inputs, *controls])
        node.attr["Tparams"].type = dtype
        node.attr["Tindices"].type = indices
        if node.op == "GatherV2":
            node.attr["Taxis"].type = tf.int32.as_datatype_enum
            node.attr["batch_dims"].i = batch


def _drop_call_boundaries(graph_def: tf.compat.v1.GraphDef) -> None:
    """Let readers of the Identity nodes that inlining leaves at the borders of a call read their sources."""
    sources = {
        node.name: node.input[0]
        for node in graph_def.node
        if node.op == "Identity" and node.name.startswith("Func/")
    }
    for node in graph_def.node:
        for position, name in enumerate(node.input):
            while name.split(":")[0] in sources:
                name = sources[name.split(":")[0]]
            node.input[position] = name


def _sort(graph_def: tf.compat.v1.GraphDef, traced: tf.compat.v1.GraphDef) -> None:
    """Put inlined nodes into the order in which the calls and functions they come from list them."""
    functions = {each.signature.name: each.node_def for each in traced.library.function}
    order: dict[str, int] = {}
    pending = [("", node) for node in reversed(traced.node)]
    while pending:
        prefix, node = pending.pop()
        name = prefix + node.name
        order[name] = len(order)
        called = node.attr["f"].func.name if "f" in node.attr else ""
        pending.extend((f"{name}/", inner) for inner in reversed(functions.get(called, ())))
    nodes = sorted(graph_def.node, key=lambda node: order.get(node.name, len(order)))
    copies = [tf.compat.v1.NodeDef.FromString(node.SerializeToString()) for node in nodes]
    del graph_def.node[:]
    graph_def.node.extend(copies)


def dataflow(
    graph_def: tf.compat.v1.GraphDef, needed: Iterable[str], *, control: bool = False
) -> tf.compat.v1.GraphDef:
    """The part of a graph that the needed nodes compute their values from.

    Control dependencies are dropped unless `control` is set (loops of TensorFlow 1 need them). The order
    of nodes and all functions are kept. Raises InputError for a needed node that does not exist.
    """
    nodes = {node.name: node for node in graph_def.node}
    reached: set[str] = set()
    pending = list(needed)
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        if name not in nodes:
            raise InputError(f"the graph has no node {name!r}")
        reached.add(name)
        pending.extend(
            each.split(":")[0].lstrip("^")
            for each in nodes[name].input
            if control or not each.startswith("^")
        )
    kept = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in reached:
            copy = kept.node.add()
            copy.CopyFrom(node)
            copy.ClearField("input")
            copy.input.extend(each for each in node.input if control or not each.startswith("^"))
    return kept


def _refuse_visible_assignments(whole: tf.compat.v1.GraphDef, outputs_only: tf.compat.v1.GraphDef) -> None:
    """Raise BridgeError if what the outputs are computed from contains a variable that is changed.

    A recurrent layer of Keras that has a dropout rate moves its random seed in inference too, and does
    nothing with it.
    """
    refuse_assignments(outputs_only)
    read = {node.name for node in outputs_only.node}
    for node in whole.node:
        if _assigns(node) and node.input[0].split(":")[0] in read:
            _refuse_assignment(node)


def refuse_assignments(graph_def: tf.compat.v1.GraphDef) -> None:
    """Raise BridgeError if the graph or a function of it changes a variable while it computes."""
    for node in _all_nodes(graph_def):
        if _assigns(node):
            _refuse_assignment(node)


def _assigns(node: tf.compat.v1.NodeDef) -> bool:
    return node.op.startswith("Assign") or (node.op.startswith("Resource") and "Apply" in node.op)


def _refuse_assignment(node: tf.compat.v1.NodeDef) -> NoReturn:
    raise BridgeError(
        f"the model changes a variable while it computes ({node.op})",
        hint="export the inference function only, and call Dropout and random layers with training=False",
        where=node.name,
    )


def _all_nodes(graph_def: tf.compat.v1.GraphDef) -> Iterator[tf.compat.v1.NodeDef]:
    yield from graph_def.node
    for definition in graph_def.library.function:
        yield from definition.node_def


def arguments(function: tf.types.experimental.ConcreteFunction) -> list[tf.Tensor]:
    """The placeholders of a function's own arguments, without its captures."""
    placeholders: list[tf.Tensor] = function.inputs
    return placeholders[: len(function.inputs) - len(function.captured_inputs)]


def _captures(function: tf.types.experimental.ConcreteFunction) -> Iterator[Capture]:
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    for (_, inner), outer in zip_equal(function.graph.captures, function.captured_inputs):
        name = inner.op.name
        variable = variables.get(id(outer))
        if variable is not None:
            if not variable.shape.is_fully_defined():
                raise InputError(
                    f"the variable {variable.name!r} has no fixed shape", hint="give it one, then save again"
                )
            yield Capture(name, variable, None)
        elif outer.dtype in (tf.resource, tf.variant, tf.string):
            raise InputError(
                f"the model uses a resource that is no variable ({outer.dtype.name})",
                hint=_TABLE_HINT,
                where=getattr(outer, "name", None) if not tf.is_tensor(outer) else name,
            )
        else:
            yield Capture(name, None, outer)


def lift_nodes(
    graph_def: tf.compat.v1.GraphDef, variables: Mapping[str, tuple[tf.TensorShape, tf.DType]]
) -> tf.compat.v1.GraphDef:
    """A graph in which the named nodes (variables or constants) are placeholders, and their readers fit."""
    convertible = convert_to_constants._GraphDef(graph_def)
    for name, (shape, dtype) in variables.items():
        lift_node(convertible.nodes[name], shape, dtype)
    return convertible.converted_self().graph_def


def lift_node(handle: Any, shape: tf.TensorShape, dtype: tf.DType) -> None:
    """Turn one variable of TensorFlow's converter into a placeholder, and let its readers read a tensor."""
    data = convert_to_constants._TensorData(
        numpy=np.broadcast_to(np.zeros((), dtype.as_numpy_dtype), shape.as_list()),
        dtype=dtype.as_datatype_enum,
        index=None,
    )
    node = handle.converted_self().node
    node.Clear()
    node.name = handle.node.name
    node.op = "Placeholder"
    node.attr["dtype"].type = data.dtype
    node.attr["shape"].shape.CopyFrom(shape.as_proto())
    for edge in handle.outgoing_edges:
        edge.destination.convertible.convert_variable_to_constant(edge, data)
