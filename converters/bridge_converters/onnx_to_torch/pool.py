"""Pooling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge_converters._windows import spatial_sizes, uniform, window_of, without
from bridge_converters.onnx_to_torch._spatial import (
    even,
    pad_spatial,
    same_pads,
    window_pads,
    window_sum,
)
from bridge_converters.onnx_to_torch._table import layer_rule, lowering


@lowering("MaxPool", layout="channels_first")
def max_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    storage_order: int = 0,
    strides: tuple[int, ...] | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Maximum over windows, and the flat index of each maximum in the whole input if asked for."""
    rank = len(kernel_shape)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    if auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        padding = same_pads(x.shape[2:], kernel_shape, stride, dilation, auto_pad)
    elif auto_pad == "VALID" or pads is None:
        padding = (0,) * (2 * rank)
    else:
        padding = pads
    plain = padding[:rank] == padding[rank:] and all(
        p <= k // 2 for p, k in zip(padding, kernel_shape, strict=False)
    )
    if outputs == 2:
        return max_pool_with_indices(
            x, kernel_shape, stride, dilation, padding, ceil_mode, storage_order == 1
        )
    if not plain:
        ends = window_pads(x.shape[2:], kernel_shape, stride, dilation, padding, ceil_mode)
        x = pad_spatial(x, ends, -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min)
        padding = (0,) * (2 * rank)
        ceil_mode = 0
    if not any(padding) and max(dilation) == 1 and not ceil_mode:
        if rank == 1:
            return F.max_pool1d(x, even(kernel_shape), even(stride))
        if rank == 2:
            return F.max_pool2d(x, even(kernel_shape), even(stride))
        return F.max_pool3d(x, even(kernel_shape), even(stride))
    if rank == 1:
        return F.max_pool1d(
            x, even(kernel_shape), even(stride), even(padding[:rank]), even(dilation), ceil_mode == 1
        )
    if rank == 2:
        return F.max_pool2d(
            x, even(kernel_shape), even(stride), even(padding[:rank]), even(dilation), ceil_mode == 1
        )
    return F.max_pool3d(
        x, even(kernel_shape), even(stride), even(padding[:rank]), even(dilation), ceil_mode == 1
    )


def max_pool_with_indices(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    pads: tuple[int, ...],
    ceil_mode: int,
    column_major: bool,
) -> tuple[Tensor, Tensor]:
    """Maxima and their flat indices in the whole of x; `column_major` counts each plane by columns."""
    rank = len(kernel)
    sizes = x.shape[2:]
    ends = window_pads(sizes, kernel, stride, dilation, pads, ceil_mode)
    padded = pad_spatial(x, ends, -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    y, flat = pool(padded, kernel, stride, 0, dilation, return_indices=True)
    index = torch.zeros_like(flat)
    step = 1
    weights = [0] * rank
    for axis in range(rank) if column_major else reversed(range(rank)):
        weights[axis] = step
        step *= sizes[axis]
    for axis in reversed(range(rank)):
        index += (flat % padded.shape[axis + 2] - ends[axis]) * weights[axis]
        flat = flat // padded.shape[axis + 2]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * step
    return y, index + planes.reshape((x.shape[0], x.shape[1]) + (1,) * rank)


@lowering("MaxUnpool", const=("output_shape",), static=("output_shape",), layout="channels_first")
def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: tuple[int, ...] | None = None,
    *,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """Zeros, but for the elements of x at their flat indices in the whole output."""
    rank = len(kernel_shape)
    padding, stride = pads or (0,) * (2 * rank), strides or (1,) * rank
    sizes = [
        (x.shape[i + 2] - 1) * stride[i] + kernel_shape[i] - padding[i] - padding[i + rank]
        for i in range(rank)
    ]
    shape = output_shape or (*x.shape[:2], *sizes)
    return x.new_zeros(math.prod(shape)).scatter(0, indices.flatten(), x.flatten()).reshape(shape)


@lowering("AveragePool", layout="channels_first")
def average_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """Mean over windows; padding counts as zeros with `count_include_pad` and not at all without."""
    rank = len(kernel_shape)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    if auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        padding = same_pads(x.shape[2:], kernel_shape, stride, dilation, auto_pad)
    elif auto_pad == "VALID" or pads is None:
        padding = (0,) * (2 * rank)
    else:
        padding = pads
    plain = padding[:rank] == padding[rank:] and all(
        p <= k // 2 for p, k in zip(padding, kernel_shape, strict=False)
    )
    if not plain or any(d > 1 for d in dilation):
        ends = window_pads(x.shape[2:], kernel_shape, stride, dilation, padding, ceil_mode)
        if count_include_pad:
            x = pad_spatial(x, padding)
            ends = tuple(end - padded for end, padded in zip(ends, padding, strict=True))
        counted = torch.ones_like(x[:1, :1])
        total = window_sum(pad_spatial(x, ends), kernel_shape, stride, dilation)
        return total / window_sum(pad_spatial(counted, ends), kernel_shape, stride, dilation)
    if not any(padding) and not ceil_mode:
        if rank == 1:
            return F.avg_pool1d(x, even(kernel_shape), even(stride))
        if rank == 2:
            return F.avg_pool2d(x, even(kernel_shape), even(stride))
        return F.avg_pool3d(x, even(kernel_shape), even(stride))
    if rank == 1:
        return F.avg_pool1d(
            x, even(kernel_shape), even(stride), even(padding[:rank]), ceil_mode == 1, count_include_pad == 1
        )
    if rank == 2:
        return F.avg_pool2d(
            x, even(kernel_shape), even(stride), even(padding[:rank]), ceil_mode == 1, count_include_pad == 1
        )
    return F.avg_pool3d(
        x, even(kernel_shape), even(stride), even(padding[:rank]), ceil_mode == 1, count_include_pad == 1
    )


@lowering("LpPool", layout="channels_first")
def lp_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    p: int = 2,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """The p-norm over windows."""
    rank = len(kernel_shape)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    if auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        padding = same_pads(x.shape[2:], kernel_shape, stride, dilation, auto_pad)
    elif auto_pad == "VALID" or pads is None:
        padding = (0,) * (2 * rank)
    else:
        padding = pads
    ends = window_pads(x.shape[2:], kernel_shape, stride, dilation, padding, ceil_mode)
    powers = torch.abs(pad_spatial(x, ends)) ** p
    return window_sum(powers, kernel_shape, stride, dilation) ** (1.0 / p)


@lowering("GlobalAveragePool", layout="channels_first")
def global_average_pool(x: Tensor) -> Tensor:
    """Mean over all spatial axes, which stay with size 1."""
    return torch.mean(x, tuple(range(2, x.ndim)), keepdim=True)


@lowering("GlobalMaxPool", layout="channels_first")
def global_max_pool(x: Tensor) -> Tensor:
    """Maximum over all spatial axes, which stay with size 1."""
    return torch.amax(x, tuple(range(2, x.ndim)), keepdim=True)


@lowering("GlobalLpPool", layout="channels_first")
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """The p-norm over all spatial axes, which stay with size 1."""
    norm: Tensor = torch.linalg.vector_norm(x, p, tuple(range(2, x.ndim)), keepdim=True)
    return norm


@layer_rule("MaxPool")
def max_pool_layer(view: NodeView) -> Layer | None:
    """A max pooling with symmetric padding of at most half the window."""
    window = window_of(view)
    if window is None or not window.symmetric or not 1 <= window.rank <= 3 or len(view.node.outputs) > 1:
        return None
    if any(p > k // 2 for p, k in zip(window.begins, window.kernel, strict=True)):
        return None
    arguments = {
        "stride": uniform(window.strides),
        "padding": uniform(window.begins),
        "dilation": uniform(window.dilations),
        "ceil_mode": view.attr("ceil_mode", 0) == 1,
    }
    kernel = uniform(window.kernel)
    defaults = {"stride": kernel, "padding": 0, "dilation": 1, "ceil_mode": False}
    return Layer(f"nn.MaxPool{window.rank}d", (kernel,), without(arguments, defaults))


@layer_rule("AveragePool")
def average_pool_layer(view: NodeView) -> Layer | None:
    """An undilated average pooling with symmetric padding of at most half the window."""
    window = window_of(view)
    if window is None or not window.symmetric or not 1 <= window.rank <= 3 or max(window.dilations) > 1:
        return None
    if any(p > k // 2 for p, k in zip(window.begins, window.kernel, strict=True)):
        return None
    kernel = uniform(window.kernel)
    arguments = {
        "stride": uniform(window.strides),
        "padding": uniform(window.begins),
        "ceil_mode": view.attr("ceil_mode", 0) == 1,
        "count_include_pad": view.attr("count_include_pad", 0) == 1 or not window.padded,
    }
    defaults = {"stride": kernel, "padding": 0, "ceil_mode": False, "count_include_pad": True}
    return Layer(f"nn.AvgPool{window.rank}d", (kernel,), without(arguments, defaults))


@layer_rule("GlobalAveragePool")
def global_average_pool_layer(view: NodeView) -> Layer | None:
    """The adaptive pooling to size 1 that PyTorch models spell a global pooling with."""
    rank = len(spatial_sizes(view) or ())
    return Layer(f"nn.AdaptiveAvgPool{rank}d", (1,)) if 1 <= rank <= 3 else None


@layer_rule("GlobalMaxPool")
def global_max_pool_layer(view: NodeView) -> Layer | None:
    """The adaptive pooling to size 1 that PyTorch models spell a global pooling with."""
    rank = len(spatial_sizes(view) or ())
    return Layer(f"nn.AdaptiveMaxPool{rank}d", (1,)) if 1 <= rank <= 3 else None
