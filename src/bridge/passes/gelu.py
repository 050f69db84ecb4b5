"""GELU that was written out as arithmetic."""

from __future__ import annotations

import math

import onnx_ir as ir

from bridge.hub.graph import fuse, producer, scalar
from bridge.passes.match import close, factors, is_number, keeps_rank, scaled, with_scalar


def recognise_gelu(model: ir.Model) -> ir.Model:
    """`0.5 x (1 + erf(x / sqrt(2)))` and its tanh approximation as Gelu, with exactly these constants.

    The formulas are those of Hendrycks and Gimpel, "Gaussian Error Linear Units" (arXiv 1606.08415).
    """
    for node in reversed(list(model.graph)):
        if node.graph is None or node.domain != "" or node.op_type not in ("Mul", "Div"):
            continue
        number, parts = factors(node.outputs[0])
        if len(parts) != 2 or not close(number, 0.5, node.outputs[0].dtype):
            continue
        for data, gate in (parts, parts[::-1]):
            approximate = _gate(gate, data)
            if approximate is not None:
                fuse([node], "Gelu", [data], {"approximate": approximate})
                break
    return model


def _gate(gate: ir.Value, data: ir.Value) -> str | None:
    """Which of the two gates a value is: `1 + erf(x / sqrt(2))` or `1 + tanh(...)`; None if neither."""
    node = producer(gate, "Add", "Sub")
    if node is None:
        return None
    if node.op_type == "Sub":
        one, inner = node.inputs
        if one is None or not is_number(one, 1.0) or inner is None or not keeps_rank(inner, one):
            return None
        return "none" if _is_erf(inner, data, -1) else None
    found = with_scalar(node)
    if found is None or not close(found[1], 1.0, data.dtype):
        return None
    if _is_erf(found[0], data, 1):
        return "none"
    return "tanh" if _is_tanh(found[0], data) else None


def _is_erf(value: ir.Value, data: ir.Value, sign: int) -> bool:
    node = producer(value, "Erf")
    factor = None if node is None else scaled(node.inputs[0], data)
    return factor is not None and close(factor, sign / math.sqrt(2), data.dtype)


def _is_tanh(value: ir.Value, data: ir.Value) -> bool:
    """`tanh(sqrt(2 / pi) (x + 0.044715 x**3))`."""
    node = producer(value, "Tanh")
    number, parts = factors(node.inputs[0]) if node is not None else (0.0, [])
    if not close(number, math.sqrt(2 / math.pi), data.dtype):
        return False
    if len(parts) == 2 and data in parts:
        return _is_quadratic(parts[1] if parts[0] is data else parts[0], data)
    total = producer(parts[0], "Add") if len(parts) == 1 else None
    if total is None or data not in total.inputs:
        return False
    cubic = total.inputs[1] if total.inputs[0] is data else total.inputs[0]
    number, powers = factors(cubic)
    return close(number, 0.044715, data.dtype) and _degree(powers, data) == 3


def _is_quadratic(value: ir.Value, data: ir.Value) -> bool:
    """`1 + 0.044715 x**2`."""
    found = with_scalar(producer(value, "Add"))
    if found is None or found[1] != 1:
        return False
    number, powers = factors(found[0])
    return close(number, 0.044715, data.dtype) and _degree(powers, data) == 2


def _degree(powers: list[ir.Value], data: ir.Value) -> float | None:
    """The exponent of a product of powers of one value."""
    total = 0.0
    for power in powers:
        node = producer(power, "Pow")
        if power is data:
            total += 1
        elif node is not None and node.inputs[0] is data and (exponent := scalar(node.inputs[1])) is not None:
            total += exponent
        else:
            return None
    return total
