"""Softplus, Mish, Swish, Softmax and LogSoftmax that were written out as arithmetic."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import all_nodes, fuse, integers, only_use, producer, rank
from bridge.passes.linear import DOMAIN
from bridge.passes.match import same, scaled, with_scalar


def recognise_smooth_activations(model: ir.Model) -> ir.Model:
    """The formulas of Softplus, Mish, Softmax and LogSoftmax as these operators.

    Softplus is `log(1 + exp(x))`, as ONNX defines it, or `max(x, 0) + log(1 + exp(-abs(x)))`; Softmax and
    LogSoftmax are those that subtract the maximum first, or the logarithm of the sum of exponentials:
    without it large inputs overflow, which the operators do not.
    """
    for node in list(model.graph):
        rule = _RULES.get(node.op_type) if node.domain == "" and node.graph is not None else None
        if rule is not None:
            rule(node)
    return model


def fuse_swish(model: ir.Model) -> ir.Model:
    """`x * sigmoid(k * x)` and `x / (1 + exp(-k * x))` as `bridge::Swish`, which ONNX has from opset 24 on.

    Run at the end of preparation; does not keep the graph valid ONNX.
    """
    for node in list(all_nodes(model)):
        if node.domain != "" or node.graph is None or node.op_type not in ("Mul", "Div"):
            continue
        if node.op_type == "Mul":
            for data, gate in (node.inputs, reversed(node.inputs)):
                sigmoid = producer(gate, "Sigmoid")
                if sigmoid is None or not _is_private(gate, node):
                    continue
                if _write_swish(node, data, _multiple(sigmoid.inputs[0], data)):
                    break
        else:
            data, divisor = node.inputs
            exponent = _one_plus_exponential(divisor)
            if exponent is not None and _is_private(divisor, node):
                slope = _multiple(exponent, data)
                _write_swish(node, data, None if slope is None else -slope)
    return model


def _is_private(value: ir.Value | None, reader: ir.Node) -> bool:
    return value is not None and only_use(value) is reader


def _multiple(value: ir.Value | None, data: ir.Value | None) -> float | None:
    return None if value is None or data is None else scaled(value, data)


def _write_swish(node: ir.Node, data: ir.Value | None, slope: float | None) -> bool:
    if slope is None or slope == 0:
        return False
    fuse([node], "Swish", [data], {"alpha": slope}, domain=DOMAIN)
    return True


def _one_plus_exponential(value: ir.Value | None) -> ir.Value | None:
    """The `x` of `1 + exp(x)`."""
    add = producer(value, "Add")
    found = with_scalar(add)
    exponential = producer(found[0], "Exp") if found is not None and found[1] == 1 else None
    return None if exponential is None else exponential.inputs[0]


def _softplus(log: ir.Node) -> None:
    data = _one_plus_exponential(log.inputs[0])
    if data is None:
        return
    if _negative_magnitude(data) is not None and only_use(log.outputs[0]) is not None:
        return
    fuse([log], "Softplus", [data])


def _stable_softplus(add: ir.Node) -> None:
    """`max(x, 0) + log(1 + exp(-abs(x)))`."""
    for positive, rest in (add.inputs, reversed(add.inputs)):
        data = _positive_part(positive)
        log = producer(rest, "Log")
        exponent = None if log is None else _one_plus_exponential(log.inputs[0])
        if data is not None and log is not None and _negative_magnitude(exponent) is data:
            fuse([log, add], "Softplus", [data])
            return


def _positive_part(value: ir.Value | None) -> ir.Value | None:
    node = producer(value, "Relu", "Max")
    if node is None or node.op_type == "Relu":
        return None if node is None else node.inputs[0]
    found = with_scalar(node)
    return found[0] if found is not None and found[1] == 0 else None


def _negative_magnitude(value: ir.Value | None) -> ir.Value | None:
    """The `x` of `-abs(x)`."""
    negation = producer(value, "Neg", "Mul")
    if negation is None:
        return None
    inner = negation.inputs[0]
    if negation.op_type == "Mul":
        found = with_scalar(negation)
        inner = found[0] if found is not None and found[1] == -1 else None
    magnitude = producer(inner, "Abs")
    return None if magnitude is None else magnitude.inputs[0]


def _mish(product: ir.Node) -> None:
    for data, gate in (product.inputs, reversed(product.inputs)):
        tanh = producer(gate, "Tanh")
        softplus = None if tanh is None else producer(tanh.inputs[0], "Softplus")
        if data is not None and softplus is not None and softplus.inputs[0] is data:
            fuse([product], "Mish", [data])
            return


def _axis(node: ir.Node | None) -> int | None:
    """The single axis of a reduction that keeps it, counted from the first."""
    if node is None or len(node.inputs) < 2 or not node.attributes.get_int("keepdims", 1):
        return None
    axes, count = integers(node.inputs[1]), rank(node.inputs[0])
    return axes[0] % count if axes is not None and len(axes) == 1 and count else None


def _less_maximum(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """The `x` and the axis of `x - max(x)`."""
    difference = producer(value, "Sub")
    data = None if difference is None else difference.inputs[0]
    maximum = None if difference is None else producer(difference.inputs[1], "ReduceMax")
    axis = _axis(maximum)
    if data is None or maximum is None or axis is None or not same(maximum.inputs[0], data):
        return None
    return data, axis


def _softmax(division: ir.Node) -> None:
    exponentials, divisor = division.inputs
    total = producer(divisor, "ReduceSum")
    exponential = producer(exponentials, "Exp")
    found = None if exponential is None else _less_maximum(exponential.inputs[0])
    if total is None or found is None or _axis(total) != found[1] or not same(total.inputs[0], exponentials):
        return
    _write_softmax(division, "Softmax", found)


def _log_softmax(difference: ir.Node) -> None:
    data, normaliser = difference.inputs
    summed = producer(normaliser, "ReduceLogSumExp")
    axis = _axis(summed)
    if summed is not None and axis is not None and data is not None and same(summed.inputs[0], data):
        _write_softmax(difference, "LogSoftmax", (data, axis))
        return
    log = producer(normaliser, "Log")
    total = None if log is None else producer(log.inputs[0], "ReduceSum")
    exponential = None if total is None else producer(total.inputs[0], "Exp")
    found = _less_maximum(data)
    if exponential is None or found is None or _axis(total) != found[1]:
        return
    if same(exponential.inputs[0], data):
        _write_softmax(difference, "LogSoftmax", found)


def _write_softmax(node: ir.Node, operator: str, found: tuple[ir.Value, int]) -> None:
    data, axis = found
    count = rank(data)
    fuse([node], operator, [data], {"axis": -1 if count == axis + 1 else axis})


_RULES = {
    "Add": _stable_softplus,
    "Div": _softmax,
    "Log": _softplus,
    "Mul": _mish,
    "Sub": _log_softmax,
}
