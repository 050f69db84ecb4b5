"""Moves of trained tensors out of the bodies of control flow, where they can be folded."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import bodies, free_name, is_trained

_MOVES = frozenset(
    {"Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)


def hoist_moves(model: ir.Model) -> ir.Model:
    """Do what only moves elements of trained tensors before the If, Loop or Scan that does it.

    A cell that is called in a loop reorders its gates at every step; done once and outside, it is part of a
    tensor's recipe.
    """
    for node in list(model.graph):
        _hoist_from(node, node, model.graph)
    return model


def _hoist_from(node: ir.Node, home: ir.Node, graph: ir.Graph) -> None:
    for body in bodies(node):
        for inner in list(body):
            if _moves_trained(inner, graph):
                _hoist(inner, body, home, graph)
            else:
                _hoist_from(inner, home, graph)


def _moves_trained(node: ir.Node, graph: ir.Graph) -> bool:
    if node.domain != "" or node.op_type not in _MOVES:
        return False
    if any(output.is_graph_output() for output in node.outputs):
        return False
    given = [value for value in node.inputs if value is not None]
    return all(_is_fixed(value, graph) for value in given) and any(
        is_trained(value) or value.producer() is not None for value in given
    )


def _is_fixed(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether a value is an initializer, or computed outside by what was hoisted."""
    producer = value.producer()
    if producer is None:
        return value.is_initializer() and not value.is_graph_input()
    return producer.graph is graph and _moves_trained(producer, graph)


def _hoist(node: ir.Node, body: ir.Graph, home: ir.Node, graph: ir.Graph) -> None:
    for value in node.inputs:
        if value is not None and value.is_initializer() and value.graph is body:
            body.initializers.pop(str(value.name))
            value.name = free_name(graph, str(value.name))
            graph.register_initializer(value)
    body.remove(node)
    graph.insert_before(home, node)
