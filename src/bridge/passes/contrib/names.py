"""Operators that onnxruntime keeps in the standard's own domain, before or beside the standard."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import all_nodes

RUNTIME_NAMES = frozenset({"SimplifiedLayerNormalization"})
"""Operators of the standard's domain that the standard does not have."""

_SINCE = {"LayerNormalization": 17, "RMSNormalization": 23}
"""The opset in which the standard took an operator in, with the meaning that onnxruntime gave it."""


def take_in_runtime_names(model: ir.Model) -> ir.Model:
    """Call onnxruntime's normalisations in the standard's domain by the standard's names and versions.

    Its optimizers write LayerNormalization into graphs of opsets that do not have it yet, and
    RMSNormalization as SimplifiedLayerNormalization.
    """
    version = model.graph.opset_imports.get("", 0)
    for node in all_nodes(model):
        if node.domain == "" and node.op_type in RUNTIME_NAMES and len(node.outputs) == 1:
            node.op_type = "RMSNormalization"
        if node.domain == "" and node.op_type in _SINCE and (node.version or version) < _SINCE[node.op_type]:
            node.version = _SINCE[node.op_type]
    return model
