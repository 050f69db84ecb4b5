"""Rotary positions in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering


@lowering("Rotate", domain="bridge")
def rotated(x: Tensor, cosine: Tensor, sine: Tensor, *, interleaved: int) -> Tensor:
    """Pairs of the last axis turned by angles; the inputs are those of `fuse_rotations`."""
    return rotate_neighbours(x, cosine, sine) if interleaved else rotate_halves(x, cosine, sine)


def rotate_halves(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions: each element of the first half turned with its counterpart in the second."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


def rotate_neighbours(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions: every two neighbours of the last axis turned by an angle."""
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1)
    return x * cosine + turned.flatten(-2) * sine
