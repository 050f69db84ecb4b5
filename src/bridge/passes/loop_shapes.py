"""Shapes that do not change from one step of a Loop to the next."""

from __future__ import annotations

import onnx_ir as ir

from bridge.errors import BridgeError
from bridge.hub.graph import all_nodes
from bridge.passes.dims import dim_of
from bridge.passes.shapes import infer_shapes

Shapes = dict[ir.Value, ir.Shape | None]


def find_loop_shapes(model: ir.Model) -> ir.Model:
    """Give what Loops carry the shapes that hold in every step; ONNX's inference knows none.

    What is carried first is taken to keep its shape, and the body inferred with it. Axes that come out
    otherwise are given up, until what a step gives is what it takes. Where the graph contradicts such a
    shape nothing is assumed.
    """
    loops = [node for node in all_nodes(model) if node.op_type == "Loop" and node.domain == ""]
    if not loops:
        return model
    known: Shapes = {value: value.shape for value in _values(model)}
    guesses: Shapes = {}
    while _refine(loops, known, guesses):
        for value, shape in known.items():
            value.shape = shape
        for node in loops:
            for taken, last in _carried(node):
                if guesses.get(taken) is not None and known[taken] is None:
                    taken.shape = guesses[taken]
                    last.shape = guesses[taken] if known[last] is None else known[last]
        try:
            infer_shapes(model)
        except BridgeError:
            for value, shape in known.items():
                value.shape = shape
            return model
    return model


def _values(model: ir.Model) -> list[ir.Value]:
    return [
        value
        for graph in model.graphs()
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs))
    ]


def _carried(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """What the body of a Loop takes from step to step, each with the Loop's output that it ends in."""
    body = node.attributes["body"].as_graph()
    return list(zip(body.inputs[2:], node.outputs, strict=False))


def _refine(loops: list[ir.Node], known: Shapes, guesses: Shapes) -> bool:
    """Make first guesses and widen those that do not hold; whether any changed."""
    changed = False
    for node in loops:
        body = node.attributes["body"].as_graph()
        for index, taken in enumerate(body.inputs[2:]):
            first, given = node.inputs[2 + index], body.outputs[1 + index]
            if known[taken] is not None or not isinstance(taken.type, ir.TensorType | None):
                continue
            if taken not in guesses:
                if first is not None and first.shape is not None:
                    guesses[taken] = first.shape
                    changed = True
                continue
            before = guesses[taken]
            after = _joined(_joined(before, None if first is None else first.shape), given.shape)
            if before != after:
                guesses[taken] = after
                changed = True
    return changed


def _joined(shape: ir.Shape | None, other: ir.Shape | None) -> ir.Shape | None:
    """What holds for both shapes: axes that differ are free; None where the ranks do."""
    if shape is None or other is None or len(shape) != len(other):
        return None
    pairs = zip(map(dim_of, shape), map(dim_of, other), strict=True)
    return ir.Shape([mine if mine == theirs else None for mine, theirs in pairs])
