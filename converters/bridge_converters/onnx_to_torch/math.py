"""Elementwise arithmetic.

PyTorch has no kernels for unsigned integers of more than 8 bits: they compute as int64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering
from bridge_converters.onnx_to_torch._unsigned import ordered, unordered, unsigned_quotient


@lowering("Add")
def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return (x.to(torch.int64) + y.to(torch.int64)).to(x.dtype)
    return x + y


@lowering("Sub")
def sub(x: Tensor, y: Tensor) -> Tensor:
    """x - y."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return (x.to(torch.int64) - y.to(torch.int64)).to(x.dtype)
    return x - y


@lowering("Mul")
def mul(x: Tensor, y: Tensor) -> Tensor:
    """x * y."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return (x.to(torch.int64) * y.to(torch.int64)).to(x.dtype)
    return x * y


@lowering("Div")
def div(x: Tensor, y: Tensor) -> Tensor:
    """x / y, truncated towards zero for integers."""
    if x.is_floating_point() or x.is_complex():
        return x / y
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return unsigned_quotient(x, y)
    return torch.div(x, y, rounding_mode="trunc")


@lowering("Pow")
def pow_(x: Tensor, y: Tensor) -> Tensor:
    """x to the power y, in the dtype of x."""
    if x.is_floating_point():
        return x**y
    return torch.pow(x, y).to(x.dtype)


@lowering("Mod")
def mod(x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    """The remainder, with the sign of y, or with the sign of x if `fmod`."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return unsigned_remainder(x, y)
    if fmod:
        return torch.fmod(x, y)
    return x % y


def unsigned_remainder(x: Tensor, y: Tensor) -> Tensor:
    """x - x // y * y for unsigned integers."""
    whole = unsigned_quotient(x, y).to(torch.int64) * y.to(torch.int64)
    return (x.to(torch.int64) - whole).to(x.dtype)


@lowering("Sum")
def sum_(*inputs: Tensor) -> Tensor:
    """The sum of all inputs, broadcast."""
    total = inputs[0]
    for each in inputs[1:]:
        total = total + each
    return total


@lowering("Mean")
def mean(*inputs: Tensor) -> Tensor:
    """The mean of all inputs, broadcast."""
    total = inputs[0]
    for each in inputs[1:]:
        total = total + each
    return total / len(inputs)


@lowering("Min")
def min_(*inputs: Tensor, input_types: tuple[str, ...]) -> Tensor:
    """The elementwise minimum of all inputs, broadcast."""
    if input_types[0] in ("UINT16", "UINT32", "UINT64"):
        return unsigned_min(*inputs)
    if len(inputs) == 2:
        return torch.minimum(inputs[0], inputs[1])
    return smallest(*inputs)


def smallest(*inputs: Tensor) -> Tensor:
    """The elementwise minimum of any number of tensors."""
    result = inputs[0]
    for each in inputs[1:]:
        result = torch.minimum(result, each)
    return result


@lowering("Max")
def max_(*inputs: Tensor, input_types: tuple[str, ...]) -> Tensor:
    """The elementwise maximum of all inputs, broadcast."""
    if input_types[0] in ("UINT16", "UINT32", "UINT64"):
        return unsigned_max(*inputs)
    if len(inputs) == 2:
        return torch.maximum(inputs[0], inputs[1])
    return largest(*inputs)


def largest(*inputs: Tensor) -> Tensor:
    """The elementwise maximum of any number of tensors."""
    result = inputs[0]
    for each in inputs[1:]:
        result = torch.maximum(result, each)
    return result


def unsigned_min(*inputs: Tensor) -> Tensor:
    """The elementwise minimum of unsigned integers."""
    smallest = ordered(inputs[0])
    for each in inputs[1:]:
        smallest = torch.minimum(smallest, ordered(each))
    return unordered(smallest, inputs[0].dtype)


def unsigned_max(*inputs: Tensor) -> Tensor:
    """The elementwise maximum of unsigned integers."""
    largest = ordered(inputs[0])
    for each in inputs[1:]:
        largest = torch.maximum(largest, ordered(each))
    return unordered(largest, inputs[0].dtype)


@lowering("Clip", const=("low", "high"))
def clip(x: Tensor, low: float | Tensor | None = None, high: float | Tensor | None = None) -> Tensor:
    """min(max(x, low), high); a bound that is left out does not apply."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return unsigned_clip(x, low, high)
    if isinstance(low, int | float) and isinstance(high, int | float) and low == 0 and high == 6:
        return F.relu6(x)
    if isinstance(low, int | float) and isinstance(high, int | float):
        return torch.clamp(x, low, high)
    if low is None:
        return x if high is None else torch.clamp(x, max=high)
    if high is None:
        return torch.clamp(x, min=low)
    return torch.clamp(torch.clamp(x, min=low), max=high)


def unsigned_clip(x: Tensor, low: float | Tensor | None, high: float | Tensor | None) -> Tensor:
    """min(max(x, low), high) for unsigned integers."""
    if low is not None:
        x = unsigned_max(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
    return x if high is None else unsigned_min(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))


@lowering("Neg")
def neg(x: Tensor) -> Tensor:
    """-x."""
    return -x


@lowering("Abs")
def abs_(x: Tensor) -> Tensor:
    """The absolute value."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return x
    return torch.abs(x)


@lowering("Sqrt")
def sqrt(x: Tensor) -> Tensor:
    """The square root."""
    return torch.sqrt(x)


@lowering("Exp")
def exp(x: Tensor) -> Tensor:
    """e to the power x."""
    return torch.exp(x)


@lowering("Log")
def log(x: Tensor) -> Tensor:
    """The natural logarithm."""
    return torch.log(x)


@lowering("Erf")
def erf(x: Tensor) -> Tensor:
    """The error function."""
    return torch.erf(x)


@lowering("Sin")
def sin(x: Tensor) -> Tensor:
    """The sine."""
    return torch.sin(x)


@lowering("Cos")
def cos(x: Tensor) -> Tensor:
    """The cosine."""
    return torch.cos(x)


@lowering("Tan")
def tan(x: Tensor) -> Tensor:
    """The tangent."""
    return torch.tan(x)


@lowering("Asin")
def asin(x: Tensor) -> Tensor:
    """The inverse sine."""
    return torch.asin(x)


@lowering("Acos")
def acos(x: Tensor) -> Tensor:
    """The inverse cosine."""
    return torch.acos(x)


@lowering("Atan")
def atan(x: Tensor) -> Tensor:
    """The inverse tangent."""
    return torch.atan(x)


@lowering("Sinh")
def sinh(x: Tensor) -> Tensor:
    """The hyperbolic sine."""
    return torch.sinh(x)


@lowering("Cosh")
def cosh(x: Tensor) -> Tensor:
    """The hyperbolic cosine."""
    return torch.cosh(x)


@lowering("Asinh")
def asinh(x: Tensor) -> Tensor:
    """The inverse hyperbolic sine."""
    return torch.asinh(x)


@lowering("Acosh")
def acosh(x: Tensor) -> Tensor:
    """The inverse hyperbolic cosine."""
    return torch.acosh(x)


@lowering("Atanh")
def atanh(x: Tensor) -> Tensor:
    """The inverse hyperbolic tangent."""
    return torch.atanh(x)


@lowering("Floor")
def floor(x: Tensor) -> Tensor:
    """The largest integer not above x."""
    return torch.floor(x)


@lowering("Ceil")
def ceil(x: Tensor) -> Tensor:
    """The smallest integer not below x."""
    return torch.ceil(x)


@lowering("Round")
def round_(x: Tensor) -> Tensor:
    """The nearest integer, halves to the even one."""
    return torch.round(x)


@lowering("Sign")
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return (x != 0).to(x.dtype)
    return torch.sign(x)


@lowering("Reciprocal")
def reciprocal(x: Tensor) -> Tensor:
    """1 / x."""
    return torch.reciprocal(x)
