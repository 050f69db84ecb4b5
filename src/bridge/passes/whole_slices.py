"""Slices that take all of an axis, forwards or backwards."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, all_nodes, integers, producer

_END = 2**31 - 1
"""Exporters write this, and larger numbers, for the end of any axis."""


def drop_whole_slices(model: ir.Model) -> ir.Model:
    """Leave the axes out of a Slice along which it takes everything, as TensorFlow's `x[:, 3:6]` has them.

    What is read backwards twice is not read backwards.
    """
    for node in all_nodes(model):
        if node.op_type == "Slice" and node.domain == "" and len(node.inputs) >= 4:
            _drop(node, model.graph)
            _cancel(node)
    return model


def _cancel(node: ir.Node) -> None:
    before = producer(node.inputs[0], "Slice")
    axis = reversed_axis(node)
    if before is None or axis is None or axis != reversed_axis(before) or before.inputs[0] is None:
        return
    if not node.outputs[0].is_graph_output():
        node.outputs[0].replace_all_uses_with(before.inputs[0])


def reversed_axis(node: ir.Node) -> int | None:
    """The axis that a Slice reads backwards from its end to its start; None if it does anything else."""
    bounds = [None if value is None else integers(value) for value in node.inputs[1:]]
    if len(bounds) != 4 or any(each is None or len(each) != 1 for each in bounds):
        return None
    start, end, axis, step = (each[0] for each in bounds if each is not None)
    whole = step == -1 and (start == -1 or start >= _END) and end <= -_END
    return axis if whole else None


def _drop(node: ir.Node, constants: ir.Graph) -> None:
    bounds = [None if value is None else integers(value) for value in node.inputs[1:]]
    if any(each is None for each in bounds):
        return
    starts, ends, axes, *rest = [each for each in bounds if each is not None]
    steps = rest[0] if rest else (1,) * len(axes)
    columns = list(zip(starts, ends, axes, steps, strict=True))
    kept = [each for each in columns if each[0] != 0 or each[1] < _END or each[3] != 1]
    if len(kept) == len(columns) or not kept:
        return
    for index, values in enumerate(list(zip(*kept, strict=True))[: len(bounds)]):
        value = add_constant(constants, np.asarray(values, np.int64), f"{node.outputs[0].name}_bounds")
        node.replace_input_with(1 + index, value)
