"""Element types."""

from __future__ import annotations

import torch


def dtype_of(number: int) -> torch.dtype:
    """The dtype that a number of onnx.TensorProto names."""
    return {
        1: torch.float32,
        2: torch.uint8,
        3: torch.int8,
        4: torch.uint16,
        5: torch.int16,
        6: torch.int32,
        7: torch.int64,
        9: torch.bool,
        10: torch.float16,
        11: torch.float64,
        12: torch.uint32,
        13: torch.uint64,
        14: torch.complex64,
        15: torch.complex128,
        16: torch.bfloat16,
    }[number]
