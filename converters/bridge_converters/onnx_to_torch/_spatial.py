"""Window arithmetic that convolution and pooling share; pads are in ONNX's order: all begins, all ends."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def even(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """One number where all axes are equal."""
    return values[0] if len(set(values)) == 1 else values


def same_pads(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    auto_pad: str,
) -> tuple[int, ...]:
    """The pads that give an output of ceil(size / stride); an odd one goes to the end for SAME_UPPER."""
    totals = [
        max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    begins = [total // 2 if auto_pad == "SAME_UPPER" else total - total // 2 for total in totals]
    return (*begins, *(total - begin for total, begin in zip(totals, begins, strict=True)))


def pad_spatial(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad (or crop, where negative) the trailing axes of a tensor with a constant."""
    rank = len(pads) // 2
    return F.pad(x, [pads[i + side * rank] for i in reversed(range(rank)) for side in (0, 1)], value=value)


def window_pads(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil_mode: int,
) -> tuple[int, ...]:
    """The pads with which a pooling without rounding up visits exactly ONNX's windows.

    With `ceil_mode` a last partial window counts if it starts inside the input or its begin padding.
    """
    rank = len(sizes)
    ends = []
    for i in range(rank):
        reach = (kernel[i] - 1) * dilations[i] + 1
        room = sizes[i] + pads[i] + pads[i + rank] - reach
        count = (-(-room // strides[i]) if ceil_mode else room // strides[i]) + 1
        if ceil_mode and (count - 1) * strides[i] >= sizes[i] + pads[i]:
            count -= 1
        ends.append((count - 1) * strides[i] + reach - sizes[i] - pads[i])
    return (*pads[:rank], *ends)


def window_sum(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """Sum over all complete windows of the trailing axes, one axis after the other."""
    for i in range(len(kernel)):
        axis = x.ndim - len(kernel) + i
        reach = (kernel[i] - 1) * dilations[i]
        before = (slice(None),) * axis
        total, *others = (
            x[(*before, slice(k * dilations[i], k * dilations[i] - reach or None, strides[i]))]
            for k in range(kernel[i])
        )
        for other in others:
            total = total + other
        x = total
    return x
