"""Selecting, gathering, scattering and ordering."""

from __future__ import annotations

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._slice import reverses
from bridge_converters.onnx_to_tf._spatial import sizes_of
from bridge_converters.onnx_to_tf._table import layer_rule, lowering

Ints = tuple[int, ...]


@lowering("Slice", const=("starts", "ends", "axes", "steps"))
def slice_(
    x: tf.Tensor,
    starts: Ints | tf.Tensor,
    ends: Ints | tf.Tensor,
    axes: Ints | tf.Tensor | None = None,
    steps: Ints | tf.Tensor | None = None,
) -> tf.Tensor:
    """The elements from starts to ends by steps along axes, as Python slices select them."""
    if not (axes is None or isinstance(axes, tuple)) or not (steps is None or isinstance(steps, tuple)):
        return computed_slice(x, starts, ends, axes, steps)
    if isinstance(starts, tuple) and isinstance(ends, tuple) and len(starts) == 1 and steps in (None, (1,)):
        if axes is None or axes == (0,):
            return x[starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes == (1,):
            return x[:, starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes is not None and axes[0] in (-1, x.ndim - 1):
            return x[..., starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes == (2,):
            return x[:, :, starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes == (3,):
            return x[:, :, :, starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
    if reverses(starts, ends, axes, steps):
        return tf.reverse(x, axes)
    x = tf.convert_to_tensor(x)
    count = len(starts) if isinstance(starts, tuple) else starts.shape[0]
    places = range(count) if axes is None else axes
    for i, axis in enumerate(places):
        first, last, step = starts[i], ends[i], 1 if steps is None else steps[i]
        if isinstance(last, int) and abs(last) >= 2147483647:
            last = None
        if isinstance(first, int) and abs(first) >= 2147483647:
            first = None if (first < 0) == (step > 0) else first // abs(first) * 2147483647
        x = x[(slice(None),) * (axis % x.ndim) + (slice(first, last, step),)]
    return x


def computed_slice(
    x: tf.Tensor,
    starts: Ints | tf.Tensor,
    ends: Ints | tf.Tensor,
    axes: Ints | tf.Tensor | None,
    steps: Ints | tf.Tensor | None,
) -> tf.Tensor:
    """A slice along axes, or by steps, that are known only when the model runs."""
    sizes = tf.shape(x, out_type=tf.int64)
    first, last = tf.cast(starts, tf.int64), tf.cast(ends, tf.int64)
    axis = tf.range(tf.size(first, tf.int64)) if axes is None else tf.cast(axes, tf.int64)
    step = tf.ones_like(first) if steps is None else tf.cast(steps, tf.int64)
    places = (axis % tf.size(sizes, tf.int64))[:, tf.newaxis]
    begins = tf.tensor_scatter_nd_update(tf.zeros_like(sizes), places, first)
    strides = tf.tensor_scatter_nd_update(tf.ones_like(sizes), places, step)
    return tf.strided_slice(x, begins, tf.tensor_scatter_nd_update(sizes, places, last), strides)


@lowering("Slice", domain="bridge")
def slice_to_size(x: tf.Tensor, other: tf.Tensor, *, start: int, axis: int, of: int) -> tf.Tensor:
    """The elements along an axis from a start up to the size of an axis of another tensor."""
    if axis == 0:
        return x[start or None : tf.shape(other)[of]]
    if axis == 1:
        return x[:, start or None : tf.shape(other)[of]]
    if axis == 2:
        return x[:, :, start or None : tf.shape(other)[of]]
    return x[(*[slice(None)] * axis, slice(start, tf.shape(other)[of]))]


@lowering("Gather", const=("indices",))
def gather(x: tf.Tensor, indices: int | Ints | tf.Tensor, *, axis: int = 0) -> tf.Tensor:
    """The slices of x along an axis at the indices, which may count from the end."""
    if isinstance(indices, int) and axis == 0:
        return x[indices]
    if isinstance(indices, int) and axis == 1:
        return x[:, indices]
    if isinstance(indices, int) and axis == 2:
        return x[:, :, indices]
    if isinstance(indices, int) and axis == -1:
        return x[..., indices]
    if isinstance(indices, tuple) and min(indices, default=-1) >= 0:
        return tf.gather(x, indices, axis=axis)
    if isinstance(indices, int | tuple):
        return tf.gather(x, from_start(tf.constant(indices, tf.int64), tf.shape(x)[axis]), axis=axis)
    return tf.gather(x, from_start(indices, tf.shape(x)[axis]), axis=axis)


def from_start(indices: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Indices that may count from the end, counted from the start."""
    return tf.where(indices < 0, indices + tf.cast(size, indices.dtype), indices)


@lowering("GatherElements")
def gather_elements(x: tf.Tensor, indices: tf.Tensor, *, axis: int = 0) -> tf.Tensor:
    """The elements of x along an axis at the indices, one for each index."""
    return tf.gather_nd(x, element_places(indices, tf.shape(x)[axis], axis))


def element_places(indices: tf.Tensor, size: tf.Tensor, axis: int) -> tf.Tensor:
    """For each element of indices its own place, with the index itself along one axis: (..., rank)."""
    lines = [tf.range(n, dtype=indices.dtype) for n in sizes_of(indices)]
    places = tf.meshgrid(*lines, indexing="ij")
    places[axis] = from_start(indices, size)
    return tf.stack(places, -1)


@lowering("GatherND", since=13)
def gather_nd(x: tf.Tensor, indices: tf.Tensor, *, batch_dims: int = 0) -> tf.Tensor:
    """The slices of x at the index tuples in the last axis of indices, after shared batch axes."""
    sizes = tf.shape(x)[batch_dims : batch_dims + indices.shape[-1]]
    return tf.gather_nd(x, from_start(indices, sizes), batch_dims=batch_dims)


@lowering("ScatterND", since=16)
def scatter_nd(x: tf.Tensor, indices: tf.Tensor, updates: tf.Tensor, *, reduction: str = "none") -> tf.Tensor:
    """x with the slices at the index tuples replaced by, or combined with, the updates."""
    places = from_start(indices, tf.shape(x)[: indices.shape[-1]])
    return scatter(x, places, updates, reduction)


def scatter(x: tf.Tensor, places: tf.Tensor, updates: tf.Tensor, reduction: str) -> tf.Tensor:
    """x with updates put at, or combined into, index tuples that count from the start."""
    if reduction == "none":
        return tf.tensor_scatter_nd_update(x, places, updates)
    if reduction == "add":
        return tf.tensor_scatter_nd_add(x, places, updates)
    if reduction == "max":
        return tf.tensor_scatter_nd_max(x, places, updates)
    if reduction == "min":
        return tf.tensor_scatter_nd_min(x, places, updates)
    depth = places.shape[-1]
    sizes = tf.cast(tf.shape(x), places.dtype)
    steps = tf.math.cumprod(sizes[:depth], exclusive=True, reverse=True)
    flat = tf.reshape(tf.reduce_sum(places * steps, -1), (-1,))
    changes = tf.reshape(updates, tf.concat([[-1], tf.shape(x)[depth:]], 0))
    factors = tf.math.unsorted_segment_prod(changes, flat, tf.reduce_prod(sizes[:depth]))
    return x * tf.reshape(factors, tf.shape(x))


@lowering("ScatterElements", since=16)
def scatter_elements(
    x: tf.Tensor, indices: tf.Tensor, updates: tf.Tensor, *, axis: int = 0, reduction: str = "none"
) -> tf.Tensor:
    """x with the elements at the indices along an axis replaced by, or combined with, the updates."""
    return scatter(x, element_places(indices, tf.shape(x)[axis], axis), updates, reduction)


@lowering("Trilu", const=("k",))
def trilu(x: tf.Tensor, k: int | tf.Tensor | None = None, *, upper: int = 1) -> tf.Tensor:
    """The upper or lower triangle of the last two axes, from the k-th diagonal."""
    diagonal = 0 if k is None else k if isinstance(k, int) else tf.cast(tf.reshape(k, ()), tf.int32)
    rows = tf.range(tf.shape(x)[-2])[:, tf.newaxis] + diagonal
    columns = tf.range(tf.shape(x)[-1])
    return tf.where(columns >= rows if upper else columns <= rows, x, tf.zeros_like(x))


@lowering("OneHot", const=("depth",))
def one_hot(
    indices: tf.Tensor,
    depth: float | tuple[float, ...] | tf.Tensor,
    values: tf.Tensor,
    *,
    axis: int = -1,
) -> tf.Tensor:
    """values[1] at each index along a new axis of size depth, values[0] elsewhere."""
    count = tf.cast(tf.reshape(depth, ()), tf.int64)
    place = axis % (indices.ndim + 1)
    line = tf.reshape(tf.range(count), [-1] + [1] * (indices.ndim - place))
    wanted = tf.expand_dims(from_start(tf.cast(indices, tf.int64), count), place)
    return tf.where(wanted == line, values[1], values[0])


@lowering("NonZero")
def nonzero(x: tf.Tensor) -> tf.Tensor:
    """The indices of all elements that are not zero, one row an axis."""
    return tf.transpose(tf.where(x))


@lowering("Compress", const=("condition",))
def compress(x: tf.Tensor, condition: tuple[bool, ...] | tf.Tensor, *, axis: int | None = None) -> tf.Tensor:
    """The slices along an axis (of the flat input by default) where the condition holds."""
    line = tf.squeeze(tf.where(tf.convert_to_tensor(condition)), 1)
    return tf.gather(tf.reshape(x, (-1,)), line) if axis is None else tf.gather(x, line, axis=axis)


@lowering("TopK", since=11, const=("k",))
def top_k(
    x: tf.Tensor, k: int | Ints | tf.Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k largest (or smallest) elements along an axis and their indices, equal ones in input order."""
    count = (
        k if isinstance(k, int) else k[0] if isinstance(k, tuple) else tf.cast(tf.reshape(k, ()), tf.int32)
    )
    order = list(range(x.ndim))
    order[axis], order[-1] = order[-1], order[axis]
    ranked = tf.transpose(x, order)
    if not largest:
        ranked = ~ranked if tf.as_dtype(x.dtype).is_integer else -ranked
    values, indices = tf.math.top_k(ranked, count)
    if not largest:
        values = ~values if tf.as_dtype(x.dtype).is_integer else -values
    return tf.transpose(values, order), tf.cast(tf.transpose(indices, order), tf.int64)


@lowering("Unique")
def unique(
    x: tf.Tensor, *, axis: int | None = None, sorted: int = 1, outputs: int = 1
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """The different elements (or slices along an axis), where each is first, which each was, and how many.

    In ascending order, or if not `sorted` in the order in which they come.
    """
    x = tf.reshape(x, (-1,)) if axis is None else x
    place = 0 if axis is None else axis % x.ndim
    _, which, counts = tf.raw_ops.UniqueWithCountsV2(x=x, axis=(place,), out_idx=tf.int64)
    positions = tf.range(tf.size(which, tf.int64))
    first = tf.math.unsorted_segment_min(positions, which, tf.size(counts))
    if sorted:
        order = ascending(tf.gather(x, first, axis=place), place)
        first, counts = tf.gather(first, order), tf.gather(counts, order)
        which = tf.gather(tf.cast(tf.argsort(order), tf.int64), which)
    values = tf.gather(x, first, axis=place)
    return values if outputs == 1 else (values, first, which, counts)[:outputs]


def ascending(x: tf.Tensor, axis: int) -> tf.Tensor:
    """The order that sorts the slices of x along an axis, by their first elements, then their second..."""
    x = tf.cast(x, tf.uint8) if tf.as_dtype(x.dtype).is_bool else x
    keys = tf.reshape(
        tf.transpose(x, (*range(axis), *range(axis + 1, x.ndim), axis)), (-1, tf.shape(x)[axis])
    )
    start = tf.shape(keys)[0] - 1, tf.range(tf.shape(x)[axis])
    _, order = tf.while_loop(
        lambda i, order: i >= 0,
        lambda i, order: (i - 1, tf.gather(order, tf.argsort(tf.gather(keys[i], order), stable=True))),
        start,
    )
    return order


@lowering("ReverseSequence")
def reverse_sequence(
    x: tf.Tensor, sequence_lens: tf.Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> tf.Tensor:
    """The first `sequence_lens[i]` steps of each batch entry i in reverse order."""
    return tf.reverse_sequence(x, sequence_lens, seq_axis=time_axis, batch_axis=batch_axis)


@lowering("HoldRow", domain="bridge")
def hold_row(x: tf.Tensor, indices: tf.Tensor, *, row: int) -> tf.Tensor:
    """x, the rows of a table at the indices, where one row of the table takes no gradient."""
    return tf.where(tf.expand_dims(indices == row, -1), tf.stop_gradient(x), x)


@layer_rule("Gather")
def embedding_layer(view: NodeView) -> Layer | None:
    """Rows of a trained table at computed indices."""
    table = view.input(0)
    if table is None or view.attr("axis", 0) != 0 or not view.is_trained(0) or view.constant(1) is not None:
        return None
    shape = view.known_shape(0)
    if len(shape) != 2:
        return None
    return Layer(
        "keras.layers.Embedding",
        shape,
        {},
        {"embeddings": LayerTensor(table)},
        inputs=(1,),
        build_shape=view.shape(1),
    )
