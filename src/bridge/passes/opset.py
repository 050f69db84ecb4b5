"""Bring a model to the hub's opset."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET, hub_ir_version
from bridge.passes.upgrades.run import upgrade_nodes


def to_hub_opset(model: ir.Model) -> ir.Model:
    """The same model in opset 23 or, if it is of a newer one, in its own; with all metadata.

    Raises UnsupportedOps for operators that the model's opset does not have and InputError where no
    operators of the hub's opset say what a node means: a body of one version is never run on a node of
    another.
    """
    version = model.graph.opset_imports.get("", HUB_OPSET)
    if version < HUB_OPSET or any(node.version for node in all_nodes(model)):
        upgrade_nodes(model, version)
    model.graph.opset_imports[""] = max(version, HUB_OPSET)
    model.ir_version = hub_ir_version(model.graph.opset_imports)
    for node in all_nodes(model):
        node.version = None
        _write_defaults(node, model.graph.opset_imports[""])
    return model


def _write_defaults(node: ir.Node, version: int) -> None:
    """Say the default axes where ONNX defines the operator by a function: its inference misses them there."""
    if node.domain == "" and node.op_type == "MeanVarianceNormalization" and "axes" not in node.attributes:
        default = onnx.defs.get_schema(node.op_type, version).attributes["axes"].default_value
        node.attributes["axes"] = ir.serde.deserialize_attribute(default)
