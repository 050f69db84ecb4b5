"""Recognising arithmetic: constants, scaled values and products, whatever order they are written in."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import constant, producer, scalar
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
        return base if base is other else None
    return base if is_number(other, 2.0) else None


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
