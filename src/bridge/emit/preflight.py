"""Before anything is emitted: every node that the target cannot express, listed at once."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from bridge.emit import tree
from bridge.emit.layer import NodeView
from bridge.emit.lowering import Lowering, LoweringTable, parameters_of
from bridge.emit.plan import node_view
from bridge.errors import UnsupportedOp, UnsupportedOps
from bridge.hub import metadata
from bridge.hub.opset import operator_version

_NO_TEXT = "PyTorch has no tensors of text"


def check(model: ir.Model, table: LoweringTable) -> None:
    """Raises UnsupportedOps with every kind of node that has neither a layer nor a lowering."""
    unsupported = find_unsupported(model.graph, table)
    if unsupported:
        hint = "a package of yours can add lowerings; docs/lowerings.md says how"
        if all(each.reason == _NO_TEXT for each in unsupported):
            hint = (
                "convert to tf, or cut the model after its preprocessing, "
                "for example with onnx.utils.extract_model"
            )
        if table.broken_plugins:
            hint = f"the plug-in {', '.join(table.broken_plugins)} could not be loaded; run bridge doctor"
        raise UnsupportedOps(unsupported, target=table.target, hint=hint)


def find_unsupported(graph: ir.Graph, table: LoweringTable) -> list[UnsupportedOp]:
    """The kinds of node that a target cannot express, with the reason, a count and the places of each."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for node in tree.with_inner(graph):
        reason = reason_against(node, table, graph.opset_imports)
        if reason is not None:
            scope = metadata.scope_path(metadata.scope_of(node) or ())
            found.setdefault((node.domain, node.op_type, reason), []).append(scope)
    return [
        UnsupportedOp(op_type, domain, reason, len(places), tuple(sorted({each for each in places if each})))
        for (domain, op_type, reason), places in found.items()
    ]


def reason_against(node: ir.Node, table: LoweringTable, imports: Mapping[str, int]) -> str | None:
    """Why a node cannot be expressed in the target; None if it can."""
    version = operator_version(node.domain, imports)
    refusal = table.refusals.get((node.domain, node.op_type))
    if refusal is not None and table.find(node.op_type, node.domain, version=version) is None:
        return refusal
    if table.target == "torch" and _has_text(node):
        return _NO_TEXT
    view = node_view(node, imports)
    for rule in table.rules(node.op_type, node.domain):
        layer = rule(view)
        if layer is not None and layer.tensors:
            return None
    lowering = table.find(node.op_type, node.domain, version=version)
    if lowering is None:
        return f"no lowering for {table.target}"
    if lowering.layout is not None and lowering.layout != view.layout:
        return (
            f"it computes {view.layout}, as its rank is unknown, and {table.target} needs {lowering.layout}"
        )
    missing = _unknown_static(view, lowering)
    if missing is not None:
        return f"its input {missing!r} must be known at conversion"
    return None if lowering.supports is None else lowering.supports(view)


def _unknown_static(view: NodeView, lowering: Lowering) -> str | None:
    for index, name in enumerate(parameters_of(lowering.function)):
        if name in lowering.static and view.input(index) is not None and view.constant(index) is None:
            return name
    return None


def _has_text(node: ir.Node) -> bool:
    return any(
        value is not None and value.dtype == ir.DataType.STRING for value in (*node.inputs, *node.outputs)
    )
