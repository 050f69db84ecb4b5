"""The pass: every node of onnxruntime's domain that the standard can express."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bridge.errors import UnsupportedOp, UnsupportedOps
from bridge.hub import metadata
from bridge.hub.graph import all_nodes
from bridge.hub.schemas import CONTRIB
from bridge.passes.contrib import activations, attention, normalization, products, tensors
from bridge.passes.contrib.builder import EXPANSIONS, Builder, InexpressibleError
from bridge.passes.contrib.names import RUNTIME_NAMES, take_in_runtime_names
from bridge.passes.opset import to_hub_opset
from bridge.passes.shapes import infer_shapes

FAMILIES = (activations, attention, normalization, products, tensors)
"""The modules with expansions: importing them fills the registry."""

_TENSOR_SCATTER = 24
"""The opset that brought it."""


def expand_contrib(model: ir.Model) -> ir.Model:
    """Write operators of onnxruntime's domain in the standard's terms; what has no such form stays.

    So an optimised file gives the same layers as the file before: a BiasGelu is an addition and a Gelu, a
    MultiHeadAttention an Attention. Raises UnsupportedOps for nodes whose form would have to say what the
    standard cannot.
    """
    nodes = [node for node in all_nodes(model) if node.domain == CONTRIB and node.op_type in EXPANSIONS]
    if not nodes:
        return model
    model = infer_shapes(model)
    refused: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        try:
            EXPANSIONS[node.op_type](Builder(node, model.graph))
        except InexpressibleError as error:
            scope = metadata.scope_path(metadata.scope_of(node) or ())
            refused.setdefault((node.op_type, str(error)), []).append(scope)
    if refused:
        raise UnsupportedOps(
            [
                UnsupportedOp(op_type, CONTRIB, reason, len(scopes), tuple(sorted({*scopes} - {""})))
                for (op_type, reason), scopes in refused.items()
            ],
            target="the standard's operators",
            hint="convert the model as it was before onnxruntime optimised it",
        )
    if any(node.op_type == "TensorScatter" for node in all_nodes(model)):
        model.graph.opset_imports[""] = max(model.graph.opset_imports[""], _TENSOR_SCATTER)
    return model


def in_standard_terms(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model without operators of onnxruntime's own, as far as they have a form in the standard; or itself.

    What the model gives, and the names of its values, are as before. Raises UnsupportedOps as
    `expand_contrib` does.
    """
    if not any(node.domain == CONTRIB or node.op_type in RUNTIME_NAMES for node in proto.graph.node):
        return proto
    model = to_hub_opset(take_in_runtime_names(ir.from_proto(proto)))
    return ir.to_proto(expand_contrib(model))
