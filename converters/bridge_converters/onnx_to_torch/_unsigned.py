"""Unsigned integers of 16, 32 and 64 bits, for which PyTorch has next to no kernels, as int64."""

from __future__ import annotations

import torch
from torch import Tensor


def ordered(x: Tensor) -> Tensor:
    """Unsigned integers as int64 in the same order: those of 64 bits with their highest bit flipped."""
    return x.to(torch.int64) ^ -(2**63) if x.dtype == torch.uint64 else x.to(torch.int64)


def unordered(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `ordered`."""
    return (x ^ -(2**63) if dtype == torch.uint64 else x).to(dtype)


def unsigned_quotient(x: Tensor, y: Tensor) -> Tensor:
    """x // y for unsigned integers."""
    if x.dtype != torch.uint64:
        return (x.to(torch.int64) // y.to(torch.int64)).to(x.dtype)
    dividend, divisor = x.to(torch.int64), y.to(torch.int64)
    quotient = ((dividend >> 1 & 2**63 - 1) // divisor) << 1
    rest = (dividend - quotient * divisor).to(torch.uint64)
    quotient = quotient + (ordered(rest) >= ordered(y))
    return torch.where(divisor < 0, (ordered(x) >= ordered(y)).to(torch.int64), quotient).to(torch.uint64)
