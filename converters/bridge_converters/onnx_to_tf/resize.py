"""Resizing, on data of (N, spatial..., C)."""

from __future__ import annotations

import math

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge_converters._resize import resize_beyond, spatial_scales
from bridge_converters.onnx_to_tf._spatial import sizes_of
from bridge_converters.onnx_to_tf._table import layer_rule, lowering

Floats = tuple[float, ...]
Ints = tuple[int, ...]


@lowering(
    "Resize", since=19, const=("roi", "scales", "sizes"), layout="channels_last", supports=resize_beyond
)
def resize(
    x: tf.Tensor,
    roi: Floats | tf.Tensor | None = None,
    scales: Floats | tf.Tensor | None = None,
    sizes: Ints | tf.Tensor | None = None,
    *,
    antialias: int = 0,
    axes: tuple[int, ...] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> tf.Tensor:
    """x resampled along the axes (named as in (N, C, spatial...)) by scales or to sizes.

    Integers are rounded half to even.
    """
    places = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    method = (mode, coordinate_transformation_mode, keep_aspect_ratio_policy)
    usual = method == ("linear", "half_pixel", "stretch") and not antialias and x.ndim == 4
    if usual and isinstance(sizes, tuple) and sizes and places == (2, 3) and x.dtype == tf.float32:
        return tf.image.resize(x, sizes)
    shape = sizes_of(x)
    lengths = [shape[stored_axis(axis, x.ndim)] for axis in places]
    targets = resize_targets(lengths, scales, sizes, keep_aspect_ratio_policy)
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    region = [0.0] * len(places) + [1.0] * len(places) if roi is None else tf.cast(roi, tf.float64)
    exact = (
        tf.as_dtype(x.dtype).is_floating
        or tf.as_dtype(x.dtype).is_complex
        or (mode == "nearest" and not crops)
    )
    y = x if exact else tf.cast(x, tf.float64)
    outside = tf.constant(False)
    for i, (axis, length, (size, scale)) in enumerate(zip(places, lengths, targets, strict=True)):
        if isinstance(length, int) and isinstance(size, int) and size == length and scale == 1 and not crops:
            continue
        stored = stored_axis(axis, x.ndim)
        last = tf.cast(length - 1, tf.float64)
        position = tf.range(size, dtype=tf.float64)
        if crops:
            position = cropped_position(position, last, size, region[i], region[i + len(places)])
            beyond = (position < 0) | (position > last)
            outside = outside | tf.reshape(beyond, [-1] + [1] * (x.ndim - 1 - stored))
            position = tf.clip_by_value(position, 0, last)
        else:
            position = source_position(position, length, size, scale, coordinate_transformation_mode)
        if mode == "nearest":
            y = tf.gather(y, nearest_index(position, length, nearest_mode), axis=stored)
        else:
            shrink = at_most_one(scale) if antialias else 1.0
            index, weights = neighbours(position, length, mode, cubic_coeff_a, exclude_outside, shrink)
            y = weighted_sums(y, stored, index, weights)
    if crops:
        y = tf.where(outside, tf.cast(extrapolation_value, y.dtype), y)
    return y if exact else tf.saturate_cast(tf.round(y), x.dtype)


def stored_axis(axis: int, rank: int) -> int:
    """Where the axis of (N, C, spatial...) is in (N, spatial..., C)."""
    return 0 if axis == 0 else rank - 1 if axis == 1 else axis - 1


def at_most_one(scale: float | tf.Tensor) -> float | tf.Tensor:
    return min(scale, 1.0) if isinstance(scale, float) else tf.minimum(scale, 1.0)


def resize_targets(
    lengths: list[int], scales: Floats | tf.Tensor | None, sizes: Ints | tf.Tensor | None, policy: str
) -> list[tuple[int, float]]:
    """The new size and the scale of each axis; a rounded scale stands for the ratio of sizes it gives.

    Python numbers where they are known while tracing; else int32 and float64 scalars.
    """
    if scales is None or (isinstance(scales, tuple) and not scales):
        goals = (
            list(sizes) if isinstance(sizes, tuple) else tf.unstack(tf.cast(sizes, tf.int32), len(lengths))
        )
        ratios = [ratio(size, length) for size, length in zip(goals, lengths, strict=True)]
        if policy == "stretch":
            return list(zip(goals, ratios, strict=True))
        choose = tf.reduce_min if policy == "not_larger" else tf.reduce_max
        common = choose(tf.stack([tf.cast(each, tf.float64) for each in ratios]))
        return [(rounded_down(common * tf.cast(length, tf.float64) + 0.5), common) for length in lengths]
    factors = scales if isinstance(scales, tuple) else tf.unstack(tf.cast(scales, tf.float64), len(lengths))
    return [scaled_size(length, scale) for length, scale in zip(lengths, factors, strict=True)]


def scaled_size(length: int | tf.Tensor, scale: float | tf.Tensor) -> tuple[int, float]:
    """The new size of an axis, and the scale that it stands for."""
    if isinstance(length, int) and isinstance(scale, float):
        size = math.floor(scale * length + 1e-5)
        close = abs(size - scale * length) < 1e-5 * max(size, 1)
        return size, size / length if close else scale
    wanted = tf.cast(scale, tf.float64) * tf.cast(length, tf.float64)
    whole = tf.floor(wanted + 1e-5)
    close = tf.abs(whole - wanted) < 1e-5 * tf.maximum(whole, 1)
    return tf.cast(whole, tf.int32), tf.where(close, ratio(whole, length), tf.cast(scale, tf.float64))


def ratio(size: int | tf.Tensor, length: int | tf.Tensor) -> float | tf.Tensor:
    if isinstance(size, int) and isinstance(length, int):
        return size / length
    return tf.cast(size, tf.float64) / tf.cast(length, tf.float64)


def rounded_down(number: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.floor(number), tf.int32)


def source_position(place: tf.Tensor, length: int, size: int, scale: float, transformation: str) -> tf.Tensor:
    """Where along an axis of a length each of the `size` new elements at `place` lies."""
    whole = tf.cast(length, tf.float64)
    if transformation == "align_corners":
        return place * ((whole - 1) / tf.cast(tf.maximum(size - 1, 1), tf.float64))
    if transformation == "asymmetric":
        return place / scale
    centred = (place + 0.5) / scale - 0.5
    if transformation == "pytorch_half_pixel":
        return tf.where(tf.equal(size, 1), place, centred)
    if transformation == "half_pixel_symmetric":
        return centred + whole / 2 * (1 - tf.cast(size, tf.float64) / (scale * whole))
    return centred


def cropped_position(
    place: tf.Tensor, last: tf.Tensor, size: int, begin: float | tf.Tensor, end: float | tf.Tensor
) -> tf.Tensor:
    """Where along an axis each new element lies if they span the part from `begin` to `end` of its length."""
    start = tf.where(tf.equal(size, 1), 0.5 * (begin + end), begin)
    return start * last + place * ((end - begin) * last / tf.cast(tf.maximum(size - 1, 1), tf.float64))


def nearest_index(position: tf.Tensor, length: int, rounding: str) -> tf.Tensor:
    """The nearest element to each position, ties and halves as `rounding` says."""
    if rounding == "round_prefer_floor":
        index = tf.math.ceil(position - 0.5)
    elif rounding == "round_prefer_ceil":
        index = tf.floor(position + 0.5)
    else:
        index = tf.floor(position) if rounding == "floor" else tf.math.ceil(position)
    return tf.clip_by_value(tf.cast(index, tf.int32), 0, length - 1)


def neighbours(
    position: tf.Tensor, length: int, mode: str, cubic_coeff_a: float, exclude_outside: int, shrink: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """The elements near each position and their weights in linear or cubic interpolation.

    Both are (positions, neighbours). The filter is widened by 1 / shrink.
    """
    support = 2 if mode == "cubic" else 1
    reach = math.ceil(support / shrink) if isinstance(shrink, float) else -rounded_down(-support / shrink)
    place = tf.cast(tf.floor(position), tf.int32)[:, tf.newaxis] + tf.range(1 - reach, reach + 1)
    distance = tf.abs(tf.cast(place, tf.float64) - position[:, tf.newaxis]) * shrink
    weights = cubic_kernel(distance, cubic_coeff_a) if mode == "cubic" else tf.maximum(1 - distance, 0)
    if exclude_outside:
        weights = tf.where((place >= 0) & (place < length), weights, 0)
    return tf.clip_by_value(place, 0, length - 1), weights / tf.reduce_sum(weights, 1, keepdims=True)


def cubic_kernel(distance: tf.Tensor, a: float) -> tf.Tensor:
    """The weight of cubic convolution at a distance (Keys 1981, doi 10.1109/TASSP.1981.1163711)."""
    inner = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return tf.where(distance <= 1, inner, tf.where(distance < 2, outer, 0))


def weighted_sums(x: tf.Tensor, axis: int, index: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sums of elements along an axis; index and weights are (new size, elements in each sum)."""
    weights = tf.reshape(
        tf.cast(weights, x.dtype), tf.concat([tf.shape(weights), [1] * (x.ndim - 1 - axis)], 0)
    )
    return tf.reduce_sum(tf.gather(x, index, axis=axis) * weights, axis + 1)


@layer_rule("Resize")
def upsampling_layer(view: NodeView) -> Layer | None:
    """A nearest upsampling by whole numbers along the spatial axes."""
    scales = spatial_scales(view)
    if scales is None or view.layout != "channels_last" or view.attr("mode", "nearest") != "nearest":
        return None
    if any(scale < 1 or scale != int(scale) for scale in scales):
        return None
    way = (view.attr("coordinate_transformation_mode", "half_pixel"), view.attr("nearest_mode"))
    if way not in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        return None
    factors = tuple(map(int, scales))
    factor = factors[0] if len(set(factors)) == 1 else factors
    return Layer(f"keras.layers.UpSampling{len(factors)}D", (factor,))
