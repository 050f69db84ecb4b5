"""The walk through the opsets."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bridge.errors import UnsupportedOp, UnsupportedOps
from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET
from bridge.passes.upgrades import control, elementwise, experimental, image, normalization, tensors
from bridge.passes.upgrades.registry import EXPERIMENTAL, UPGRADES
from bridge.passes.upgrades.site import Site

FAMILIES = (control, elementwise, experimental, image, normalization, tensors)
"""The modules with upgrades: importing them fills the registry."""

_STEPS = {
    version: frozenset(op_type for op_type, to in UPGRADES if to == version)
    for version in range(2, HUB_OPSET + 1)
}

_LATER_STANDARD = frozenset({"ThresholdedRelu"})
"""Operators that were experimental before they came into the standard as they were."""


def upgrade_nodes(model: ir.Model, version: int) -> None:
    """Carry a model of an older opset to the hub's, in place.

    A node that has a version of its own (`ir.Node.version`, a function's opset) starts from that one.
    Raises UnsupportedOps for operators that the opset does not have, and InputError for nodes of which
    the specification does not say what they mean, or only with sizes that are unknown.
    """
    _check_known(model, version)
    site = Site(model)
    for node in list(all_nodes(model)):
        if _is_experimental(node, version):
            site.infer()
            EXPERIMENTAL[node.op_type](node, site)
    lowest = min((node.version or version for node in all_nodes(model)), default=version)
    present = {node.op_type for node in all_nodes(model)}
    for step in range(lowest + 1, HUB_OPSET + 1):
        operators = _STEPS[step] & present
        waiting = [
            node
            for node in (all_nodes(model) if operators else ())
            if node.op_type in operators and node.domain == "" and (node.version or version) < step
        ]
        if any(_is_unknown(value) for node in waiting for value in node.inputs):
            site.infer()
        for node in waiting:
            UPGRADES[node.op_type, step](node, site)
        if waiting:
            present = {node.op_type for node in all_nodes(model)}
        if step > version:
            model.graph.opset_imports[""] = step


def _is_unknown(value: ir.Value | None) -> bool:
    return value is not None and (value.shape is None or value.dtype is None)


def _is_experimental(node: ir.Node, version: int) -> bool:
    return (
        node.domain == ""
        and node.op_type in EXPERIMENTAL
        and not onnx.defs.has(node.op_type, node.version or version)
    )


def _check_known(model: ir.Model, version: int) -> None:
    unknown: dict[tuple[str, int], int] = {}
    for node in all_nodes(model):
        own = node.version or version
        if (
            node.domain == ""
            and not onnx.defs.has(node.op_type, own)
            and node.op_type not in EXPERIMENTAL
            and node.op_type not in _LATER_STANDARD
        ):
            unknown[node.op_type, own] = unknown.get((node.op_type, own), 0) + 1
    if unknown:
        raise UnsupportedOps(
            [
                UnsupportedOp(name, "", f"ONNX opset {own} has no such operator", count)
                for (name, own), count in unknown.items()
            ],
            target="the ONNX hub",
            hint="export the model with standard operators only",
        )
