"""Convolutions, on data of (N, spatial..., C) and weights in ONNX's order."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import Window, channels, uniform, window_of, without
from bridge_converters.onnx_to_tf._spatial import pad_spatial, same_pads, sizes_of
from bridge_converters.onnx_to_tf._table import layer_rule, lowering


@lowering("Conv", layout="channels_last")
def conv(
    x: tf.Tensor,
    w: tf.Tensor,
    b: tf.Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Convolution of x (N, spatial..., C) with w (M, C / group, kernel...)."""
    rank = x.ndim - 2
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    if auto_pad == "SAME_UPPER" or auto_pad == "SAME_LOWER":
        x = pad_spatial(x, same_pads(sizes_of(x)[1:-1], w.shape[2:], stride, dilation, auto_pad))
    elif auto_pad == "NOTSET" and pads is not None and any(pads):
        x = pad_spatial(x, pads)
    y = valid_convolution(x, w, stride, dilation, group)
    return y if b is None else y + b


def valid_convolution(
    x: tf.Tensor, w: tf.Tensor, stride: tuple[int, ...], dilation: tuple[int, ...], group: int
) -> tf.Tensor:
    """Convolution without padding, by the kernels that TensorFlow has on every device."""
    rank = len(stride)
    if max(stride) > 1 and max(dilation) > 1:
        dense = valid_convolution(x, w, (1,) * rank, dilation, group)
        return dense[(slice(None), *(slice(None, None, step) for step in stride))]
    if rank == 2 and 1 < group == x.shape[-1] and stride[0] == stride[1]:
        kernel = tf.transpose(tf.reshape(w, (group, -1, *w.shape[2:])), (2, 3, 0, 1))
        return tf.nn.depthwise_conv2d(x, kernel, (1, *stride, 1), "VALID", dilations=dilation)
    kernel = tf.transpose(w, (*range(2, rank + 2), 1, 0))
    layout = ("NWC", "NHWC", "NDHWC")[rank - 1]
    if group == 1:
        return tf.nn.convolution(x, kernel, stride, "VALID", layout, dilation)
    parts = zip(tf.split(x, group, -1), tf.split(kernel, group, -1), strict=True)
    return tf.concat(
        [tf.nn.convolution(part, weights, stride, "VALID", layout, dilation) for part, weights in parts], -1
    )


@lowering("ConvTranspose", layout="channels_last")
def conv_transpose(
    x: tf.Tensor,
    w: tf.Tensor,
    b: tf.Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    output_padding: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Transposed convolution of x (N, spatial..., C) with w (C, M / group, kernel...)."""
    rank = x.ndim - 2
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    extra = output_padding or (0,) * rank
    sizes = sizes_of(x)[1:-1]
    full = [(sizes[i] - 1) * stride[i] + (w.shape[i + 2] - 1) * dilation[i] + 1 for i in range(rank)]
    padding = transposed_pads(sizes, full, stride, extra, auto_pad, output_shape, pads)
    kernel = tf.transpose(dilated(w, dilation), (*range(2, rank + 2), 1, 0))
    parts = zip(tf.split(x, group, -1), tf.split(kernel, group, -1), strict=True)
    y = tf.concat(
        [
            tf.nn.conv_transpose(part, weights, [tf.shape(x)[0], *full, w.shape[1]], stride, "VALID")
            for part, weights in parts
        ],
        -1,
    )
    y = pad_spatial(y, [-p for p in padding[:rank]] + [extra[i] - padding[i + rank] for i in range(rank)])
    return y if b is None else y + b


def dilated(w: tf.Tensor, dilation: tuple[int, ...]) -> tf.Tensor:
    """A kernel with zeros between its elements: the dilation that TensorFlow's transposed kernels lack."""
    for axis, step in enumerate(dilation, start=2):
        if step > 1:
            shape = list(w.shape)
            spaced = tf.pad(
                tf.expand_dims(w, axis + 1),
                [[0, 0]] * (axis + 1) + [[0, step - 1]] + [[0, 0]] * (len(shape) - axis - 1),
            )
            shape[axis] *= step
            w = tf.reshape(spaced, shape)[(slice(None),) * axis + (slice(None, 1 - step),)]
    return w


def transposed_pads(
    sizes: list[int],
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
    x: tf.Tensor,
    image_shape: tuple[int, ...] | tf.Tensor,
    block_shape: tuple[int, ...] | tf.Tensor,
    *,
    dilations: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """The image (N, C, spatial...) that adds up blocks, the columns of x (N, C * block size, blocks)."""
    rank = len(image_shape) if isinstance(image_shape, tuple) else image_shape.shape[0]
    image = tf.unstack(tf.cast(image_shape, tf.int32), rank)
    block = tf.unstack(tf.cast(block_shape, tf.int32), rank)
    stride = strides or (1,) * rank
    dilation = dilations or (1,) * rank
    padding = pads or (0,) * (2 * rank)
    batch = tf.shape(x)[0]
    sizes = [image[i] + padding[i] + padding[i + rank] for i in range(rank)]
    index = tf.zeros((1, 1), tf.int32)
    for i in range(rank):
        inner = tf.range(block[i])[:, tf.newaxis] * dilation[i]
        outer = tf.range(0, sizes[i] - (block[i] - 1) * dilation[i], stride[i])
        place = (inner + outer)[tf.newaxis, :, tf.newaxis] + index[:, tf.newaxis, :, tf.newaxis] * sizes[i]
        index = tf.reshape(place, (tf.shape(index)[0] * block[i], -1))
    columns = tf.reshape(x, (-1, tf.size(index)))
    sums = tf.math.unsorted_segment_sum(
        tf.transpose(columns), tf.reshape(index, (-1,)), tf.reduce_prod(tf.stack(sizes))
    )
    y = tf.reshape(tf.transpose(sums), (batch, -1, *sizes))
    return tf.slice(y, (0, 0, *padding[:rank]), (-1, -1, *image))


@layer_rule("Conv")
def conv_layer(view: NodeView) -> Layer | None:
    """A convolution with trained weights, without padding or with TensorFlow's SAME."""
    weight, count = view.input(1), channels(view)
    if weight is None or not view.is_trained(1) or not has_bias_layer(view) or view.layout != "channels_last":
        return None
    outputs, inputs, *kernel = view.known_shape(1)
    window = window_of(view, tuple(kernel))
    if window is None or not 1 <= window.rank <= 3 or (window.padded and not window.pads_to_same):
        return None
    if max(window.strides) > 1 and max(window.dilations) > 1:
        return None
    group = view.attr("group", 1)
    arguments = {**window_arguments(window), "groups": group, "use_bias": view.is_trained(2)}
    defaults = {"strides": 1, "padding": "valid", "dilation_rate": 1, "groups": 1, "use_bias": True}
    shape = (None, *window.sizes, inputs * group)
    if count not in (None, inputs * group):
        return None
    if group > 1 and inputs == 1 and window.rank <= 2:
        if len(set(window.strides)) > 1:
            return None
        del arguments["groups"]
        axes = tuple(range(2, window.rank + 2))
        multiplier = outputs // group
        return Layer(
            f"keras.layers.DepthwiseConv{window.rank}D",
            (uniform(window.kernel),),
            without({**arguments, "depth_multiplier": multiplier}, {**defaults, "depth_multiplier": 1}),
            with_bias(
                view,
                LayerTensor(
                    weight,
                    (
                        ("reshape", {"shape": (group, multiplier, *kernel)}),
                        ("transpose", {"perm": (*axes, 0, 1)}),
                    ),
                ),
            ),
            build_shape=shape,
        )
    perm = (*range(2, window.rank + 2), 1, 0)
    return Layer(
        f"keras.layers.Conv{window.rank}D",
        (outputs, uniform(window.kernel)),
        without(arguments, defaults),
        with_bias(view, LayerTensor(weight, (("transpose", {"perm": perm}),))),
        build_shape=shape,
    )


@layer_rule("ConvTranspose")
def conv_transpose_layer(view: NodeView) -> Layer | None:
    """An ungrouped transposed convolution whose extent is that of Keras' `valid` or `same`."""
    weight = view.input(1)
    if weight is None or not view.is_trained(1) or not has_bias_layer(view) or view.layout != "channels_last":
        return None
    if view.attr("group", 1) != 1 or view.attr("output_shape"):
        return None
    if view.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    inputs, outputs, *kernel = view.known_shape(1)
    window = window_of(view, tuple(kernel))
    if window is None or not 1 <= window.rank <= 3:
        return None
    if max(window.strides) > 1 and max(window.dilations) > 1:
        return None
    extra = view.attr("output_padding") or (0,) * window.rank
    padding = keras_transposed_padding(window, extra)
    if padding is None:
        return None
    arguments = {
        "strides": uniform(window.strides),
        **padding,
        "dilation_rate": uniform(window.dilations),
        "use_bias": view.is_trained(2),
    }
    defaults = {
        "strides": 1,
        "padding": "valid",
        "output_padding": None,
        "dilation_rate": 1,
        "use_bias": True,
    }
    perm = (*range(2, window.rank + 2), 1, 0)
    return Layer(
        f"keras.layers.Conv{window.rank}DTranspose",
        (outputs, uniform(window.kernel)),
        without(arguments, defaults),
        with_bias(view, LayerTensor(weight, (("transpose", {"perm": perm}),))),
        build_shape=(None, *window.sizes, inputs),
    )


def keras_transposed_padding(window: Window, extra: tuple[int, ...]) -> dict[str, Any] | None:
    """Keras' arguments for the same extent, aligned as TensorFlow's gradient of VALID or SAME; or None.

    `same` gives an extent of size * stride and cuts max(extent - stride, 0) // 2 at the begin; `valid`
    cuts nothing at the begin and gives (size - 1) * stride + max(extent, stride).
    """
    axes = range(window.rank)
    extents, strides = window.extents, window.strides
    left = [extents[i] + extra[i] - window.begins[i] - window.ends[i] for i in axes]
    if window.padded:
        same = all(
            left[i] == strides[i] and window.begins[i] == max(extents[i] - strides[i], 0) // 2 for i in axes
        )
        return {"padding": "same"} if same else None
    if all(left[i] == max(extents[i], strides[i]) for i in axes):
        return {"padding": "valid"}
    if all(extra[i] < strides[i] for i in axes):
        return {"padding": "valid", "output_padding": uniform(extra)}
    return None


def window_arguments(window: Window) -> dict[str, Any]:
    return {
        "strides": uniform(window.strides),
        "padding": "same" if window.padded else "valid",
        "dilation_rate": uniform(window.dilations),
    }


def has_bias_layer(view: NodeView) -> bool:
    """Whether the bias (input 2) is absent, trained, or zero throughout: what a layer can hold."""
    return view.input(2) is None or view.is_trained(2) or view.all_equal(2, 0)


def with_bias(view: NodeView, kernel: LayerTensor) -> dict[str, LayerTensor]:
    """The tensors of a layer of which input 2 is the bias, left out where it is not trained."""
    bias = view.input(2)
    tensors = {"kernel": kernel}
    if bias is not None and view.is_trained(2):
        tensors["bias"] = LayerTensor(bias)
    return tensors
