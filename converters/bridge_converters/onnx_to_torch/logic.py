"""Comparison, logic and bits.

PyTorch has no kernels for unsigned integers of more than 8 bits: they compute as int64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering
from bridge_converters.onnx_to_torch._unsigned import ordered


@lowering("And")
def and_(x: Tensor, y: Tensor) -> Tensor:
    """Whether both hold."""
    return x & y


@lowering("Or")
def or_(x: Tensor, y: Tensor) -> Tensor:
    """Whether either holds."""
    return x | y


@lowering("Xor")
def xor(x: Tensor, y: Tensor) -> Tensor:
    """Whether exactly one holds."""
    return x ^ y


@lowering("Equal")
def equal(x: Tensor, y: Tensor) -> Tensor:
    """x == y."""
    return x == y


@lowering("Greater")
def greater(x: Tensor, y: Tensor) -> Tensor:
    """x > y."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return ordered(x) > ordered(y)
    return x > y


@lowering("GreaterOrEqual")
def greater_or_equal(x: Tensor, y: Tensor) -> Tensor:
    """x >= y."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return ordered(x) >= ordered(y)
    return x >= y


@lowering("Less")
def less(x: Tensor, y: Tensor) -> Tensor:
    """x < y."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return ordered(x) < ordered(y)
    return x < y


@lowering("LessOrEqual")
def less_or_equal(x: Tensor, y: Tensor) -> Tensor:
    """x <= y."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return ordered(x) <= ordered(y)
    return x <= y


@lowering("BitwiseAnd")
def bitwise_and(x: Tensor, y: Tensor) -> Tensor:
    """x & y, bit by bit."""
    return x & y


@lowering("BitwiseOr")
def bitwise_or(x: Tensor, y: Tensor) -> Tensor:
    """x | y, bit by bit."""
    return x | y


@lowering("BitwiseXor")
def bitwise_xor(x: Tensor, y: Tensor) -> Tensor:
    """x ^ y, bit by bit."""
    return x ^ y


@lowering("Not")
def not_(x: Tensor) -> Tensor:
    """Whether it does not hold."""
    return ~x


@lowering("BitwiseNot")
def bitwise_not(x: Tensor) -> Tensor:
    """All bits flipped."""
    if x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return (~x.to(torch.int64)).to(x.dtype)
    return ~x


@lowering("IsNaN")
def is_nan(x: Tensor) -> Tensor:
    """Whether x is not a number."""
    return torch.isnan(x)


@lowering("IsInf")
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Whether x is infinite, of the signs asked for."""
    if detect_negative and detect_positive:
        return torch.isinf(x)
    if detect_positive:
        return torch.isposinf(x)
    if detect_negative:
        return torch.isneginf(x)
    return torch.zeros_like(x, dtype=torch.bool)


@lowering("BitShift")
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """x shifted by y bits, to the LEFT or to the RIGHT; nothing but the sign is left beyond its width."""
    if direction == "LEFT" and x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return (x.to(torch.int64) << y.to(torch.int64)).to(x.dtype)
    if direction == "LEFT":
        return x << y
    if x.dtype == torch.uint64:
        return unsigned_right_shift(x, y)
    if x.dtype in (torch.uint16, torch.uint32):
        return (x.to(torch.int64) >> y.to(torch.int64)).to(x.dtype)
    return x >> y


def unsigned_right_shift(x: Tensor, y: Tensor) -> Tensor:
    """uint64 shifted right: by one bit, which clears the sign of its int64, then by the others."""
    bits, count = x.to(torch.int64), y.to(torch.int64)
    return torch.where(count == 0, bits, ((bits >> 1) & 2**63 - 1) >> count - 1).to(torch.uint64)


@lowering("Where")
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds, y elsewhere, all broadcast."""
    return torch.where(condition, x, y)
