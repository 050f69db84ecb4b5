"""Products of matrices of higher rank that were flattened around the product."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import attribute, fuse, only_use, producer, rank
from bridge.passes.dims import dim_of


def restore_matmul_rank(model: ir.Model) -> ir.Model:
    """`Reshape` to a matrix, `MatMul` or `Gemm`, `Reshape` back: one MatMul of the original rank.

    TensorFlow's tensordot, and with it Keras' Dense on sequences, is written so, and PyTorch's addmm where it
    is used on sequences. The vector that a Gemm adds is added after. All axes but the last must be known to
    be equal before and after. Needs inferred shapes.
    """
    for node in list(model.graph):
        if node.op_type == "Reshape" and node.domain == "" and node.graph is model.graph:
            _restore(node)
    return model


def _restore(last: ir.Node) -> None:
    product = producer(last.inputs[0], "MatMul", "Gemm")
    first = None if product is None else producer(product.inputs[0], "Reshape", "Flatten")
    if product is None or first is None or only_use(product.outputs[0]) is not last:
        return
    data, weight, result = first.inputs[0], product.inputs[1], last.outputs[0]
    bias = product.inputs[2] if len(product.inputs) > 2 else None
    if data is None or data.shape is None or result.shape is None or rank(weight) != 2 or weight is None:
        return
    if rank(first.outputs[0]) != 2 or len(data.shape) != len(result.shape) or weight.shape is None:
        return
    if product.op_type == "Gemm" and not _is_plain(product, bias):
        return
    before = [dim_of(axis) for axis in data.shape]
    after = [dim_of(axis) for axis in result.shape]
    if None in before[:-1] or before[:-1] != after[:-1]:
        return
    if before[-1] != weight.shape[0] or after[-1] != weight.shape[1]:
        return
    made = fuse([first, product, last], "MatMul", [data, weight])
    if bias is not None:
        matrix = ir.node("MatMul", [data, weight])
        matrix.metadata_props.update(made.metadata_props)
        matrix.outputs[0].type, matrix.outputs[0].shape = result.type, result.shape
        assert isinstance(made.graph, ir.Graph)
        made.graph.insert_before(made, matrix)
        fuse([made], "Add", [matrix.outputs[0], bias])


def _is_plain(gemm: ir.Node, bias: ir.Value | None) -> bool:
    """Whether Gemm is the product of its matrices, as they are, plus a vector or nothing."""
    turned = attribute(gemm, "transA", 0) or attribute(gemm, "transB", 0)
    factors = (attribute(gemm, "alpha", 1.0), attribute(gemm, "beta", 1.0))
    return not turned and factors == (1.0, 1.0) and (bias is None or rank(bias) == 1)
