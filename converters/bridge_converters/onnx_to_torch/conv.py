"""Convolutions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import Window, uniform, window_of, without
from bridge_converters.onnx_to_torch._spatial import even, pad_spatial, same_pads
from bridge_converters.onnx_to_torch._table import layer_rule, lowering


@lowering("Conv", layout="channels_first")
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """Convolution of x (N, C, spatial...) with w (M, C / group, kernel...)."""
    rank = x.ndim - 2
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    if auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        padding = same_pads(x.shape[2:], w.shape[2:], stride, dilation, auto_pad)
    elif auto_pad == "VALID" or pads is None:
        padding = (0,) * (2 * rank)
    else:
        padding = pads
    if padding[:rank] != padding[rank:]:
        x = pad_spatial(x, padding)
        padding = (0,) * (2 * rank)
    if rank == 1:
        return F.conv1d(x, w, b, even(stride), even(padding[:rank]), even(dilation), group)
    if rank == 2:
        return F.conv2d(x, w, b, even(stride), even(padding[:rank]), even(dilation), group)
    return F.conv3d(x, w, b, even(stride), even(padding[:rank]), even(dilation), group)


@lowering("ConvTranspose", layout="channels_first")
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    output_padding: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """Transposed convolution of x (N, C, spatial...) with w (C, M / group, kernel...)."""
    rank = x.ndim - 2
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    extra = output_padding or (0,) * rank
    full = [(x.shape[i + 2] - 1) * stride[i] + (w.shape[i + 2] - 1) * dilation[i] + 1 for i in range(rank)]
    padding = transposed_pads(x.shape[2:], full, stride, extra, auto_pad, output_shape, pads)
    native = padding[:rank] == padding[rank:] and all(
        0 <= extra[i] < max(stride[i], dilation[i]) and padding[i] >= 0 for i in range(rank)
    )
    before = padding[:rank] if native else (0,) * rank
    after = extra if native else (0,) * rank
    bias = b if native else None
    if rank == 1:
        y = F.conv_transpose1d(x, w, bias, stride, before, after, group, dilation)
    elif rank == 2:
        y = F.conv_transpose2d(x, w, bias, stride, before, after, group, dilation)
    else:
        y = F.conv_transpose3d(x, w, bias, stride, before, after, group, dilation)
    if native:
        return y
    y = pad_spatial(y, [-p for p in padding[:rank]] + [extra[i] - padding[i + rank] for i in range(rank)])
    return y if b is None else y + b.reshape((-1,) + (1,) * rank)


def transposed_pads(
    sizes: tuple[int, ...],
    full: list[int],
    strides: tuple[int, ...],
    extra: tuple[int, ...],
    auto_pad: str,
    output_shape: tuple[int, ...] | None,
    pads: tuple[int, ...] | None,
) -> tuple[int, ...]:
    """What a transposed convolution cuts off its full extent: all begins, then all ends."""
    rank = len(full)
    same = auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER"
    if output_shape is None and not same:
        return (0,) * (2 * rank) if auto_pad == "VALID" or pads is None else pads
    wanted = output_shape or [sizes[i] * strides[i] for i in range(rank)]
    totals = [full[i] + extra[i] - wanted[i] for i in range(rank)]
    begins = [total // 2 if auto_pad == "SAME_UPPER" else total - total // 2 for total in totals]
    return (*begins, *(totals[i] - begins[i] for i in range(rank)))


@lowering("Col2Im", const=("image_shape", "block_shape"))
def col2im(
    x: Tensor,
    image_shape: tuple[int, ...] | Tensor,
    block_shape: tuple[int, ...] | Tensor,
    *,
    dilations: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """The image (N, C, spatial...) that adds up blocks, the columns of x (N, C * block size, blocks)."""
    image = image_shape if isinstance(image_shape, tuple) else tuple(image_shape.tolist())
    block = block_shape if isinstance(block_shape, tuple) else tuple(block_shape.tolist())
    rank = len(image)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    padding = pads or (0,) * (2 * rank)
    if rank == 2 and x.is_floating_point() and padding[:2] == padding[2:]:
        return F.fold(x, image, block, dilation, padding[:2], stride)
    sizes = [image[i] + padding[i] + padding[i + rank] for i in range(rank)]
    index = torch.zeros((1, 1), dtype=torch.long, device=x.device)
    for i in range(rank):
        inner = torch.arange(block[i], device=x.device).unsqueeze(1) * dilation[i]
        outer = torch.arange(0, sizes[i] - (block[i] - 1) * dilation[i], stride[i], device=x.device)
        place = (inner + outer)[None, :, None] + index[:, None, :, None] * sizes[i]
        index = place.reshape(index.shape[0] * inner.shape[0], -1)
    columns = x.reshape(x.shape[0], -1, index.numel())
    canvas = x.new_zeros((*columns.shape[:2], math.prod(sizes)))
    y = canvas.index_add(2, index.flatten(), columns).reshape(*columns.shape[:2], *sizes)
    return pad_spatial(y, [-amount for amount in padding])


@layer_rule("Conv")
def conv_layer(view: NodeView) -> Layer | None:
    """A convolution with trained weights and symmetric padding."""
    weight = view.input(1)
    if weight is None or not view.is_trained(1):
        return None
    shape = view.known_shape(1)
    window = window_of(view, shape[2:])
    if window is None or not window.symmetric or not 1 <= window.rank <= 3 or not has_bias_layer(view):
        return None
    group = view.attr("group", 1)
    return Layer(
        f"nn.Conv{window.rank}d",
        (shape[1] * group, shape[0], uniform(window.kernel)),
        without(
            {**window_arguments(window), "groups": group, "bias": view.is_trained(2)},
            {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True},
        ),
        with_bias(view, LayerTensor(weight)),
    )


@layer_rule("ConvTranspose")
def conv_transpose_layer(view: NodeView) -> Layer | None:
    """A transposed convolution with trained weights and symmetric padding."""
    weight = view.input(1)
    if weight is None or not view.is_trained(1) or not has_bias_layer(view):
        return None
    shape = view.known_shape(1)
    if view.attr("output_shape") or view.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    window = window_of(view, shape[2:])
    if window is None or not window.symmetric or not 1 <= window.rank <= 3:
        return None
    extra = view.attr("output_padding") or (0,) * window.rank
    if any(e >= max(s, d) for e, s, d in zip(extra, window.strides, window.dilations, strict=True)):
        return None
    group = view.attr("group", 1)
    return Layer(
        f"nn.ConvTranspose{window.rank}d",
        (shape[0], shape[1] * group, uniform(window.kernel)),
        without(
            {
                **window_arguments(window),
                "output_padding": uniform(extra),
                "groups": group,
                "bias": view.is_trained(2),
            },
            {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, "bias": True},
        ),
        with_bias(view, LayerTensor(weight)),
    )


def window_arguments(window: Window) -> dict[str, Any]:
    return {
        "stride": uniform(window.strides),
        "padding": uniform(window.begins),
        "dilation": uniform(window.dilations),
    }


def has_bias_layer(view: NodeView) -> bool:
    """Whether the bias (input 2) is absent, trained, or zero throughout: what a layer can hold."""
    return view.input(2) is None or view.is_trained(2) or view.all_equal(2, 0)


def with_bias(view: NodeView, weight: LayerTensor) -> dict[str, LayerTensor]:
    """The tensors of a layer of which input 2 is the bias, left out where it is not trained."""
    bias = view.input(2)
    tensors = {"weight": weight}
    if bias is not None and view.is_trained(2):
        tensors["bias"] = LayerTensor(bias)
    return tensors
