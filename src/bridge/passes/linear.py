"""Affine maps of the last axis, with weight and bias, as one node."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import fuse, is_trained, only_use, producer, rank, static_shape

DOMAIN = "bridge"
"""Operators of this domain exist between preparation and writer only; the hub itself is plain ONNX."""


def fuse_linear(model: ir.Model) -> ir.Model:
    """`MatMul` with a trained matrix, then `Add` of a trained vector: `Linear(x, weight, bias)`.

    Gemm says the same for matrices; ONNX has no operator for data of higher rank. The weight is
    (in, out), as MatMul has it. Needs inferred shapes; does not keep the graph valid ONNX.
    """
    for add in list(model.graph):
        if add.op_type != "Add" or add.domain != "" or add.graph is None:
            continue
        data, bias = add.inputs
        product = producer(data, "MatMul")
        if product is None or data is None or bias is None or only_use(data) is not add:
            continue
        weight = product.inputs[1]
        if not is_trained(weight) or not is_trained(bias) or rank(weight) != 2:
            continue
        width = static_shape(weight)
        if width is not None and static_shape(bias) == (width[1],) and rank(product.inputs[0]) != 1:
            fuse([product, add], "Linear", [product.inputs[0], weight, bias], domain=DOMAIN)
    return model
