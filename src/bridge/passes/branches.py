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


def capture_invariants(model: ir.Model) -> ir.Model:
    """Let the bodies of Loops read what never changes from outside instead of carrying it.

    TensorFlow's loops carry whatever they read, weights included; a weight that is read directly is one
    of its module again.
    """
    for node in list(all_nodes(model)):
        if node.op_type == "Loop" and node.domain == "" and isinstance(node.graph, ir.Graph):
            body = node.attributes["body"].as_graph()
            fixed = [index for index in range(len(node.inputs) - 2) if _is_passed_on(body, index)]
            fixed = [index for index in fixed if node.inputs[2 + index] is not None]
            if fixed:
                _capture(node, node.graph, body, fixed)
    return model


def _is_passed_on(body: ir.Graph, index: int) -> bool:
    """Whether a body gives a carried value as it takes it, and does not give it as anything else."""
    if body.outputs.count(body.inputs[2 + index]) > 1:
        return False
    value: ir.Value | None = body.outputs[1 + index]
    while value is not None and (node := value.producer()) is not None and node.graph is body:
        if node.op_type != "Identity" or metadata.stops_gradient(node):
            return False
        value = node.inputs[0]
    return value is body.inputs[2 + index]


def _capture(node: ir.Node, graph: ir.Graph, body: ir.Graph, fixed: list[int]) -> None:
    for index in reversed(fixed):
        initial = node.inputs[2 + index]
        assert initial is not None
        taken = body.inputs[2 + index]
        body.outputs.pop(1 + index)
        taken.replace_all_uses_with(initial)
        body.inputs.pop(2 + index)
        identity = ir.node("Identity", [initial])
        identity.metadata_props.update(node.metadata_props)
        graph.insert_before(node, identity)
        take_over(node.outputs[index], identity.outputs[0])
    inputs = [value for index, value in enumerate(node.inputs) if index - 2 not in fixed]
    outputs = [value for index, value in enumerate(node.outputs) if index not in fixed]
    attribute = node.attributes.pop("body")
    loop = ir.node("Loop", inputs, num_outputs=len(outputs), name=node.name)
    loop.attributes.add(attribute)
    loop.metadata_props.update(node.metadata_props)
    graph.insert_before(node, loop)
    for old, new in zip(outputs, loop.outputs, strict=True):
        take_over(old, new)
    graph.remove(node, safe=True)
