"""Sampling of images of (N, spatial..., C) at computed positions: grids, regions, shifted kernels."""

from __future__ import annotations

import math

import tensorflow as tf

from bridge_converters.onnx_to_tf._spatial import sizes_of
from bridge_converters.onnx_to_tf._table import lowering
from bridge_converters.onnx_to_tf.resize import cubic_kernel

Ints = tuple[int, ...]
Taps = tuple[tf.Tensor, tf.Tensor]


@lowering("AffineGrid", const=("size",))
def affine_grid(theta: tf.Tensor, size: Ints | tf.Tensor, *, align_corners: int = 0) -> tf.Tensor:
    """The grids (N, spatial..., axes) at which affine maps look into images of a size (N, C, spatial...)."""
    rank = theta.shape[1]
    sizes = [tf.cast(size[axis + 2], theta.dtype) for axis in range(rank)]
    steps = [
        tf.range(n) * (2 / tf.maximum(n - 1, 1)) - 1 if align_corners else (2 * tf.range(n) + 1) / n - 1
        for n in sizes
    ]
    if align_corners:
        steps = [tf.where(n > 1, each, 0) for each, n in zip(steps, sizes, strict=True)]
    places = tf.stack([*reversed(tf.meshgrid(*steps, indexing="ij"))], -1)
    linear = tf.einsum("nij,...j->n...i", theta[:, :, :rank], places)
    return linear + tf.reshape(theta[:, :, rank], [-1] + [1] * rank + [rank])


@lowering("GridSample", layout="channels_last")
def grid_sample(
    x: tf.Tensor,
    grid: tf.Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> tf.Tensor:
    """x (N, spatial..., C) at the positions of a grid (N, places..., axes), last axis first, from -1 to 1."""
    sizes = sizes_of(x)
    rank = x.ndim - 2
    taps = []
    for axis in range(rank):
        place = tf.reshape(grid[..., rank - 1 - axis], (sizes[0], -1))
        length = tf.cast(sizes[axis + 1], grid.dtype)
        position = (place + 1) / 2 * (length - 1) if align_corners else ((place + 1) * length - 1) / 2
        taps.append(neighbours_on_grid(position, sizes[axis + 1], mode, padding_mode, align_corners == 1))
    return tf.reshape(sampled(x, taps), (*sizes_of(grid)[:-1], sizes[-1]))


def neighbours_on_grid(
    position: tf.Tensor, length: int, mode: str, padding_mode: str, aligned: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """The elements near each position along an axis and their weights, on a new last axis.

    What lies outside the image has no weight (`zeros`), or the value of the last element (`border`), or
    of its mirror image (`reflection`).
    """
    last = tf.cast(length - 1, position.dtype)
    if mode == "nearest":
        position = tf.round(position)
    first, final = {"nearest": (0, 0), "linear": (0, 1), "cubic": (-1, 2)}[mode]
    steps = tf.cast(tf.range(first, final + 1), position.dtype)
    place = tf.floor(position)[..., tf.newaxis] + steps
    distance = tf.abs(position[..., tf.newaxis] - place)
    weights = cubic_kernel(distance, -0.75) if mode == "cubic" else tf.maximum(1 - distance, 0)
    if padding_mode == "zeros":
        weights = tf.where((place >= 0) & (place <= last), weights, 0)
    elif padding_mode == "reflection":
        margin = 0.0 if aligned else 0.5
        place = reflected(place, -margin, last + margin)
    return tf.cast(tf.clip_by_value(place, 0, last), tf.int32), weights


def reflected(position: tf.Tensor, low: float, high: tf.Tensor) -> tf.Tensor:
    """The positions mirrored at both ends until they are between them."""
    span = high - low
    turn = tf.math.floormod(position - low, tf.maximum(2 * span, 1))
    return high - tf.abs(turn - span)


def sampled(x: tf.Tensor, taps: list[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """Weighted sums of x (N, spatial..., C): (N, places, C).

    For each spatial axis the indices and weights (N, places, elements in each sum) of what is summed; the
    weight of an element is the product of those along its axes.
    """
    sizes = sizes_of(x)
    index, weights = taps[0]
    for axis, (more, factor) in enumerate(taps[1:], start=2):
        count = index.shape[-1] * more.shape[-1]
        index = index[..., tf.newaxis] * sizes[axis] + more[..., tf.newaxis, :]
        weights = weights[..., tf.newaxis] * factor[..., tf.newaxis, :]
        index, weights = (tf.reshape(each, (*sizes_of(each)[:2], count)) for each in (index, weights))
    flat = tf.reshape(x, (sizes[0], math.prod(sizes[1:-1]), sizes[-1]))
    elements = tf.gather(flat, index, batch_dims=1)
    kind = x.dtype if tf.as_dtype(x.dtype).is_floating or tf.as_dtype(x.dtype).is_complex else weights.dtype
    return tf.cast(tf.einsum("npk,npkc->npc", tf.cast(weights, kind), tf.cast(elements, kind)), x.dtype)


@lowering("RoiAlign", layout="channels_last")
def roi_align(
    x: tf.Tensor,
    rois: tf.Tensor,
    batch_indices: tf.Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> tf.Tensor:
    """x (N, H, W, C) pooled over a grid of samples in each bin of each region (x1, y1, x2, y2).

    A sample is a weighted sum of the four elements around it; `max` is that of their single terms.
    """
    half = coordinate_transformation_mode == "half_pixel"
    left, top, right, bottom = tf.unstack(rois * spatial_scale - (0.5 if half else 0.0), 4, 1)
    width, height = right - left, bottom - top
    if not half:
        width, height = tf.maximum(width, 1), tf.maximum(height, 1)
    _, rows, columns, channels = sizes_of(x)
    taps = crossed(
        roi_taps(top, height, rows, output_height, sampling_ratio),
        roi_taps(left, width, columns, output_width, sampling_ratio),
        tf.cast(batch_indices, tf.int32),
        rows,
        columns,
    )
    index, weights, wanted = taps
    table = tf.reshape(x, (-1, channels))
    if mode == "max":
        return largest_terms(table, index, weights, wanted)
    count = tf.reduce_sum(tf.cast(wanted, x.dtype), -1, keepdims=True) / 4
    weights = weights / tf.maximum(count, 1)
    return tf.einsum("rpqk,rpqkc->rpqc", weights, tf.gather(table, index))


def roi_taps(
    start: tf.Tensor, extent: tf.Tensor, length: int, bins: int, sampling_ratio: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Indices, weights and presence (regions, bins, elements) of what the samples along one axis touch.

    Regions have as many samples in a bin as `sampling_ratio` says, or one for each element of its size.
    """
    kind = start.dtype
    size = extent[:, tf.newaxis, tf.newaxis] / bins
    count = (
        tf.fill(tf.shape(size), tf.cast(sampling_ratio, kind)) if sampling_ratio > 0 else tf.math.ceil(size)
    )
    most = sampling_ratio if sampling_ratio > 0 else tf.reduce_max(tf.pad(count, [[0, 1], [0, 0], [0, 0]]))
    sample = tf.cast(tf.range(most), kind)
    places = tf.cast(tf.range(bins), kind)[:, tf.newaxis] + (sample + 0.5) / tf.maximum(count, 1)
    position = start[:, tf.newaxis, tf.newaxis] + places * size
    present = (sample < count) & tf.ones_like(position, tf.bool)
    last = tf.cast(length - 1, kind)
    inside = present & (position >= -1) & (position <= last + 1)
    inner = tf.clip_by_value(tf.where(present, position, 0), 0, last)
    first = tf.floor(inner)
    index = tf.cast(tf.stack([first, tf.minimum(first + 1, last)], -1), tf.int32)
    weights = tf.where(inside[..., tf.newaxis], tf.stack([1 - inner + first, inner - first], -1), 0)
    shape = (tf.shape(start)[0], bins, 2 * tf.shape(sample)[0])
    return tuple(tf.reshape(each, shape) for each in (index, weights, tf.stack([present, present], -1)))


def crossed(
    rows: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    columns: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    batch: tf.Tensor,
    height: int,
    width: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The same for all pairs of a row and a column: (regions, rows of bins, columns of bins, elements)."""
    first = batch[:, tf.newaxis, tf.newaxis] * height + rows[0]
    index = first[:, :, tf.newaxis, :, tf.newaxis] * width + columns[0][:, tf.newaxis, :, tf.newaxis]
    weights = rows[1][:, :, tf.newaxis, :, tf.newaxis] * columns[1][:, tf.newaxis, :, tf.newaxis]
    present = rows[2][:, :, tf.newaxis, :, tf.newaxis] & columns[2][:, tf.newaxis, :, tf.newaxis]
    shape = (*sizes_of(index)[:3], tf.shape(rows[0])[2] * tf.shape(columns[0])[2])
    return tuple(tf.reshape(each, shape) for each in (index, weights, present))


def largest_terms(table: tf.Tensor, index: tf.Tensor, weights: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """The largest weighted row of a table along the last axis of an index; 0 where none is present."""
    terms = tf.gather(table, index) * tf.cast(weights, table.dtype)[..., tf.newaxis]
    largest = tf.reduce_max(tf.where(present[..., tf.newaxis], terms, -math.inf), -2)
    return tf.where(tf.reduce_any(present, -1, keepdims=True), largest, 0)


@lowering("MaxRoiPool", layout="channels_last")
def max_roi_pool(
    x: tf.Tensor, rois: tf.Tensor, *, pooled_shape: tuple[int, ...], spatial_scale: float = 1.0
) -> tf.Tensor:
    """The maxima of x (N, H, W, C) in the bins of regions (batch, x1, y1, x2, y2), ends included."""
    _, rows, columns, channels = sizes_of(x)
    corners = rois[:, 1:] * spatial_scale
    left, top, right, bottom = tf.unstack(tf.sign(corners) * tf.floor(tf.abs(corners) + 0.5), 4, 1)
    index, weights, present = crossed(
        bin_taps(top, bottom, rows, pooled_shape[0]),
        bin_taps(left, right, columns, pooled_shape[1]),
        tf.cast(rois[:, 0], tf.int32),
        rows,
        columns,
    )
    return largest_terms(tf.reshape(x, (-1, channels)), index, weights, present)


def bin_taps(
    first: tf.Tensor, last: tf.Tensor, length: int, bins: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Indices, weights of 1 and presence (regions, bins, elements) of the elements in each bin of an axis."""
    size = tf.maximum(last - first + 1, 1)[:, tf.newaxis] / bins
    edges = tf.cast(tf.range(bins + 1), first.dtype)
    begin = tf.cast(tf.floor(edges[:-1] * size) + first[:, tf.newaxis], tf.int32)
    end = tf.cast(tf.math.ceil(edges[1:] * size) + first[:, tf.newaxis], tf.int32)
    begin, end = tf.clip_by_value(begin, 0, length), tf.clip_by_value(end, 0, length)
    most = tf.reduce_max(tf.pad(end - begin, [[0, 1], [0, 0]], constant_values=1))
    index = begin[..., tf.newaxis] + tf.range(most)
    return tf.minimum(index, length - 1), tf.ones_like(index), index < end[..., tf.newaxis]


@lowering("DeformConv", layout="channels_last")
def deform_conv(
    x: tf.Tensor,
    w: tf.Tensor,
    offset: tf.Tensor,
    b: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
    *,
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    offset_group: int = 1,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Convolution of x (N, spatial..., C) with w (M, C / group, kernel...) beside the usual places.

    `offset` has for each group, kernel element and axis how far (N, out..., offset_group * elements *
    axes), `mask` a factor for what is seen there (N, out..., offset_group * elements).
    """
    rank, sizes = x.ndim - 2, sizes_of(x)
    batch, *places = sizes_of(offset)[:-1]
    kernel = w.shape[2:]
    elements, width = math.prod(kernel), sizes[-1] // offset_group
    stride, dilation, begins = strides or (1,) * rank, dilations or (1,) * rank, pads or (0,) * rank
    shifts = tf.reshape(offset, (batch, *places, offset_group, elements, rank))
    factors = None if mask is None else tf.reshape(mask, (batch, -1, offset_group, elements))
    positions = []
    for axis in range(rank):
        steps = tf.range(kernel[axis]) * dilation[axis] - begins[axis]
        steps = tf.broadcast_to(tf.reshape(steps, [-1 if i == axis else 1 for i in range(rank)]), kernel)
        starts = tf.range(places[axis]) * stride[axis]
        starts = tf.reshape(starts, [-1 if i == axis else 1 for i in range(rank + 2)])
        regular = tf.cast(starts + tf.reshape(steps, (-1,)), x.dtype)
        positions.append(shifts[..., axis] + regular)
    columns = []
    for i in range(offset_group):
        taps = [
            neighbours_on_grid(
                tf.reshape(each[..., i, :], (batch, -1)), sizes[axis + 1], "linear", "zeros", True
            )
            for axis, each in enumerate(positions)
        ]
        seen = sampled(x[..., i * width : (i + 1) * width], taps)
        seen = tf.reshape(seen, (batch, -1, elements, width))
        columns.append(seen if factors is None else seen * factors[:, :, i, :, tf.newaxis])
    stacked = tf.concat(columns, -1)
    parts = zip(tf.split(stacked, group, -1), tf.split(w, group, 0), strict=True)
    y = tf.concat(
        [
            tf.einsum("npkc,mck->npm", part, tf.reshape(weights, (*sizes_of(weights)[:2], elements)))
            for part, weights in parts
        ],
        -1,
    )
    y = tf.reshape(y, (batch, *places, sizes_of(w)[0]))
    return y if b is None else y + b
