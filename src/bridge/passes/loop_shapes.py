"""Shapes that do not change from one step of a Loop to the next."""

from __future__ import annotations

import onnx_ir as ir

from bridge.errors import BridgeError
from bridge.hub.graph import all_nodes
from bridge.passes.dims import dim_of
from bridge.passes.shapes import infer_shapes

Shapes = dict[ir.Value, ir.Shape | None]

_ROUNDS = 20
"""A shape can widen once an axis, and loops lie in loops."""


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
    found: Shapes = {}
    for _ in range(_ROUNDS):
        if not _refine(loops, known, found):
            break
        for value, shape in known.items():
            value.shape = found.get(value) if shape is None else shape
        try:
            infer_shapes(model)
        except BridgeError:
            for value, shape in known.items():
                value.shape = shape
            break
    return model


def _values(model: ir.Model) -> list[ir.Value]:
    return [
        value
        for graph in model.graphs()
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs))
    ]


def _refine(loops: list[ir.Node], known: Shapes, found: Shapes) -> bool:
    """Assume first shapes and widen those that do not hold; whether any changed."""
    changed = False
    for node in loops:
        body = node.attributes["body"].as_graph()
        carried = zip(node.inputs[2:], body.inputs[2:], body.outputs[1:], node.outputs, strict=False)
        for first, taken, given, last in carried:
            if first is None or not isinstance(first.type, ir.TensorType):
                continue
            shapes = {last: _joined(first.shape, given.shape)}
            if taken in found:
                shapes[taken] = _joined(found[taken], _joined(first.shape, given.shape))
            else:
                shapes[taken] = first.shape
            for value, shape in shapes.items():
                if known[value] is None and found.get(value) != shape:
                    found[value] = shape
                    changed = True
    return changed


def _joined(shape: ir.Shape | None, other: ir.Shape | None) -> ir.Shape | None:
    """What holds for both shapes: axes that differ are free; None where the ranks do."""
    if shape is None or other is None or len(shape) != len(other):
        return None
    pairs = zip(map(dim_of, shape), map(dim_of, other), strict=True)
    return ir.Shape([mine if mine == theirs else None for mine, theirs in pairs])
