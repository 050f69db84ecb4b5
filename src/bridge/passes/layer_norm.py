"""Layer normalisation that was written out as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, fuse, only_use, producer, rank, static_shape
from bridge.passes.match import squared, with_scalar
from bridge.passes.moves import axes_of


@dataclass(frozen=True)
class _Inverse:
    """`1 / sqrt(variance(x) + epsilon)` over the last axes from `axis` on, times `gamma`."""

    mean: ir.Value
    epsilon: float
    axis: int
    gamma: ir.Value | None
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Norm:
    inverse: _Inverse
    beta: ir.Value | None
    nodes: tuple[ir.Node, ...]


def recognise_layer_norm(model: ir.Model) -> ir.Model:
    """Arithmetic with the mean and variance of the last axes as LayerNormalization.

    `(x - mean) / sqrt(variance + epsilon)`, with or without gamma and beta, and `x * s + (beta - mean * s)`
    with `s = gamma / sqrt(variance + epsilon)`, in any order of operands. A missing scale becomes ones.
    """
    for node in reversed(list(model.graph)):
        if node.graph is None or node.domain != "" or node.op_type not in ("Add", "Mul", "Div"):
            continue
        found = _plain(node) or _folded(node)
        if found is not None:
            _rewrite(found[0], found[1], model.graph)
    return model


def _centred(value: ir.Value | None) -> tuple[ir.Value, ir.Value, ir.Node] | None:
    """`x - mean(x)`: the data, the mean and the subtraction."""
    node = producer(value, "Sub")
    if node is None:
        return None
    data, mean = node.inputs
    reduction = producer(mean, "ReduceMean")
    if data is None or mean is None or reduction is None or reduction.inputs[0] is not data:
        return None
    return (data, mean, node) if _last_axes(reduction) is not None else None


def _last_axes(reduction: ir.Node) -> int | None:
    """The first of the axes that a reduction takes, if they are the last ones and are kept."""
    count = rank(reduction.inputs[0])
    if count is None or not reduction.attributes.get_int("keepdims", 1):
        return None
    axes = axes_of(reduction, count)
    return axes[0] if axes and axes == tuple(range(axes[0], count)) and axes[0] > 0 else None


def _inverse(value: ir.Value | None, data: ir.Value) -> _Inverse | None:
    """A value that is `gamma / sqrt(variance(data) + epsilon)`."""
    node = producer(value, "Reciprocal", "Mul")
    if node is None:
        return None
    if node.op_type == "Reciprocal":
        return _deviation(node.inputs[0], data, node)
    for inner_value, gamma in (node.inputs, reversed(node.inputs)):
        inner = _inverse(inner_value, data) if _is_tensor(gamma) else None
        if inner is not None and inner.gamma is None:
            return replace(inner, gamma=gamma, nodes=(*inner.nodes, node))
    return None


def _deviation(value: ir.Value | None, data: ir.Value, last: ir.Node) -> _Inverse | None:
    """`sqrt(variance(data) + epsilon)`."""
    root = producer(value, "Sqrt")
    add = producer(root.inputs[0], "Add") if root is not None else None
    added = with_scalar(add)
    if root is None or add is None or added is None or added[1] < 0:
        return None
    variance = producer(added[0], "ReduceMean")
    axis = None if variance is None else _last_axes(variance)
    if variance is None or axis is None:
        return None
    centred = _centred(squared(variance.inputs[0]))
    if centred is None or centred[0] is not data:
        return None
    mean = centred[1].producer()
    if mean is None or _last_axes(mean) != axis:
        return None
    return _Inverse(centred[1], added[1], axis, None, (add, root, last))


def _plain(last: ir.Node) -> tuple[ir.Value, _Norm] | None:
    """`(x - mean) / sqrt(...)`, `(x - mean) * s`, with a factor and a summand after it."""
    if last.op_type == "Add":
        for value, beta in (last.inputs, reversed(last.inputs)):
            if value is None or not _is_tensor(beta) or only_use(value) is not last:
                continue
            inner = value.producer()
            found = _plain(inner) if inner is not None and inner.op_type != "Add" else None
            if found is not None:
                data, norm = found
                return data, _Norm(norm.inverse, beta, (*norm.nodes, last))
        return None
    if last.op_type == "Div":
        centred = _centred(last.inputs[0])
        inverse = None if centred is None else _deviation(last.inputs[1], centred[0], last)
        if centred is None or inverse is None or inverse.mean is not centred[1]:
            return None
        return centred[0], _Norm(inverse, None, (*inverse.nodes[:-1], centred[2], last))
    if last.op_type != "Mul":
        return None
    for value, factor in (last.inputs, reversed(last.inputs)):
        centred = _centred(value)
        inverse = None if centred is None else _inverse(factor, centred[0])
        if centred is not None and inverse is not None and inverse.mean is centred[1]:
            return centred[0], _Norm(inverse, None, (*inverse.nodes, centred[2], last))
        if value is None or not _is_tensor(factor) or only_use(value) is not last:
            continue
        inner = value.producer()
        found = _plain(inner) if inner is not None and inner.op_type in ("Mul", "Div") else None
        if found is not None and found[1].inverse.gamma is None:
            data, norm = found
            return data, _Norm(replace(norm.inverse, gamma=factor), None, (*norm.nodes, last))
    return None


def _folded(add: ir.Node) -> tuple[ir.Value, _Norm] | None:
    """`x * s + (beta - mean * s)`, `x * s + (beta + (-mean) * s)`."""
    if add.op_type != "Add":
        return None
    for product_value, shift_value in (add.inputs, reversed(add.inputs)):
        product = producer(product_value, "Mul")
        if product is None or product_value is None or only_use(product_value) is not add:
            continue
        for data, factor in (product.inputs, reversed(product.inputs)):
            inverse = None if data is None else _inverse(factor, data)
            if data is None or inverse is None:
                continue
            shift = _shift(shift_value, inverse.mean, factor)
            if shift is not None:
                return data, _Norm(inverse, shift[0], (*inverse.nodes, *shift[1], product, add))
    return None


def _shift(
    value: ir.Value | None, mean: ir.Value, factor: ir.Value | None
) -> tuple[ir.Value | None, tuple[ir.Node, ...]] | None:
    """The beta and nodes of `beta - mean * s`, `beta + (-mean) * s` or `(-mean) * s`."""
    node = producer(value, "Sub", "Add", "Mul")
    if node is None:
        return None
    if node.op_type == "Sub":
        product = producer(node.inputs[1], "Mul")
        if product is None or not _is_tensor(node.inputs[0]) or set(product.inputs) != {mean, factor}:
            return None
        return node.inputs[0], (product, node)
    if node.op_type == "Add":
        for inner_value, beta in (node.inputs, reversed(node.inputs)):
            inner = producer(inner_value, "Mul") if _is_tensor(beta) else None
            if inner is not None and _is_negative_product(inner, mean, factor):
                return beta, (inner, node)
        return None
    return (None, (node,)) if _is_negative_product(node, mean, factor) else None


def _is_negative_product(product: ir.Node, mean: ir.Value, factor: ir.Value | None) -> bool:
    if factor not in product.inputs:
        return False
    other = product.inputs[1] if product.inputs[0] is factor else product.inputs[0]
    negation = producer(other, "Neg")
    return negation is not None and negation.inputs[0] is mean


def _is_tensor(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and not value.is_graph_input()


def _rewrite(data: ir.Value, norm: _Norm, graph: ir.Graph) -> None:
    if data.shape is None or data.dtype is None:
        return
    normal = [axis for axis in list(data.shape)[norm.inverse.axis :] if isinstance(axis, int)]
    if len(normal) != len(data.shape) - norm.inverse.axis:
        return
    gamma, beta = norm.inverse.gamma, norm.beta
    if any(
        each is not None and (static_shape(each) != tuple(normal) or each.dtype != data.dtype)
        for each in (gamma, beta)
    ):
        return
    scale = gamma or add_constant(graph, np.ones(normal, data.dtype.numpy()), "scale")
    inputs = [data, scale] if beta is None else [data, scale, beta]
    attributes: dict[str, object] = {
        "axis": norm.inverse.axis - len(data.shape),
        "epsilon": norm.inverse.epsilon,
    }
    fuse(norm.nodes, "LayerNormalization", inputs, attributes)
