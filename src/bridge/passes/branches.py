"""Branches that are always taken, and loops whose conditions say nothing."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub import control, metadata
from bridge.hub.graph import all_nodes, constant, free_name, scalar, take_over
from bridge.passes.unused import detach

_ENDLESS = 2**31 - 1
"""Exporters write such trip counts, and larger ones, for loops that only a condition ends."""


def take_known_branches(model: ir.Model) -> bool:
    """Put the branch of every If with a constant condition in its place; whether there was one."""
    changed = False
    for node in list(all_nodes(model)):
        if node.op_type == "If" and node.domain == "" and isinstance(node.graph, ir.Graph):
            condition = constant(node.inputs[0])
            if condition is not None and condition.size == 1:
                _take(node, node.graph, "then_branch" if condition.reshape(-1)[0] else "else_branch")
                changed = True
    return changed


def _take(node: ir.Node, graph: ir.Graph, name: str) -> None:
    branch = node.attributes[name].as_graph()
    results = list(branch.outputs)
    branch.outputs.clear()
    for value in list(branch.initializers.values()):
        branch.initializers.pop(str(value.name))
        value.name = free_name(graph, str(value.name))
        graph.register_initializer(value)
    for inner in list(branch):
        branch.remove(inner)
        if metadata.scope_of(inner) is None:
            metadata.set_scope(inner, metadata.scope_of(node))
        graph.insert_before(node, inner)
    for output, result in zip(node.outputs, results, strict=True):
        identity = ir.node("Identity", [result])
        identity.metadata_props.update(node.metadata_props)
        graph.insert_before(node, identity)
        take_over(output, identity.outputs[0])
        identity.outputs[0].type = result.type or output.type
        identity.outputs[0].shape = output.shape if result.shape is None else result.shape
    detach(node)
    graph.remove(node, safe=True)


def simplify_loops(model: ir.Model) -> ir.Model:
    """Leave out what does not end a Loop: a condition that is always true, a trip count beyond all bounds.

    A Loop without a condition input runs for its trip count, one without a trip count while its
    condition is true.
    """
    for node in all_nodes(model):
        if node.op_type != "Loop" or node.domain != "":
            continue
        trip_count, condition = (node.inputs[index] if index < len(node.inputs) else None for index in (0, 1))
        body = node.attributes["body"].as_graph()
        limit = scalar(trip_count)
        always = condition is None or bool(scalar(condition))
        if limit is not None and limit >= _ENDLESS and condition is not None:
            node.replace_input_with(0, None)
        elif condition is not None and always and control.continues_always(body):
            node.replace_input_with(1, None)
    return model
