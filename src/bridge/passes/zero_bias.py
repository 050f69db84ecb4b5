"""Convolutions and matrix products without the zeros that exporters add for an absent bias."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import all_nodes, constant

_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def drop_zero_bias(model: ir.Model) -> ir.Model:
    """Remove constant biases of zeros. A trained bias that is zero stays: it is part of the model."""
    for node in all_nodes(model):
        index = _BIAS.get(node.op_type) if node.domain == "" else None
        if index is None or len(node.inputs) <= index:
            continue
        bias = constant(node.inputs[index])
        if bias is not None and not bias.any():
            node.resize_inputs(index)
    return model
