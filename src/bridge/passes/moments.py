"""Data that arithmetic brings to mean zero or to unit size along axes, in every order of writing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import is_trained, only_use, producer, rank, scalar
from bridge.passes.match import (
    inverse_root_of,
    keeps_rank,
    root_of,
    same,
    same_axis,
    settled,
    squared,
    with_scalar,
)
from bridge.passes.moves import axes_of

_DEPTH = 8
_HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


@dataclass(frozen=True)
class Normal:
    """`data / sqrt(mean(data ** 2) + epsilon)` along axes, of `data - mean(data)` if `centred`.

    `gamma` multiplies the result and `beta` is added to it, each a weight that broadcasts to the data.
    `nodes` compute it, the last one the result.
    """

    data: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    centred: bool
    gamma: ir.Value | None
    beta: ir.Value | None
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Mean:
    of: ir.Value
    axes: tuple[int, ...]


@dataclass(frozen=True)
class _Product:
    """Factors over divisors, with the nodes that multiply them, the last one first."""

    factors: tuple[ir.Value, ...]
    divisors: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Deviation:
    """`sqrt(mean(size ** 2) + epsilon)`; `size` is the centred or the raw data."""

    size: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    nodes: tuple[ir.Node, ...]


def normalised(value: ir.Value | None) -> Normal | None:
    """How a value is normalised data; None if it is not.

    The factors and divisors stand in any order, the inverse deviation is written in any way, `gamma`
    multiplies at any place, and `beta - mean * s` may be added to `data * s`. In half precision the
    arithmetic may be that of float32 on data that was widened, and narrowed before `gamma` or at the end.
    The epsilon is added under the root; the variance is the mean of squared differences, not a difference
    of means, which rounds differently.
    """
    node = None if value is None else value.producer()
    if node is None or node.domain != "":
        return None
    match node.op_type:
        case "Cast":
            return _narrowed(node)
        case "Add":
            return _shifted(node) or _folded(node)
        case "Mul" | "Div":
            return _scaled(node)
    return None


def mean_of(value: ir.Value | None) -> _Mean | None:
    """What a value is the mean of, along which axes, with these axes kept.

    `ReduceMean`, `ReduceSum` over the count of elements, `GlobalAveragePool`; the axes may be taken away
    and put back.
    """
    value = settled(value)
    node = producer(value, "ReduceMean", "GlobalAveragePool", "Div", "Mul", "Unsqueeze", "Reshape")
    if node is None or value is None:
        return None
    if node.op_type in ("Unsqueeze", "Reshape"):
        reduction = producer(node.inputs[0], "ReduceMean")
        found = None if reduction is None else _reduction(reduction, keepdims=False)
        return found if found is not None and _keeps(found, node) else None
    if node.op_type in ("Div", "Mul"):
        return _sum_over_count(node)
    if node.op_type == "ReduceMean":
        return _reduction(node, keepdims=True)
    data, count = node.inputs[0], rank(node.inputs[0])
    return None if data is None or count is None else _Mean(data, tuple(range(2, count)))


def _reduction(node: ir.Node, *, keepdims: bool) -> _Mean | None:
    data, count = node.inputs[0], rank(node.inputs[0])
    if data is None or count is None or bool(node.attributes.get_int("keepdims", 1)) != keepdims:
        return None
    axes = axes_of(node, count)
    return _Mean(data, axes) if axes and axes[0] > 0 else None


def _keeps(mean: _Mean, node: ir.Node) -> bool:
    """Whether an Unsqueeze or Reshape puts back the axes of a mean."""
    result = node.outputs[0].shape
    if mean.of.shape is None or result is None or len(result) != len(mean.of.shape):
        return False
    if node.op_type == "Unsqueeze":
        return axes_of(node, len(result)) == mean.axes
    kept = [1 if axis in mean.axes else size for axis, size in enumerate(mean.of.shape)]
    pairs = list(zip(kept, result, strict=True))
    if any(isinstance(one, int) != isinstance(other, int) for one, other in pairs):
        return False
    if any(isinstance(one, int) and one != other for one, other in pairs):
        return False
    return sum(not same_axis(one, other) for one, other in pairs) < 2


def _sum_over_count(node: ir.Node) -> _Mean | None:
    found = with_scalar(node)
    if found is None or (node.op_type == "Div" and found[0] is not node.inputs[0]):
        return None
    total = producer(found[0], "ReduceSum")
    mean = None if total is None else _reduction(total, keepdims=True)
    if mean is None or mean.of.shape is None:
        return None
    sizes = [mean.of.shape[axis] for axis in mean.axes]
    count = int(np.prod([size for size in sizes if isinstance(size, int)]))
    if len(sizes) != sum(isinstance(size, int) for size in sizes) or count == 0:
        return None
    number = count if node.op_type == "Div" else 1 / count
    return mean if mean.of.dtype is not None and found[1] == mean.of.dtype.numpy().type(number) else None


def _centred(value: ir.Value | None) -> tuple[ir.Value, _Mean, ir.Node] | None:
    """`x - mean(x)`: the data, its mean and the subtraction."""
    node = producer(value, "Sub")
    if node is None or node.inputs[0] is None:
        return None
    data, mean = node.inputs[0], mean_of(node.inputs[1])
    return (data, mean, node) if mean is not None and same(mean.of, data) else None


def _deviation(value: ir.Value | None) -> _Deviation | None:
    """What `value` is under a root: `mean(size ** 2) + epsilon`."""
    value = settled(value)
    add = producer(value, "Add")
    added = with_scalar(add)
    if add is None or added is None or added[1] < 0 or not _is_attribute(added[1], value):
        return None
    mean = mean_of(added[0])
    size = None if mean is None else squared(settled(mean.of))
    if mean is None or size is None:
        return None
    return _Deviation(size, mean.axes, added[1], (add,))


def _is_attribute(epsilon: float, value: ir.Value | None) -> bool:
    """Whether an attribute of the hub, a float32, can hold a number of the value's type."""
    if value is None or value.dtype != ir.DataType.DOUBLE:
        return True
    return float(str(np.float32(epsilon))) == epsilon


def _product(node: ir.Node, depth: int = _DEPTH) -> _Product:
    """The factors and divisors of a product; what others read as well stays in one piece."""
    factors: tuple[ir.Value, ...] = ()
    divisors: tuple[ir.Value, ...] = ()
    nodes: tuple[ir.Node, ...] = (node,)
    for position, operand in enumerate(node.inputs):
        if operand is None:
            continue
        if position == 1 and node.op_type == "Div":
            divisors += (operand,)
            continue
        inner = producer(operand, "Mul", "Div") if depth and only_use(operand) is node else None
        if inner is None or squared(operand) is not None or inverse_root_of(operand) is not None:
            factors += (operand,)
            continue
        below = _product(inner, depth - 1)
        factors, divisors = factors + below.factors, divisors + below.divisors
        nodes += below.nodes
    return _Product(factors, divisors, nodes)


def _scaled(node: ir.Node) -> Normal | None:
    """A product of data and its inverse deviation, and of a gamma."""
    product = _product(node)
    found = _over_deviation(product) or _times_normal(product)
    if found is None:
        return None
    normal, rest = found
    rest = tuple(value for value in rest if not _is_one(value, normal.data))
    if not rest:
        return normal
    gamma = rest[0] if len(rest) == 1 and normal.gamma is None and is_weight(rest[0]) else None
    return None if gamma is None else replace(normal, gamma=gamma)


def _over_deviation(product: _Product) -> tuple[Normal, tuple[ir.Value, ...]] | None:
    """The data among the factors and its deviation, with the factors that are left."""
    for deviation, factors in _deviations(product):
        for position, factor in enumerate(factors):
            normal = _normal(factor, deviation, tuple(reversed(product.nodes)))
            if normal is not None:
                return normal, factors[:position] + factors[position + 1 :]
    return None


def _deviations(product: _Product) -> Iterator[tuple[_Deviation, tuple[ir.Value, ...]]]:
    """The deviation that a product divides by, each with the factors that stay beside it."""
    if len(product.divisors) == 1:
        divisor = settled(product.divisors[0])
        found = _deviation(root_of(divisor))
        if found is not None and divisor is not None:
            yield _with_node(found, divisor), product.factors
    elif not product.divisors:
        for position, factor in enumerate(product.factors):
            inverse = settled(factor)
            found = _deviation(inverse_root_of(inverse))
            if found is not None and inverse is not None:
                yield _with_node(found, inverse), product.factors[:position] + product.factors[position + 1 :]


def _with_node(deviation: _Deviation, value: ir.Value) -> _Deviation:
    node = value.producer()
    return deviation if node is None else replace(deviation, nodes=(*deviation.nodes, node))


def _normal(factor: ir.Value, deviation: _Deviation, nodes: tuple[ir.Node, ...]) -> Normal | None:
    """A factor over its own deviation; data that something else was centred by is left as it is."""
    if not same(factor, deviation.size):
        return None
    centred = _centred(factor)
    if centred is None:
        difference = producer(factor, "Sub")
        if difference is not None and mean_of(difference.inputs[1]) is not None:
            return None
        nodes = (*deviation.nodes, *nodes)
        return Normal(factor, deviation.axes, deviation.epsilon, False, None, None, nodes)
    data, mean, subtraction = centred
    if mean.axes != deviation.axes:
        return None
    nodes = (*deviation.nodes, subtraction, *nodes)
    return Normal(data, mean.axes, deviation.epsilon, True, None, None, nodes)


def _times_normal(product: _Product) -> tuple[Normal, tuple[ir.Value, ...]] | None:
    """A factor that was normalised in float32 and narrowed, with the factors that are left."""
    if product.divisors:
        return None
    for position, factor in enumerate(product.factors):
        cast = producer(factor, "Cast")
        normal = _narrowed(cast) if cast is not None and only_use(factor) in product.nodes else None
        if normal is not None and normal.gamma is None:
            nodes = (*normal.nodes, *reversed(product.nodes))
            return replace(normal, nodes=nodes), product.factors[:position] + product.factors[position + 1 :]
    return None


def _narrowed(cast: ir.Node) -> Normal | None:
    """Half-precision data that was normalised in float32: the operators do so by themselves."""
    value, result = cast.inputs[0], cast.outputs[0]
    if result.dtype not in _HALVES or value is None or only_use(value) is not cast:
        return None
    inner = value.producer()
    normal = _scaled(inner) if inner is not None and inner.op_type in ("Mul", "Div") else None
    if normal is None or normal.gamma is not None:
        return None
    widening = producer(normal.data, "Cast")
    source = None if widening is None else widening.inputs[0]
    if source is None or source.dtype != result.dtype or normal.data.dtype != ir.DataType.FLOAT:
        return None
    return replace(normal, data=source, nodes=(*normal.nodes, cast))


def _shifted(add: ir.Node) -> Normal | None:
    """Normalised data plus a beta."""
    for value, beta in (add.inputs, reversed(add.inputs)):
        if value is None or beta is None or not is_weight(beta) or only_use(value) is not add:
            continue
        inner = value.producer()
        normal = _scaled(inner) if inner is not None and inner.op_type in ("Mul", "Div") else None
        normal = _narrowed(inner) if inner is not None and inner.op_type == "Cast" else normal
        if normal is not None:
            return replace(normal, beta=beta, nodes=(*normal.nodes, add))
    return None


def _folded(add: ir.Node) -> Normal | None:
    """`data * s + (beta - mean * s)` or `data * s + (beta + (-mean) * s)`, `s` being gamma over deviation."""
    for product_value, shift_value in (add.inputs, reversed(add.inputs)):
        product = producer(product_value, "Mul")
        if product is None or product_value is None or only_use(product_value) is not add:
            continue
        for data, factor in (product.inputs, reversed(product.inputs)):
            scale = None if data is None or factor is None else _scale(factor, data)
            shift = None if factor is None or data is None else _shift(shift_value, data, factor)
            if data is None or scale is None or shift is None or scale.axes != shift[0].axes:
                continue
            return replace(scale, beta=shift[1], nodes=(*scale.nodes, *shift[2], product, add))
    return None


def _scale(value: ir.Value, data: ir.Value) -> Normal | None:
    """`gamma / deviation(data)`."""
    node = producer(value, "Mul", "Div", "Reciprocal", "Pow", "Sqrt")
    if node is None:
        return None
    if node.op_type in ("Mul", "Div") and inverse_root_of(value) is None:
        product = _product(node)
    else:
        product = _Product((value,), (), (node,))
    for deviation, factors in _deviations(product):
        centred = _centred(deviation.size)
        if centred is None or not same(centred[0], data) or centred[1].axes != deviation.axes:
            continue
        if len(factors) > 1 or not all(is_weight(factor) for factor in factors):
            continue
        gamma = factors[0] if factors else None
        nodes = (*deviation.nodes, *reversed(product.nodes))
        return Normal(data, deviation.axes, deviation.epsilon, True, gamma, None, nodes)
    return None


def _shift(
    value: ir.Value | None, data: ir.Value, factor: ir.Value
) -> tuple[_Mean, ir.Value | None, tuple[ir.Node, ...]] | None:
    """The mean, the beta and the nodes of `beta - mean * s`, `beta + (-mean) * s` or `(-mean) * s`."""
    node = producer(value, "Sub", "Add", "Mul", "Neg")
    if node is None:
        return None
    match node.op_type:
        case "Sub":
            beta, product = node.inputs[0], producer(node.inputs[1], "Mul")
            mean = None if product is None else _mean_times(product, data, factor)
            if product is None or mean is None or beta is None or not is_weight(beta):
                return None
            return mean, beta, (product, node)
        case "Add":
            for inner, beta in (node.inputs, reversed(node.inputs)):
                found = _shift(inner, data, factor) if beta is not None and is_weight(beta) else None
                if found is not None and found[1] is None:
                    return found[0], beta, (*found[2], node)
            return None
        case "Neg":
            product = producer(node.inputs[0], "Mul")
            mean = None if product is None else _mean_times(product, data, factor)
            return None if product is None or mean is None else (mean, None, (product, node))
    for negative, other in (node.inputs, reversed(node.inputs)):
        negation = producer(settled(negative), "Neg")
        mean = None if negation is None else mean_of(negation.inputs[0])
        if mean is not None and same(mean.of, data) and same(other, factor):
            return mean, None, (node,)
    return None


def _mean_times(product: ir.Node, data: ir.Value, factor: ir.Value) -> _Mean | None:
    """The mean of the data in a product of it and a factor."""
    for value, other in (product.inputs, reversed(product.inputs)):
        mean = mean_of(value)
        if mean is not None and same(mean.of, data) and same(other, factor):
            return mean
    return None


def is_weight(value: ir.Value, depth: int = _DEPTH) -> bool:
    """Whether a value comes from trained tensors and constants alone."""
    if value.const_value is not None:
        return is_trained(value) or not value.is_graph_input()
    node = value.producer()
    if node is None or depth == 0 or node.op_type not in _WEIGHT_STEPS or node.domain != "":
        return False
    return all(each is None or is_weight(each, depth - 1) for each in node.inputs)


_WEIGHT_STEPS = frozenset({"Add", "Cast", "Mul", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze"})


def _is_one(value: ir.Value, data: ir.Value) -> bool:
    return scalar(value) == 1 and keeps_rank(data, value)
