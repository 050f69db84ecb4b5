"""Products of matrices of higher rank that were flattened around the product."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import fuse, only_use, producer, rank
from bridge.passes.dims import dim_of


def restore_matmul_rank(model: ir.Model) -> ir.Model:
    """`Reshape` to a matrix, `MatMul`, `Reshape` back: one MatMul of the original rank.

    TensorFlow's tensordot, and with it Keras' Dense on sequences, is written so. All axes but the last must
    be known to be equal before and after. Needs inferred shapes.
    """
    for node in list(model.graph):
        if node.op_type == "Reshape" and node.domain == "" and node.graph is model.graph:
            _restore(node)
    return model


def _restore(last: ir.Node) -> None:
    product = producer(last.inputs[0], "MatMul")
    first = None if product is None else producer(product.inputs[0], "Reshape", "Flatten")
    if product is None or first is None or only_use(product.outputs[0]) is not last:
        return
    data, weight, result = first.inputs[0], product.inputs[1], last.outputs[0]
    if data is None or data.shape is None or result.shape is None or rank(weight) != 2 or weight is None:
        return
    if rank(first.outputs[0]) != 2 or len(data.shape) != len(result.shape) or weight.shape is None:
        return
    before = [dim_of(axis) for axis in data.shape]
    after = [dim_of(axis) for axis in result.shape]
    if None in before[:-1] or before[:-1] != after[:-1]:
        return
    if before[-1] == weight.shape[0] and after[-1] == weight.shape[1]:
        fuse([first, product, last], "MatMul", [data, weight])
