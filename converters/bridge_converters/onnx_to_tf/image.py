"""Images of (N, H, W, C): resizing and moving between depth and space."""

from __future__ import annotations

import math

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge_converters._resize import resize_beyond, spatial_scales
from bridge_converters.onnx_to_tf._spatial import sizes_of
from bridge_converters.onnx_to_tf._table import layer_rule, lowering

Floats = tuple[float, ...]


@lowering("DepthToSpace", layout="channels_last")
def depth_to_space(x: tf.Tensor, *, blocksize: int, mode: str = "DCR") -> tf.Tensor:
    """Blocks of channels moved into space; in DCR the block is the outer part of the channel index."""
    if mode == "DCR":
        return tf.nn.depth_to_space(x, blocksize)
    n, h, w, c = sizes_of(x)
    block = blocksize * blocksize
    inner = tf.reshape(x, (n, h, w, c // block, block))
    return tf.nn.depth_to_space(tf.reshape(tf.transpose(inner, (0, 1, 2, 4, 3)), (n, h, w, c)), blocksize)


@lowering("SpaceToDepth", layout="channels_last")
def space_to_depth(x: tf.Tensor, *, blocksize: int) -> tf.Tensor:
    """Blocks of space moved into channels; the block is the outer part of the channel index."""
    return tf.nn.space_to_depth(x, blocksize)


@lowering(
    "Resize",
    since=19,
    const=("roi", "scales", "sizes"),
    static=("roi", "scales", "sizes"),
    layout="channels_last",
    supports=resize_beyond,
)
def resize(
    x: tf.Tensor,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: tuple[int, ...] | None = None,
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
    """x resampled along the axes (named as in (N, C, spatial...)) by scales or to sizes."""
    places = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    method = (mode, coordinate_transformation_mode, keep_aspect_ratio_policy)
    usual = method == ("linear", "half_pixel", "stretch") and not antialias and x.ndim == 4
    if usual and sizes and places == (2, 3) and x.dtype == tf.float32:
        return tf.image.resize(x, sizes)
    shape = sizes_of(x)
    lengths = [shape[stored_axis(axis, x.ndim)] for axis in places]
    targets = resize_targets(lengths, scales, sizes, keep_aspect_ratio_policy)
    for i, (axis, length, (size, scale)) in enumerate(zip(places, lengths, targets, strict=True)):
        if axis < 2 and axes is None:
            continue
        region = (roi[i], roi[i + len(places)]) if roi else (0.0, 1.0)
        position = source_position(length, size, scale, coordinate_transformation_mode, region)
        stored = stored_axis(axis, x.ndim)
        if mode == "nearest":
            y = tf.gather(x, nearest_index(position, length, nearest_mode), axis=stored)
        else:
            shrink = min(scale, 1.0) if antialias else 1.0
            weights = sampling_weights(position, length, mode, cubic_coeff_a, exclude_outside, shrink)
            y = resampled(x, stored, tf.cast(weights, x.dtype))
        if coordinate_transformation_mode == "tf_crop_and_resize":
            inside = (position >= 0) & (position <= tf.cast(length - 1, tf.float64))
            inside = tf.reshape(inside, [-1] + [1] * (x.ndim - 1 - stored))
            y = tf.where(inside, y, tf.cast(extrapolation_value, x.dtype))
        x = y
    return x


def stored_axis(axis: int, rank: int) -> int:
    """Where the axis of (N, C, spatial...) is in (N, spatial..., C)."""
    return 0 if axis == 0 else rank - 1 if axis == 1 else axis - 1


def resampled(x: tf.Tensor, axis: int, weights: tf.Tensor) -> tf.Tensor:
    """x multiplied along an axis by a matrix (new size, old size)."""
    rows = tf.tensordot(x, weights, [[axis], [1]])
    return tf.transpose(rows, [*range(axis), x.ndim - 1, *range(axis, x.ndim - 1)])


def resize_targets(
    lengths: list[int], scales: Floats | None, sizes: tuple[int, ...] | None, policy: str
) -> list[tuple[int, float]]:
    """The new size and the scale of each axis; a rounded scale stands for the ratio of sizes it gives."""
    if sizes:
        ratios = [size / length for size, length in zip(sizes, lengths, strict=True)]
        if policy != "stretch":
            common = min(ratios) if policy == "not_larger" else max(ratios)
            return [(math.floor(common * length + 0.5), common) for length in lengths]
        return list(zip(sizes, ratios, strict=True))
    targets = []
    for scale, length in zip(scales or (), lengths, strict=True):
        if not isinstance(length, int):
            exact = scale * tf.cast(length, tf.float64)
            targets.append((tf.cast(tf.floor(exact + 1e-5), tf.int32), scale))
            continue
        size = math.floor(scale * length + 1e-5)
        close = abs(size - scale * length) < 1e-5 * max(size, 1)
        targets.append((size, size / length if close else scale))
    return targets


def source_position(
    length: int, size: int, scale: float, transformation: str, region: tuple[float, float]
) -> tf.Tensor:
    """Where along an axis of a length each of the `size` new elements lies."""
    place = tf.range(size, dtype=tf.float64)
    last = tf.cast(length - 1, tf.float64)
    steps = tf.cast(tf.maximum(size - 1, 1), tf.float64)
    if transformation == "align_corners":
        return place * (last / steps)
    if transformation == "asymmetric":
        return place / scale
    if transformation == "tf_crop_and_resize":
        begin, end = region
        start = tf.where(tf.equal(size, 1), tf.cast(0.5 * (begin + end), tf.float64), begin)
        return start * last + place * ((end - begin) * last / steps)
    centred = (place + 0.5) / scale - 0.5
    if transformation == "pytorch_half_pixel":
        return tf.where(tf.equal(size, 1), place, centred)
    if transformation == "half_pixel_symmetric":
        whole = tf.cast(length, tf.float64)
        return centred + whole / 2 * (1 - tf.cast(size, tf.float64) / (scale * whole))
    return centred


def nearest_index(position: tf.Tensor, length: int, rounding: str) -> tf.Tensor:
    """The nearest element to each position, ties and halves as `rounding` says."""
    if rounding == "round_prefer_floor":
        index = tf.math.ceil(position - 0.5)
    elif rounding == "round_prefer_ceil":
        index = tf.floor(position + 0.5)
    else:
        index = tf.floor(position) if rounding == "floor" else tf.math.ceil(position)
    return tf.clip_by_value(tf.cast(index, tf.int32), 0, length - 1)


def sampling_weights(
    position: tf.Tensor, length: int, mode: str, cubic_coeff_a: float, exclude_outside: int, shrink: float
) -> tf.Tensor:
    """The matrix (new size, length) of linear or cubic interpolation; a filter is widened by 1 / shrink."""
    reach = math.ceil((2 if mode == "cubic" else 1) / shrink)
    first = tf.cast(tf.floor(position), tf.int32) - reach + 1
    weights = tf.constant(0.0, tf.float64)
    for k in range(2 * reach):
        place = first + k
        distance = tf.abs(tf.cast(place, tf.float64) - position) * shrink
        near = tf.maximum(1 - distance, 0)
        if mode == "cubic":
            a = cubic_coeff_a
            inner = ((a + 2) * distance - (a + 3)) * distance * distance + 1
            outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
            near = tf.where(distance <= 1, inner, tf.where(distance < 2, outer, 0))
        if exclude_outside:
            near = tf.where((place >= 0) & (place < length), near, 0)
        index = tf.clip_by_value(place, 0, length - 1)
        weights += near[:, tf.newaxis] * tf.one_hot(index, length, dtype=tf.float64)
    return weights / tf.reduce_sum(weights, 1, keepdims=True)


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
