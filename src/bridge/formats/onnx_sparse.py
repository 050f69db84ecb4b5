"""Sparse tensors of ONNX files, written out: the hub knows dense ones."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from bridge.errors import InputError

_LARGEST = 1 << 32
"""Bytes that a sparse tensor may take when it is written out."""


def densify(proto: onnx.ModelProto, *, where: str) -> None:
    """Replace sparse initializers and constants by dense ones, in place.

    `where` names the file in errors. Raises InputError for indices outside the tensor, and for tensors that
    would take more than 4 GiB.
    """
    _densify_graph(proto.graph, where)
    for function in proto.functions:
        for node in function.node:
            _densify_node(node, where)


def _densify_graph(graph: onnx.GraphProto, where: str) -> None:
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, where))
    del graph.sparse_initializer[:]
    for node in graph.node:
        _densify_node(node, where)


def _densify_node(node: onnx.NodeProto, where: str) -> None:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.SPARSE_TENSOR and node.op_type == "Constant":
            dense = _dense(attribute.sparse_tensor, where)
            attribute.CopyFrom(onnx.helper.make_attribute("value", dense))
        elif attribute.type == onnx.AttributeProto.GRAPH:
            _densify_graph(attribute.g, where)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            for graph in attribute.graphs:
                _densify_graph(graph, where)


def _dense(sparse: onnx.SparseTensorProto, where: str) -> onnx.TensorProto:
    """Indices are of shape [NNZ], into the flattened tensor, or [NNZ, rank]."""
    name, shape = sparse.values.name, tuple(sparse.dims)
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    size = math.prod(shape)
    if any(axis < 0 for axis in shape) or size * max(values.itemsize, 1) > _LARGEST:
        raise _damaged(f"the sparse tensor {name!r} of shape {shape} is too large", where)
    expected = ((len(values),), (len(values), len(shape)))
    if values.ndim != 1 or indices.shape not in expected:
        raise _damaged(f"the sparse tensor {name!r} has indices of shape {indices.shape}", where)
    bounds = np.asarray(shape if indices.ndim == 2 else size)
    if ((indices < 0) | (indices >= bounds)).any():
        raise _damaged(f"the sparse tensor {name!r} has indices outside {shape}", where)
    places = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
    array = np.zeros(size, values.dtype)
    array[places] = values
    return numpy_helper.from_array(array.reshape(shape), name)


def _damaged(reason: str, where: str) -> InputError:
    return InputError(f"the ONNX file is damaged: {reason}", hint="export it again", where=where)
