"""Pooling, on data of (N, spatial..., C)."""

from __future__ import annotations

import math

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge_converters._windows import Window, spatial_sizes, uniform, window_of, without
from bridge_converters.onnx_to_tf._spatial import (
    crop_to_windows,
    even,
    pad_spatial,
    same_pads,
    sizes_of,
    window_fold,
    window_pads,
    window_taps,
)
from bridge_converters.onnx_to_tf._table import layer_rule, lowering


@lowering("MaxPool", layout="channels_last")
def max_pool(
    x: tf.Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    storage_order: int = 0,
    strides: tuple[int, ...] | None = None,
    outputs: int = 1,
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """Maximum over windows, and the flat index of each maximum in the whole (N, C, spatial...) input."""
    rank = len(kernel_shape)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    plain = pads is None or not any(pads) or auto_pad == "VALID"
    if auto_pad != "SAME_UPPER" and auto_pad != "SAME_LOWER" and plain and not ceil_mode:
        if outputs == 1 and max(dilation) == 1 and rank < 3:
            return tf.nn.max_pool(x, even(kernel_shape), even(stride), "VALID")
        padding = (0,) * (2 * rank)
    elif auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        padding = same_pads(sizes_of(x)[1:-1], kernel_shape, stride, dilation, auto_pad)
    else:
        padding = (0,) * (2 * rank) if pads is None or auto_pad == "VALID" else pads
    ends = window_pads(sizes_of(x)[1:-1], kernel_shape, stride, dilation, padding, ceil_mode)
    lowest = -math.inf if tf.as_dtype(x.dtype).is_floating else tf.as_dtype(x.dtype).min
    padded = crop_to_windows(x, ends, lowest, kernel_shape)
    if outputs == 2:
        index = crop_to_windows(plane_indices(x, storage_order == 1), ends, -1, kernel_shape)
        return window_argmax(padded, index, kernel_shape, stride, dilation)
    if max(dilation) == 1 and (rank < 3 or x.dtype == tf.float32):
        return tf.nn.max_pool(padded, kernel_shape, stride, "VALID")
    return window_fold(padded, kernel_shape, stride, dilation, tf.maximum)


def plane_indices(x: tf.Tensor, column_major: bool) -> tf.Tensor:
    """The flat index of every element in (N, C, spatial...) order, planes by rows or by columns."""
    sizes = tf.shape(x, out_type=tf.int64)
    rank = x.ndim - 2
    inner = list(range(1, rank + 1)) if column_major else list(range(rank, 0, -1))
    index = tf.zeros(sizes, tf.int64)
    step = tf.constant(1, tf.int64)
    for axis in [*inner, rank + 1, 0]:
        index += tf.reshape(tf.range(sizes[axis]) * step, [-1 if i == axis else 1 for i in range(rank + 2)])
        step *= sizes[axis]
    return index


def window_argmax(
    x: tf.Tensor,
    index: tf.Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tf.Tensor, tf.Tensor]:
    """The first maximum of every complete window, and what `index` holds there."""
    for i in reversed(range(len(kernel))):
        values = window_taps(x, i + 1, kernel[i], stride[i], dilation[i])
        places = window_taps(index, i + 1, kernel[i], stride[i], dilation[i])
        x, index = values[0], places[0]
        for value, place in zip(values[1:], places[1:], strict=True):
            better = (value > x) | (index < 0)
            x, index = tf.where(better, value, x), tf.where(better, place, index)
    return x, index


@lowering("MaxUnpool", const=("output_shape",), static=("output_shape",), layout="channels_last")
def max_unpool(
    x: tf.Tensor,
    indices: tf.Tensor,
    output_shape: tuple[int, ...] | None = None,
    *,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Zeros, but for the elements of x at their flat indices in the whole (N, C, spatial...) output."""
    rank = len(kernel_shape)
    padding, stride = pads or (0,) * (2 * rank), strides or (1,) * rank
    batch, *sizes, channels = sizes_of(x)
    sizes = [
        (sizes[i] - 1) * stride[i] + kernel_shape[i] - padding[i] - padding[i + rank] for i in range(rank)
    ]
    shape = output_shape or (batch, channels, *sizes)
    flat = tf.zeros(tf.reduce_prod(tf.stack(shape)), x.dtype)
    places = tf.reshape(indices, (-1, 1))
    y = tf.reshape(tf.tensor_scatter_nd_update(flat, places, tf.reshape(x, (-1,))), shape)
    return tf.transpose(y, (0, *range(2, rank + 2), 1))


@lowering("AveragePool", layout="channels_last")
def average_pool(
    x: tf.Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Mean over windows; padding counts as zeros with `count_include_pad` and not at all without."""
    rank = len(kernel_shape)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    plain = pads is None or not any(pads) or auto_pad == "VALID"
    if auto_pad != "SAME_UPPER" and auto_pad != "SAME_LOWER" and plain and not ceil_mode:
        if max(dilation) == 1 and rank < 3:
            return tf.nn.avg_pool(x, even(kernel_shape), even(stride), "VALID")
        padding = (0,) * (2 * rank)
    elif auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        padding = same_pads(sizes_of(x)[1:-1], kernel_shape, stride, dilation, auto_pad)
    else:
        padding = (0,) * (2 * rank) if pads is None or auto_pad == "VALID" else pads
    ends = window_pads(sizes_of(x)[1:-1], kernel_shape, stride, dilation, padding, ceil_mode)
    if count_include_pad:
        x = pad_spatial(x, padding)
        ends = tuple(end - padded for end, padded in zip(ends, padding, strict=True))
    counted = tf.ones_like(x[:1, ..., :1])
    total = window_fold(crop_to_windows(x, ends, 0, kernel_shape), kernel_shape, stride, dilation, tf.add)
    return total / window_fold(
        crop_to_windows(counted, ends, 0, kernel_shape), kernel_shape, stride, dilation, tf.add
    )


@lowering("LpPool", layout="channels_last")
def lp_pool(
    x: tf.Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    p: int = 2,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """The p-norm over windows."""
    rank = len(kernel_shape)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    if auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        padding = same_pads(sizes_of(x)[1:-1], kernel_shape, stride, dilation, auto_pad)
    else:
        padding = (0,) * (2 * rank) if pads is None or auto_pad == "VALID" else pads
    ends = window_pads(sizes_of(x)[1:-1], kernel_shape, stride, dilation, padding, ceil_mode)
    powers = tf.abs(crop_to_windows(x, ends, 0, kernel_shape)) ** p
    return window_fold(powers, kernel_shape, stride, dilation, tf.add) ** (1.0 / p)


@lowering("GlobalAveragePool", layout="channels_last")
def global_average_pool(x: tf.Tensor) -> tf.Tensor:
    """Mean over all spatial axes, which stay with size 1."""
    return tf.reduce_mean(x, tuple(range(1, x.ndim - 1)), keepdims=True)


@lowering("GlobalMaxPool", layout="channels_last")
def global_max_pool(x: tf.Tensor) -> tf.Tensor:
    """Maximum over all spatial axes, which stay with size 1."""
    return tf.reduce_max(x, tuple(range(1, x.ndim - 1)), keepdims=True)


@lowering("GlobalLpPool", layout="channels_last")
def global_lp_pool(x: tf.Tensor, *, p: int = 2) -> tf.Tensor:
    """The p-norm over all spatial axes, which stay with size 1."""
    return tf.reduce_sum(tf.abs(x) ** p, tuple(range(1, x.ndim - 1)), keepdims=True) ** (1.0 / p)


@layer_rule("MaxPool")
def max_pool_layer(view: NodeView) -> Layer | None:
    """An undilated max pooling without padding or with TensorFlow's SAME."""
    return None if len(view.node.outputs) > 1 else pooling_layer(view, "MaxPooling")


@layer_rule("AveragePool")
def average_pool_layer(view: NodeView) -> Layer | None:
    """An undilated average pooling without padding or with TensorFlow's SAME, which does not count it."""
    window = window_of(view)
    if window is None or (window.padded and view.attr("count_include_pad", 0)):
        return None
    return pooling_layer(view, "AveragePooling")


def pooling_layer(view: NodeView, kind: str) -> Layer | None:
    window = window_of(view)
    if window is None or not 1 <= window.rank <= 3 or max(window.dilations) > 1:
        return None
    if view.layout != "channels_last" or (window.padded and not window.pads_to_same):
        return None
    if view.attr("ceil_mode", 0) and not covers_exactly(window):
        return None
    kernel = uniform(window.kernel)
    arguments = {
        "strides": uniform(window.strides),
        "padding": "same" if window.padded else "valid",
    }
    defaults = {"strides": kernel, "padding": "valid"}
    return Layer(f"keras.layers.{kind}{window.rank}D", (kernel,), without(arguments, defaults))


def covers_exactly(window: Window) -> bool:
    """Whether rounding the number of windows up or down makes no difference."""
    return all(
        size is not None and (size + begin + end - k) % stride == 0
        for size, begin, end, k, stride in zip(
            window.sizes, window.begins, window.ends, window.kernel, window.strides, strict=True
        )
    )


@layer_rule("GlobalAveragePool")
def global_average_pool_layer(view: NodeView) -> Layer | None:
    return global_pooling_layer(view, "GlobalAveragePooling")


@layer_rule("GlobalMaxPool")
def global_max_pool_layer(view: NodeView) -> Layer | None:
    return global_pooling_layer(view, "GlobalMaxPooling")


def global_pooling_layer(view: NodeView, kind: str) -> Layer | None:
    rank = len(spatial_sizes(view) or ())
    if not 1 <= rank <= 3 or view.layout != "channels_last":
        return None
    return Layer(f"keras.layers.{kind}{rank}D", (), {"keepdims": True})
