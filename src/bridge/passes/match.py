"""Recognising arithmetic: constants, scaled values and products, whatever order they are written in."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import constant, integers, is_trained, producer, rank, scalar
from bridge.hub.recipe import Array

_DEPTH = 8


def is_number(value: ir.Value | None, number: float) -> bool:
    """Whether a value is a plain constant of one element that is a number, as its type rounds it."""
    found = scalar(value)
    return found is not None and value is not None and close(found, number, value.dtype)


def close(found: float, expected: float, dtype: ir.DataType | None) -> bool:
    """Whether two numbers are the same within the rounding of a type."""
    if found == expected:
        return True
    if dtype is None or not dtype.is_floating_point():
        return False
    step = 2.0**-7 if dtype == ir.DataType.BFLOAT16 else float(np.finfo(dtype.numpy()).eps)
    return abs(found - expected) <= 2 * step * abs(expected)


def with_scalar(node: ir.Node | None) -> tuple[ir.Value, float] | None:
    """The other operand and the number of a node of two operands, one of which is a constant of one element.

    The constant must not widen the result (a scalar of shape [1,1,1] makes one of rank 3).
    """
    if node is None or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    if left is None or right is None:
        return None
    for number, other in ((scalar(right), left), (scalar(left), right)):
        if number is not None and keeps_rank(other, right if other is left else left):
            return other, number
    return None


def keeps_rank(value: ir.Value, factor: ir.Value) -> bool:
    """Whether a constant of one element broadcasts to a value's own shape."""
    if factor.shape is None or len(factor.shape) == 0:
        return True
    return value.shape is not None and len(factor.shape) <= len(value.shape)


def factors(value: ir.Value | None, depth: int = _DEPTH) -> tuple[float, list[ir.Value]]:
    """A value as a number times other values: products, negations, divisions by numbers are taken apart."""
    if value is None:
        return 1.0, []
    node = producer(value, "Mul", "Div", "Neg")
    if node is None or depth == 0:
        return 1.0, [value]
    if node.op_type == "Neg":
        number, rest = factors(node.inputs[0], depth - 1)
        return -number, rest
    if node.op_type == "Div":
        divisor = scalar(node.inputs[1])
        if divisor is None or divisor == 0 or with_scalar(node) is None:
            return 1.0, [value]
        number, rest = factors(node.inputs[0], depth - 1)
        return number / divisor, rest
    found = with_scalar(node)
    if found is not None:
        number, rest = factors(found[0], depth - 1)
        return number * found[1], rest
    left, right = factors(node.inputs[0], depth - 1), factors(node.inputs[1], depth - 1)
    return left[0] * right[0], left[1] + right[1]


def scaled(value: ir.Value | None, base: ir.Value) -> float | None:
    """The number `k` where a value is `k * base`."""
    number, rest = factors(value)
    return number if rest == [base] else None


def squared(value: ir.Value | None) -> ir.Value | None:
    """What a value is the square of: `x * x` or `Pow(x, 2)`."""
    node = producer(value, "Mul", "Pow")
    if node is None:
        return None
    base, other = node.inputs[0], node.inputs[1]
    if node.op_type == "Mul":
        return base if same(base, other) else None
    return base if _exponent(node) == 2 else None


def root_of(value: ir.Value | None) -> ir.Value | None:
    """What a value is the square root of: `Sqrt(x)` or `Pow(x, 0.5)`."""
    node = producer(value, "Sqrt", "Pow")
    if node is None or (node.op_type == "Pow" and _exponent(node) != 0.5):
        return None
    return node.inputs[0]


def inverse_root_of(value: ir.Value | None) -> ir.Value | None:
    """What a value is one over the square root of.

    `Reciprocal(Sqrt(x))`, `Sqrt(Reciprocal(x))`, `1 / Sqrt(x)` or `Pow(x, -0.5)`.
    """
    node = producer(value, "Reciprocal", "Div", "Sqrt", "Pow")
    if node is None:
        return None
    match node.op_type:
        case "Reciprocal":
            return root_of(node.inputs[0])
        case "Div":
            found = with_scalar(node)
            is_inverse = found is not None and found[0] is node.inputs[1] and found[1] == 1
            return root_of(node.inputs[1]) if is_inverse else None
        case "Sqrt":
            inner = producer(node.inputs[0], "Reciprocal")
            return None if inner is None else inner.inputs[0]
    return node.inputs[0] if _exponent(node) == -0.5 else None


def _exponent(power: ir.Node) -> float | None:
    base, exponent = power.inputs
    if base is None or exponent is None or not keeps_rank(base, exponent):
        return None
    return scalar(exponent)


def same(left: ir.Value | None, right: ir.Value | None, depth: int = _DEPTH) -> bool:
    """Whether two values are computed in the same way from the same values (an exporter may write twice
    what the source computes once)."""
    if left is right:
        return True
    if left is None or right is None or depth == 0:
        return False
    one, other = left.producer(), right.producer()
    if one is None or other is None:
        return _same_constants(left, right)
    if (one.domain, one.op_type, len(one.inputs)) != (other.domain, other.op_type, len(other.inputs)):
        return False
    if one.op_type in _UNREPEATABLE or one.outputs.index(left) != other.outputs.index(right):
        return False
    if metadata.stops_gradient(one) != metadata.stops_gradient(other):
        return False
    if {name: each.value for name, each in one.attributes.items()} != {
        name: each.value for name, each in other.attributes.items()
    }:
        return False
    if one.op_type.startswith("Reduce") and one.domain == "":
        axes = _axes(one)
        return axes is not None and axes == _axes(other) and same(one.inputs[0], other.inputs[0], depth - 1)
    return all(same(a, b, depth - 1) for a, b in zip(one.inputs, other.inputs, strict=True))


def _axes(reduction: ir.Node) -> frozenset[int] | None:
    count = rank(reduction.inputs[0])
    axes = integers(reduction.inputs[1]) if len(reduction.inputs) > 1 else None
    return None if count is None or axes is None else frozenset(axis % count for axis in axes)


_UNREPEATABLE = frozenset(
    {"Bernoulli", "Dropout", "If", "Loop", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike", "Scan"}
)
"""Operators that may give something else at another place."""


def _same_constants(left: ir.Value, right: ir.Value) -> bool:
    if is_trained(left) or is_trained(right) or left.dtype != right.dtype:
        return False
    if left.const_value is None or right.const_value is None or left.const_value.size > _SMALL:
        return False
    one, other = constant(left), constant(right)
    return one is not None and other is not None and np.array_equal(one, other)


_SMALL = 16
"""Constants of up to so many elements are compared."""


def settled(value: ir.Value | None) -> ir.Value | None:
    """The earliest value that a chain of reshapes and expansions leads back to with the same shape.

    Moves of this kind keep the order of elements, so that it holds the same ones.
    """
    found = current = value
    expanded = False
    while current is not None and found is not None:
        if restores(current, found, free=0 if expanded else 1):
            found = current
        node = producer(current, "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
        expanded = expanded or (node is not None and node.op_type == "Expand")
        current = None if node is None else node.inputs[0]
    return found


def restores(data: ir.Value, result: ir.Value, *, free: int = 1) -> bool:
    """Whether a result that has the elements of the data in their order has its shape too.

    Axes of unknown size count as the same if they have one name. Where a single axis is not known to be
    the same, the count of elements decides that it is: `free` is the number of such axes that may be.
    """
    if data is result:
        return True
    if data.shape is None or result.shape is None or len(data.shape) != len(result.shape):
        return False
    pairs = list(zip(data.shape, result.shape, strict=True))
    if any(isinstance(one, int) and isinstance(other, int) and one != other for one, other in pairs):
        return False
    return sum(not same_axis(one, other) for one, other in pairs) <= free


def same_axis(one: int | ir.SymbolicDim, other: int | ir.SymbolicDim) -> bool:
    """Whether two axes are known to be of one size."""
    return one == other and (isinstance(one, int) or one.value is not None)


def vector(value: ir.Value | None) -> Array | None:
    """The elements of an initializer, trained or not, along its only axis that is not 1."""
    if value is None or value.const_value is None:
        return None
    array = value.const_value.numpy()
    return array.reshape(-1) if sum(size != 1 for size in array.shape) <= 1 else None


def is_uniform(value: ir.Value | None, number: float) -> bool:
    """Whether a plain constant has a number in all its elements."""
    array = constant(value)
    return array is not None and array.size > 0 and bool(np.all(array == number))
