"""Operators that TensorFlow lacks in double precision on a CPU, or lacks a gradient of, made of others.

A composition takes the attributes of a node and its inputs in float64 and gives the outputs; None means that
the operator itself will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.eager import execute

from bridge.worker.compatible import zip_equal

if TYPE_CHECKING:
    Attributes = Mapping[str, Any]
    Composition = Callable[[Attributes, Sequence[Any]], list[tf.Tensor] | None]


def _channels_first(attributes: Attributes) -> bool:
    return bool(attributes["data_format"].startswith(b"NC"))


def _to_last(rank: int) -> list[int]:
    return [0, *range(2, rank), 1]


def _to_first(rank: int) -> list[int]:
    return [0, rank - 1, *range(1, rank - 1)]


def _moved_list(values: Sequence[int]) -> list[int]:
    """Strides, dilations or windows of NC... as ones of N...C."""
    return [values[0], *values[2:], values[1]]


def _batch_norm(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor]:
    """FusedBatchNorm of any version: (x - mean) / sqrt(variance + epsilon) * scale + offset.

    In training the statistics are the batch's, and those that go out are the moving ones: with the unbiased
    variance, weighted by `exponential_avg_factor`.
    """
    x, scale, offset, mean, variance = inputs[:5]
    rank = x.shape.rank
    first = _channels_first(attributes)
    if first:
        x = tf.transpose(x, _to_last(rank))
    new_mean, new_variance = mean, variance
    if attributes["is_training"]:
        axes = list(range(rank - 1))
        batch_mean = tf.reduce_mean(x, axes)
        batch_variance = tf.reduce_mean(tf.math.squared_difference(x, batch_mean), axes)
        count = tf.cast(tf.size(x) // tf.size(batch_mean), x.dtype)
        unbiased = batch_variance * (count / tf.maximum(count - 1, 1))
        factor = attributes.get("exponential_avg_factor", 1.0)
        if factor == 1.0:
            new_mean, new_variance = batch_mean, unbiased
        else:
            new_mean = (1 - factor) * mean + factor * batch_mean
            new_variance = (1 - factor) * variance + factor * unbiased
        mean, variance = batch_mean, batch_variance
    y = (x - mean) * (tf.math.rsqrt(variance + attributes["epsilon"]) * scale) + offset
    if first:
        y = tf.transpose(y, _to_first(rank))
    return [y, new_mean, new_variance, mean, variance, tf.zeros([0], x.dtype)]


def _resize_bilinear(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor]:
    images, size = tf.cast(inputs[0], tf.float64), inputs[1]
    for axis in (1, 2):
        low, high, weight = _bilinear_places(attributes, tf.shape(images)[axis], size[axis - 1])
        below, above = tf.gather(images, low, axis=axis), tf.gather(images, high, axis=axis)
        images = below + (above - below) * tf.reshape(weight, [-1, 1, 1] if axis == 1 else [-1, 1])
    return [images]


def _bilinear_places(
    attributes: Attributes, before: tf.Tensor, after: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """For every place of the resized axis its two neighbours before, and the weight of the second."""
    place = tf.cast(tf.range(after), tf.float64)
    scale = tf.cast(before, tf.float64) / tf.cast(after, tf.float64)
    if attributes["align_corners"] and after > 1:
        scale = tf.cast(before - 1, tf.float64) / tf.cast(after - 1, tf.float64)
    place = (place + 0.5) * scale - 0.5 if attributes["half_pixel_centers"] else place * scale
    low = tf.math.floor(place)
    first = tf.maximum(tf.cast(low, tf.int32), 0)
    second = tf.minimum(tf.cast(tf.math.ceil(place), tf.int32), before - 1)
    return first, second, place - low


def _local_response(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor]:
    x = inputs[0]
    channels, radius = tf.shape(x)[-1], attributes["depth_radius"]
    band = tf.linalg.band_part(tf.ones([channels, channels], x.dtype), radius, radius)
    total = tf.tensordot(x * x, band, 1)
    return [x / (attributes["bias"] + attributes["alpha"] * total) ** attributes["beta"]]


def _convolution(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor] | None:
    """Conv2D or Conv3D: channels last, one group; undilated in three dimensions or for a gradient."""
    x, kernel = inputs
    rank = x.shape.rank
    first = _channels_first(attributes)
    strides, dilations = list(attributes["strides"]), list(attributes["dilations"])
    pads = list(attributes.get("explicit_paddings", ()))
    if first:
        x = tf.transpose(x, _to_last(rank))
        strides, dilations = _moved_list(strides), _moved_list(dilations)
        pads = [*pads[:2], *pads[4:], *pads[2:4]]
    groups = x.shape[-1] // kernel.shape[-2]
    dilated = any(each != 1 for each in dilations)
    differentiated = getattr(execute, "must_record_gradient", lambda: True)  # TensorFlow 1 lacks it
    undilated = dilated and (rank == 5 or differentiated())
    if not first and groups == 1 and not undilated:
        return None
    if dilated:
        kernel = _spread(kernel, dilations[1:-1])
    mode = attributes["padding"].decode()
    if mode == "EXPLICIT":
        x, mode = tf.pad(x, [pads[2 * axis : 2 * axis + 2] for axis in range(rank)]), "VALID"
    convolve = tf.nn.conv2d if rank == 4 else tf.nn.conv3d
    parts = [
        convolve(part, weights, strides, mode)
        for part, weights in zip_equal(tf.split(x, groups, axis=-1), tf.split(kernel, groups, axis=-1))
    ]
    y = tf.concat(parts, -1)
    return [tf.transpose(y, _to_first(rank)) if first else y]


def _spread(kernel: tf.Tensor, rates: Sequence[int]) -> tf.Tensor:
    """A kernel with zeros between its elements, which convolves as the dilated one."""
    for axis, rate in enumerate(rates):
        size = kernel.shape[axis]
        shape = kernel.shape.as_list()
        apart = tf.expand_dims(kernel, axis + 1)
        pads = [[0, 0] for _ in range(len(shape) + 1)]
        pads[axis + 1] = [0, rate - 1]
        shape[axis] = size * rate
        spread = tf.reshape(tf.pad(apart, pads), shape)
        kernel = tf.gather(spread, tf.range((size - 1) * rate + 1), axis=axis)
    return kernel


def _depthwise(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor] | None:
    x, kernel = inputs
    dilations, strides = list(attributes["dilations"]), list(attributes["strides"])
    first = _channels_first(attributes)
    if not first and all(each == 1 for each in dilations):
        return None
    pads = list(attributes["explicit_paddings"])
    if first:
        x = tf.transpose(x, _to_last(4))
        strides, dilations = _moved_list(strides), _moved_list(dilations)
        pads = [*pads[:2], *pads[4:], *pads[2:4]]
    mode = attributes["padding"].decode()
    if mode == "EXPLICIT":
        x, mode = tf.pad(x, [pads[2 * axis : 2 * axis + 2] for axis in range(4)]), "VALID"
    y = tf.nn.depthwise_conv2d(x, _spread(kernel, dilations[1:3]), strides, mode)
    return [tf.transpose(y, _to_first(4)) if first else y]


def _transposed_convolution(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor] | None:
    size, kernel, x = inputs
    if not _channels_first(attributes):
        return None
    pads = list(attributes["explicit_paddings"])
    if pads:
        pads = [*pads[:2], *pads[4:], *pads[2:4]]
    y = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.gather(size, _to_last(4)) if size.shape[0] == 4 else size,
        filter=kernel,
        out_backprop=tf.transpose(x, _to_last(4)),
        strides=_moved_list(attributes["strides"]),
        padding=attributes["padding"].decode(),
        explicit_paddings=pads,
        dilations=_moved_list(attributes["dilations"]),
    )
    return [tf.transpose(y, _to_first(4))]


def _average_3d(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor]:
    """AvgPool3D as a pool of the planes and one along the depth: the averages of a box's rows and columns."""
    x, window, strides = inputs[0], list(attributes["ksize"]), list(attributes["strides"])
    mode, first = attributes["padding"].decode(), _channels_first(attributes)
    if first:
        x, window, strides = tf.transpose(x, _to_last(5)), _moved_list(window), _moved_list(strides)
    shape = tf.shape(x)
    planes = tf.reshape(x, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))
    planes = tf.nn.avg_pool2d(planes, window[2:4], strides[2:4], mode)
    size = tf.shape(planes)
    columns = tf.reshape(planes, [shape[0], shape[1], size[1] * size[2], shape[4]])
    columns = tf.nn.avg_pool2d(columns, [window[1], 1], [strides[1], 1], mode)
    y = tf.reshape(columns, [shape[0], tf.shape(columns)[1], size[1], size[2], shape[4]])
    return [tf.transpose(y, _to_first(5)) if first else y]


def _pooling(pool: Callable[..., tf.Tensor]) -> Composition:
    def compose(attributes: Attributes, inputs: Sequence[Any]) -> list[tf.Tensor] | None:
        if attributes["data_format"] != b"NCHW" or attributes["padding"] == b"EXPLICIT":
            return None
        y = pool(
            tf.transpose(inputs[0], _to_last(4)),
            _moved_list(attributes["ksize"]),
            _moved_list(attributes["strides"]),
            attributes["padding"].decode(),
        )
        return [tf.transpose(y, _to_first(4))]

    return compose


COMPOSITIONS: Mapping[str, Composition] = {
    "AvgPool": _pooling(tf.nn.avg_pool2d),
    "AvgPool3D": _average_3d,
    "Conv2D": _convolution,
    "Conv2DBackpropInput": _transposed_convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "FusedBatchNorm": _batch_norm,
    "FusedBatchNormV2": _batch_norm,
    "FusedBatchNormV3": _batch_norm,
    "LRN": _local_response,
    "MaxPool": _pooling(tf.nn.max_pool2d),
    "ResizeBilinear": _resize_bilinear,
}
