"""Batch normalisation that was written out as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import (
    add_constant,
    common_scope,
    fuse,
    is_trained,
    only_use,
    producer,
    rank,
    static_shape,
)
from bridge.hub.metadata import set_scope
from bridge.passes.match import with_scalar


@dataclass(frozen=True)
class _Scale:
    """`gamma / sqrt(variance + epsilon)`; `gamma` is None where there is none."""

    variance: ir.Value
    epsilon: float
    gamma: ir.Value | None
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Norm:
    data: ir.Value
    mean: ir.Value
    scale: _Scale
    beta: ir.Value | None
    nodes: tuple[ir.Node, ...]


def recognise_batch_norm(model: ir.Model) -> ir.Model:
    """Arithmetic with a trained mean and variance as BatchNormalization in inference.

    Two spellings, in any order of operands and with or without gamma and beta: with
    `s = gamma / sqrt(variance + epsilon)`, `x * s + (beta - mean * s)` (Keras) and `(x - mean) * s + beta`.
    The four tensors stay as they are but for a reshape to a vector. Where the channels are not axis 1,
    the node stands between two transposes. The momentum, which inference does not need, is ONNX's default.
    """
    for node in reversed(list(model.graph)):
        if node.graph is None or node.domain != "" or node.op_type not in ("Add", "Mul", "Div", "Sub"):
            continue
        norm = _folded_form(node) or _plain_form(node)
        if norm is not None:
            _rewrite(norm, node, model.graph)
    return model


def _is_tensor(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and not value.is_graph_input()


def _scale(value: ir.Value | None) -> _Scale | None:
    node = producer(value, "Mul", "Div", "Reciprocal")
    if node is None:
        return None
    if node.op_type == "Mul":
        for inverse, gamma in (node.inputs, reversed(node.inputs)):
            inner = _scale(inverse) if _is_tensor(gamma) else None
            if inner is not None and inner.gamma is None:
                return _Scale(inner.variance, inner.epsilon, gamma, (*inner.nodes, node))
        return None
    if node.op_type == "Div" and not _is_tensor(node.inputs[0]):
        return None
    root = producer(node.inputs[-1], "Sqrt")
    added = with_scalar(producer(root.inputs[0], "Add")) if root is not None else None
    if root is None or added is None or not is_trained(added[0]) or added[1] < 0:
        return None
    gamma = node.inputs[0] if node.op_type == "Div" else None
    total = root.inputs[0]
    assert total is not None
    add = total.producer()
    assert add is not None
    return _Scale(added[0], added[1], gamma, (add, root, node))


def _folded_form(add: ir.Node) -> _Norm | None:
    """`x * s + (beta - mean * s)`, or `x * s + (-mean) * s` without beta."""
    if add.op_type != "Add":
        return None
    for product_value, shift_value in (add.inputs, reversed(add.inputs)):
        product = producer(product_value, "Mul")
        if product is None or product_value is None or only_use(product_value) is not add:
            continue
        for data, factor in (product.inputs, reversed(product.inputs)):
            scale = _scale(factor)
            shift = None if scale is None else _shift(shift_value, factor)
            if data is not None and scale is not None and shift is not None:
                mean, beta, nodes = shift
                return _Norm(data, mean, scale, beta, (*scale.nodes, *nodes, product, add))
    return None


def _shift(
    value: ir.Value | None, factor: ir.Value | None
) -> tuple[ir.Value, ir.Value | None, tuple[ir.Node, ...]] | None:
    """The mean, the beta and the nodes of `beta - mean * s` or `(-mean) * s`."""
    node = producer(value, "Sub", "Mul", "Neg")
    if node is None:
        return None
    if node.op_type == "Sub":
        beta, product = node.inputs[0], producer(node.inputs[1], "Mul")
        mean = _other(product, factor)
        if product is None or mean is None or not is_trained(mean) or not _is_tensor(beta):
            return None
        return mean, beta, (product, node)
    inner = node if node.op_type == "Mul" else producer(node.inputs[0], "Mul")
    other = _other(inner, factor)
    if inner is None or other is None:
        return None
    if node.op_type == "Neg":
        return (other, None, (inner, node)) if is_trained(other) else None
    negation = producer(other, "Neg")
    mean = None if negation is None else negation.inputs[0]
    return (mean, None, (negation, node)) if negation and mean and is_trained(mean) else None


def _other(product: ir.Node | None, factor: ir.Value | None) -> ir.Value | None:
    """The operand of a product that is not `factor`."""
    if product is None or factor not in product.inputs:
        return None
    return product.inputs[1] if product.inputs[0] is factor else product.inputs[0]


def _plain_form(last: ir.Node) -> _Norm | None:
    """`(x - mean) / sqrt(variance + epsilon)`, with factors and a summand after it."""
    if last.op_type == "Add":
        for value, beta in (last.inputs, reversed(last.inputs)):
            if value is None or not _is_tensor(beta) or only_use(value) is not last:
                continue
            inner = value.producer()
            norm = None if inner is None or inner.op_type == "Add" else _plain_form(inner)
            if norm is not None:
                return _Norm(norm.data, norm.mean, norm.scale, beta, (*norm.nodes, last))
        return None
    if last.op_type == "Div":
        return _centred(last.inputs[0], _root_scale(last), last)
    if last.op_type == "Mul":
        for value, factor in (last.inputs, reversed(last.inputs)):
            norm = _centred(value, _scale(factor), last)
            if norm is not None:
                return norm
            if value is None or not _is_tensor(factor) or only_use(value) is not last:
                continue
            inner = value.producer()
            norm = None if inner is None or inner.op_type not in ("Mul", "Div") else _plain_form(inner)
            if norm is not None and norm.scale.gamma is None and norm.beta is None:
                scale = _Scale(norm.scale.variance, norm.scale.epsilon, factor, norm.scale.nodes)
                return _Norm(norm.data, norm.mean, scale, None, (*norm.nodes, last))
    return None


def _root_scale(division: ir.Node) -> _Scale | None:
    """The scale of a division by `sqrt(variance + epsilon)`."""
    root = producer(division.inputs[1], "Sqrt")
    add = producer(root.inputs[0], "Add") if root is not None else None
    added = with_scalar(add)
    if root is None or add is None or added is None or not is_trained(added[0]) or added[1] < 0:
        return None
    return _Scale(added[0], added[1], None, (add, root))


def _centred(value: ir.Value | None, scale: _Scale | None, last: ir.Node) -> _Norm | None:
    node = producer(value, "Sub")
    if node is None or scale is None or value is None or only_use(value) is not last:
        return None
    data, mean = node.inputs
    if data is None or mean is None or not is_trained(mean):
        return None
    return _Norm(data, mean, scale, None, (*scale.nodes, node, last))


def _rewrite(norm: _Norm, last: ir.Node, graph: ir.Graph) -> None:
    count = rank(norm.data)
    gamma, beta = norm.scale.gamma, norm.beta
    tensors = [each for each in (norm.mean, norm.scale.variance, gamma, beta) if each is not None]
    axis = _channel_axis(norm.data, tensors)
    if count is None or count < 2 or axis is None:
        return
    channels = _size(norm.mean)
    dtype = norm.mean.dtype
    if dtype is None or any(_size(each) != channels or each.dtype != dtype for each in tensors):
        return
    if norm.data.dtype != dtype:
        return
    ones, zeros = np.ones(channels, dtype.numpy()), np.zeros(channels, dtype.numpy())
    inputs = [
        _flat(gamma, last, graph) if gamma else add_constant(graph, ones, "scale"),
        _flat(beta, last, graph) if beta else add_constant(graph, zeros, "shift"),
        _flat(norm.mean, last, graph),
        _flat(norm.scale.variance, last, graph),
    ]
    attributes: dict[str, object] = {"epsilon": norm.scale.epsilon}
    if axis == 1:
        fuse(norm.nodes, "BatchNormalization", [norm.data, *inputs], attributes)
        return
    perm = [0, axis, *(each for each in range(1, count) if each != axis)]
    scope = common_scope(norm.nodes)
    before = _insert(last, "Transpose", [norm.data], {"perm": perm}, graph)
    normal = _insert(last, "BatchNormalization", [before, *inputs], attributes, graph)
    for value in (before, normal):
        node = value.producer()
        assert node is not None
        set_scope(node, scope)
        value.type = norm.data.type
        assert norm.data.shape is not None
        value.shape = ir.Shape([norm.data.shape[each] for each in perm])
    fuse(norm.nodes, "Transpose", [normal], {"perm": [perm.index(each) for each in range(count)]})


def _insert(
    before: ir.Node, op_type: str, inputs: list[ir.Value], attributes: dict[str, object], graph: ir.Graph
) -> ir.Value:
    node = ir.node(op_type, inputs, attributes)  # type: ignore[arg-type]
    graph.insert_before(before, node)
    return node.outputs[0]


def _size(value: ir.Value) -> int:
    shape = static_shape(value)
    return 0 if shape is None else int(np.prod(shape, dtype=np.int64))


def _channel_axis(data: ir.Value, tensors: list[ir.Value]) -> int | None:
    """The axis of the data along which all tensors run; None if it is not one and the same, or not clear."""
    count = rank(data)
    if count is None or data.shape is None:
        return None
    axes: set[int] = set()
    for tensor in tensors:
        shape = static_shape(tensor)
        if shape is None or len(shape) > count:
            return None
        wide = [count - len(shape) + position for position, size in enumerate(shape) if size != 1]
        if len(wide) > 1:
            return None
        axes.update(wide)
    if not axes:
        axes = {axis for axis in (1, count - 1) if data.shape[axis] == 1}
    if len(axes) != 1:
        return None
    (axis,) = axes
    return axis if axis != 0 and data.shape[axis] == _size(tensors[0]) else None


def _flat(value: ir.Value, before: ir.Node, graph: ir.Graph) -> ir.Value:
    """The tensor as a vector; folding joins the reshape to its recipe."""
    shape = static_shape(value)
    if shape is None or len(shape) == 1:
        return value
    target = add_constant(graph, np.asarray([_size(value)], np.int64), f"{value.name}_shape")
    flat = _insert(before, "Reshape", [value, target], {}, graph)
    flat.type, flat.shape = value.type, ir.Shape([_size(value)])
    return flat
