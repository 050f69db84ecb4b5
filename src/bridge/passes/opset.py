"""Bring a model to the hub's opset."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bridge.errors import InputError
from bridge.hub.graph import all_nodes, describe_node
from bridge.hub.opset import HUB_OPSET, hub_ir_version
from bridge.passes.lowest_opset import keeps_meaning
from bridge.passes.upgrades.run import upgrade_nodes


def to_hub_opset(model: ir.Model) -> ir.Model:
    """The same model in opset 23 or, if it is of a newer one, in its own; with all metadata.

    Nodes may have versions of their own (`ir.Node.version`), from functions of other opsets.
    Raises UnsupportedOps for operators that the model's opset does not have and InputError where no
    operators of the hub's opset say what a node means: a body of one version is never run on a node of
    another.
    """
    version = model.graph.opset_imports.get("", HUB_OPSET)
    own = {node.version for node in all_nodes(model) if node.version is not None} | {version}
    if min(own) < HUB_OPSET:
        upgrade_nodes(model, version)
    newest = max(*own, HUB_OPSET)
    if len(own) > 1:
        _raise_nodes(model, version, newest)
    model.graph.opset_imports[""] = newest
    model.ir_version = hub_ir_version(model.graph.opset_imports)
    for node in all_nodes(model):
        node.version = None
        _write_defaults(node, model.graph.opset_imports[""])
    return model


def _raise_nodes(model: ir.Model, version: int, newest: int) -> None:
    """Check that all nodes mean in the newest of several opsets what they mean in their own."""
    for node in all_nodes(model):
        own = max(node.version or version, HUB_OPSET)
        if node.domain == "" and own < newest and not keeps_meaning(node, own, newest):
            raise InputError(
                f"the functions of the ONNX model are of several opsets, and {node.op_type} of opset {own} "
                f"has another meaning in opset {newest}",
                where=describe_node(node),
                hint="write the model and its functions in one opset",
            )


def _write_defaults(node: ir.Node, version: int) -> None:
    """Say the default axes where ONNX defines the operator by a function: its inference misses them there."""
    if node.domain == "" and node.op_type == "MeanVarianceNormalization" and "axes" not in node.attributes:
        default = onnx.defs.get_schema(node.op_type, version).attributes["axes"].default_value
        node.attributes["axes"] = ir.serde.deserialize_attribute(default)
