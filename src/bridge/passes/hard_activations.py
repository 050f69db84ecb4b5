"""Activations made of bounds: Clip, Relu, HardSigmoid and HardSwish."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, fuse, producer, scalar
from bridge.passes.match import close, factors, with_scalar


class _Bound(NamedTuple):
    """`max(data, number)` or, if `is_upper`, `min(data, number)`."""

    data: ir.Value
    number: float
    is_upper: bool
    node: ir.Node


def recognise_clip(model: ir.Model) -> ir.Model:
    """`min(max(x, a), b)` and `max(min(x, b), a)` with numbers `a <= b` as Clip, `max(x, 0)` as Relu."""
    for node in reversed(list(model.graph)):
        outer = _bound(node)
        if outer is None or node.op_type == "Relu":
            continue
        inner = _bound(outer.data.producer())
        if inner is not None and inner.is_upper != outer.is_upper:
            low, high = (inner.number, outer.number) if outer.is_upper else (outer.number, inner.number)
            if low <= high:
                bounds = [_number(model.graph, each, inner.data) for each in (low, high)]
                fuse([inner.node, node], "Clip", [inner.data, *bounds])
    for node in list(model.graph):
        bound = _bound(node)
        if bound is not None and node.op_type == "Max" and bound.number == 0:
            fuse([node], "Relu", [bound.data])
    return model


def _bound(node: ir.Node | None) -> _Bound | None:
    if node is None or node.graph is None or node.domain != "":
        return None
    if node.op_type == "Relu" and node.inputs[0] is not None:
        return _Bound(node.inputs[0], 0.0, False, node)
    found = with_scalar(node) if node.op_type in ("Max", "Min") else None
    if found is None or found[0].dtype is None:
        return None
    return _Bound(found[0], found[1], node.op_type == "Min", node)


def _number(graph: ir.Graph, number: float, like: ir.Value) -> ir.Value:
    assert like.dtype is not None
    return add_constant(graph, np.asarray(number, like.dtype.numpy()), "bound")


def recognise_hard_activations(model: ir.Model) -> ir.Model:
    """`clip(x + 3, 0, 6) / 6` as HardSigmoid, and `x` times it as HardSwish."""
    for node in reversed(list(model.graph)):
        if node.graph is None or node.domain != "" or node.op_type not in ("Mul", "Div"):
            continue
        number, parts = factors(node.outputs[0])
        dtype = node.outputs[0].dtype
        if len(parts) == 2:
            for data, gate in (parts, parts[::-1]):
                scale = _gate_scale(gate, data)
                if scale is not None and close(number * scale, 1.0, dtype):
                    fuse([node], "HardSwish", [data])
                    break
        elif len(parts) == 1 and close(number, 1 / 6, dtype):
            shifted = _shifted(parts[0])
            if shifted is not None:
                fuse([node], "HardSigmoid", [shifted], {"alpha": 1 / 6, "beta": 0.5})
    return model


def _gate_scale(gate: ir.Value, data: ir.Value) -> float | None:
    """What a gate on `data` is multiples of: 1 for HardSigmoid, 6 for `clip(x + 3, 0, 6)`."""
    if _shifted(gate) is data:
        return 6.0
    node = producer(gate, "HardSigmoid")
    if node is None or node.inputs[0] is not data:
        return None
    is_native = close(node.attributes.get_float("alpha", 0.2), 1 / 6, ir.DataType.FLOAT)
    return 1.0 if is_native and node.attributes.get_float("beta", 0.5) == 0.5 else None


def _shifted(value: ir.Value) -> ir.Value | None:
    """The `x` of `clip(x + 3, 0, 6)`."""
    clip = producer(value, "Clip")
    if clip is None or len(clip.inputs) != 3 or (scalar(clip.inputs[1]), scalar(clip.inputs[2])) != (0, 6):
        return None
    found = with_scalar(producer(clip.inputs[0], "Add"))
    return found[0] if found is not None and found[1] == 3 else None
