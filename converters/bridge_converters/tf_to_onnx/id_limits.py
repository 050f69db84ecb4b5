"""How many ids an input may choose among: the rows of the tables that are looked up with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from bridge.worker.compatible import zip_equal

try:
    from tensorflow.python.ops.handle_data_util import get_resource_handle_data
except ImportError:  # TensorFlow 1
    from tensorflow.python.ops.resource_variable_ops import (
        get_resource_handle_data,
    )

_NAMES = """
    Cast ConcatV2 EnsureShape ExpandDims Identity Pack Pad PadV2 Reshape Select SelectV2 Slice Snapshot
    Squeeze StopGradient StridedSlice Tile Transpose
"""
_MOVES = frozenset(_NAMES.split())
"""Operators whose result holds the very ids that went in."""
_TABLES = frozenset({"Cast", "Enter", "Identity", "ReadVariableOp", "Snapshot"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_LOOKUPS = frozenset({"Gather", "GatherV2", "ResourceGather"})


def id_limits(inputs: Sequence[tf.Tensor]) -> list[int | None]:
    """For each input the least number of rows of a table that it indexes, None where it indexes none.

    Lookups inside loops and branches are not followed.
    """
    limits: dict[int, int] = {}
    graphs = {tensor.graph for tensor in inputs}
    for graph in graphs:
        origins = {
            _key(tensor): frozenset([position])
            for position, tensor in enumerate(inputs)
            if tensor.graph is graph
        }
        _follow(graph, origins, {}, limits)
    return [limits.get(position) for position in range(len(inputs))]


def _follow(
    graph: Any,
    origins: dict[Any, frozenset[int]],
    rows: dict[Any, tuple[int | None, ...]],
    limits: dict[int, int],
) -> None:
    """Pass on which inputs' ids a tensor holds (`origins`), and the shapes of tables (`rows`)."""
    for operation in graph.get_operations():
        read = list(operation.inputs)
        if operation.type in _LOOKUPS:
            _look_up(operation, origins, rows, limits)
            continue
        if operation.type in _CALLS:
            _enter(operation, graph, origins, rows, limits)
            continue
        if operation.type in _TABLES and read and _key(read[0]) in rows:
            rows[_key(operation.outputs[0])] = rows[_key(read[0])]
        if operation.type in _MOVES:
            held = frozenset().union(*(origins.get(_key(tensor), frozenset()) for tensor in read))
            if held:
                origins[_key(operation.outputs[0])] = held


def _look_up(
    operation: Any,
    origins: Mapping[Any, frozenset[int]],
    rows: Mapping[Any, tuple[int | None, ...]],
    limits: dict[int, int],
) -> None:
    table, indices = operation.inputs[:2]
    axis = 0
    if operation.type == "GatherV2":
        constant = tf.get_static_value(operation.inputs[2])
        if constant is None or operation.get_attr("batch_dims"):
            return
        axis = int(constant)
    shape = rows.get(_key(table)) or _shape(table)
    if not shape or _key(table) in origins or not -len(shape) <= axis < len(shape):
        return
    size = shape[axis]
    if size is None:
        return
    for position in origins.get(_key(indices), ()):
        limits[position] = min(size, limits.get(position, size))


def _shape(table: tf.Tensor) -> tuple[int | None, ...]:
    """The static shape of a table; behind a handle that of its variable."""
    if table.dtype != tf.resource:
        return tuple(table.shape.as_list()) if table.shape.rank is not None else ()
    data = getattr(table, "_handle_data", None) or get_resource_handle_data(table)
    pairs = data.shape_and_type if data is not None and data.is_set else ()
    return tuple(tf.TensorShape(pairs[0].shape).as_list()) if pairs else ()


def _enter(
    operation: Any,
    graph: Any,
    origins: Mapping[Any, frozenset[int]],
    rows: Mapping[Any, tuple[int | None, ...]],
    limits: dict[int, int],
) -> None:
    inner = _body(graph, operation.get_attr("f").name)
    pairs = list(zip_equal(operation.inputs, inner.inputs))
    held = {_key(argument): origins[_key(tensor)] for tensor, argument in pairs if _key(tensor) in origins}
    shapes = [(_key(argument), rows.get(_key(tensor)) or _shape(tensor)) for tensor, argument in pairs]
    tables = {reference: shape for reference, shape in shapes if shape}
    if held:
        _follow(inner, held, tables, limits)


def _body(graph: Any, name: str) -> Any:
    """The graph of a function that a graph calls."""
    function = graph._get_function(name)
    inner = getattr(function, "graph", None)
    return function_def_to_graph(function.cached_definition) if inner is None else inner


def _key(tensor: Any) -> Any:
    """What a tensor is found by in a dictionary."""
    return tensor.ref() if hasattr(tensor, "ref") else tensor.experimental_ref()
