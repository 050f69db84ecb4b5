"""A canonical order of nodes, independent of the reader's accidents."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import bodies


def order_nodes(model: ir.Model) -> ir.Model:
    """Sort every graph topologically.

    Where the source's order means something (PyTorch and ONNX: the order of execution) it is kept as
    far as it is topological. TensorFlow graphs have no order of their own: their nodes come in the
    order in which the outputs need them, operand by operand, which depends on the structure only.
    """
    keep = metadata.source_info(model).framework != "tf"
    for graph in list(model.graphs()):
        nodes = list(graph)
        ordered = _needed_order(nodes if keep else _readers_last(graph), graph)
        if ordered != nodes:
            for node in nodes:
                graph.remove(node)
            graph.extend(ordered)
    return model


def _readers_last(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that give the graph's outputs; whatever else is left has no effect on order."""
    roots = [producer for value in graph.outputs if (producer := value.producer()) is not None]
    return [*roots, *graph]


def _needed_order(roots: list[ir.Node], graph: ir.Graph) -> list[ir.Node]:
    """Depth first: each root after everything it needs, operands from the first to the last."""
    ordered: dict[ir.Node, None] = {}
    visiting: list[tuple[ir.Node, bool]] = [(node, False) for node in reversed(roots)]
    while visiting:
        node, is_ready = visiting.pop()
        if node in ordered:
            continue
        if is_ready:
            ordered[node] = None
            continue
        visiting.append((node, True))
        visiting.extend((needed, False) for needed in reversed(_needs(node, graph)) if needed not in ordered)
    return list(ordered)


def _needs(node: ir.Node, graph: ir.Graph) -> list[ir.Node]:
    """The nodes of the same graph that compute what a node or its bodies read."""
    needed = [
        producer
        for value in node.inputs
        if value is not None and (producer := value.producer()) is not None and producer.graph is graph
    ]
    for body in bodies(node):
        for inner in body:
            needed.extend(_needs(inner, graph))
        needed.extend(
            producer
            for value in body.outputs
            if (producer := value.producer()) is not None and producer.graph is graph
        )
    return needed
