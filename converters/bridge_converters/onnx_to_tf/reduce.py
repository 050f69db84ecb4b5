"""Reductions and running sums."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering

Ints = tuple[int, ...]


def no_axes(axes: Ints | tf.Tensor | None) -> bool:
    """Whether it is known at conversion that no axes are given."""
    return axes is None or (isinstance(axes, tuple) and not axes)


def reduced_axes(
    axes: Ints | tf.Tensor | None, rank: int, keep_if_none: int
) -> int | Ints | tf.Tensor | None:
    """The axes to reduce over, a single one as a number: without any all, or none if `keep_if_none`."""
    if axes is None or isinstance(axes, tuple):
        return axes[0] if axes and len(axes) == 1 else axes or None
    if keep_if_none or axes.shape[0]:
        return axes
    everything = tf.range(rank, dtype=axes.dtype)
    return tf.cond(tf.size(axes) == 0, lambda: everything, lambda: axes)


@lowering("ReduceSum", since=13, const=("axes",))
def reduce_sum(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The sum over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return x
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if keepdims:
        return tf.reduce_sum(x, dims, keepdims=True)
    return tf.reduce_sum(x, dims)


@lowering("ReduceMean", since=13, const=("axes",))
def reduce_mean(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The mean over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return x
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if tf.as_dtype(x.dtype).is_integer:
        total = tf.reduce_sum(x, dims, keepdims=keepdims == 1)
        return tf.truncatediv(total, tf.cast(tf.size(x) // tf.maximum(tf.size(total), 1), x.dtype))
    if keepdims:
        return tf.reduce_mean(x, dims, keepdims=True)
    return tf.reduce_mean(x, dims)


@lowering("ReduceMax", since=13, const=("axes",))
def reduce_max(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The maximum over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return x
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if tf.as_dtype(x.dtype).is_bool:
        return tf.reduce_any(x, dims, keepdims=keepdims == 1)
    if keepdims:
        return tf.reduce_max(x, dims, keepdims=True)
    return tf.reduce_max(x, dims)


@lowering("ReduceMin", since=13, const=("axes",))
def reduce_min(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The minimum over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return x
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if tf.as_dtype(x.dtype).is_bool:
        return tf.reduce_all(x, dims, keepdims=keepdims == 1)
    if keepdims:
        return tf.reduce_min(x, dims, keepdims=True)
    return tf.reduce_min(x, dims)


@lowering("ReduceProd", since=13, const=("axes",))
def reduce_prod(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The product over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return x
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if keepdims:
        return tf.reduce_prod(x, dims, keepdims=True)
    return tf.reduce_prod(x, dims)


@lowering("ReduceL1", since=13, const=("axes",))
def reduce_l1(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The sum of absolute values over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return tf.abs(x)
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    return tf.reduce_sum(tf.abs(x), dims, keepdims=keepdims == 1)


@lowering("ReduceL2", since=13, const=("axes",))
def reduce_l2(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The square root of the sum of squares over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return tf.abs(x)
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if tf.as_dtype(x.dtype).is_integer:
        return tf.cast(
            tf.sqrt(tf.cast(tf.reduce_sum(x * x, dims, keepdims=keepdims == 1), tf.float64)),
            x.dtype,
        )
    return tf.sqrt(tf.reduce_sum(x * x, dims, keepdims=keepdims == 1))


@lowering("ReduceLogSum", since=13, const=("axes",))
def reduce_log_sum(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The logarithm of the sum over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return tf.math.log(x)
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if tf.as_dtype(x.dtype).is_integer:
        return tf.cast(
            tf.math.log(tf.cast(tf.reduce_sum(x, dims, keepdims=keepdims == 1), tf.float64)),
            x.dtype,
        )
    return tf.math.log(tf.reduce_sum(x, dims, keepdims=keepdims == 1))


@lowering("ReduceLogSumExp", since=13, const=("axes",))
def reduce_log_sum_exp(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The logarithm of the sum of exponentials over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return x
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    if tf.as_dtype(x.dtype).is_integer:
        return tf.cast(tf.reduce_logsumexp(tf.cast(x, tf.float64), dims, keepdims=keepdims == 1), x.dtype)
    if keepdims:
        return tf.reduce_logsumexp(x, dims, keepdims=True)
    return tf.reduce_logsumexp(x, dims)


@lowering("ReduceSumSquare", since=13, const=("axes",))
def reduce_sum_square(
    x: tf.Tensor, axes: Ints | tf.Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> tf.Tensor:
    """The sum of squares over the axes, by default over all."""
    if noop_with_empty_axes and no_axes(axes):
        return x * x
    dims = reduced_axes(axes, x.ndim, noop_with_empty_axes)
    return tf.reduce_sum(x * x, dims, keepdims=keepdims == 1)


@lowering("ArgMax", since=13)
def arg_max(x: tf.Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> tf.Tensor:
    """The index of the first (or last) maximum along an axis."""
    place = tf.argmax(tf.reverse(x, (axis,)) if select_last_index else x, axis)
    place = tf.shape(x, out_type=tf.int64)[axis] - 1 - place if select_last_index else place
    return tf.expand_dims(place, axis) if keepdims else place


@lowering("ArgMin", since=13)
def arg_min(x: tf.Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> tf.Tensor:
    """The index of the first (or last) minimum along an axis."""
    place = tf.argmin(tf.reverse(x, (axis,)) if select_last_index else x, axis)
    place = tf.shape(x, out_type=tf.int64)[axis] - 1 - place if select_last_index else place
    return tf.expand_dims(place, axis) if keepdims else place


@lowering("CumSum", const=("axis",))
def cum_sum(
    x: tf.Tensor, axis: int | tuple[int, ...] | tf.Tensor, *, exclusive: int = 0, reverse: int = 0
) -> tf.Tensor:
    """The sum of all elements up to each along an axis, without its own if `exclusive`."""
    place = axis if isinstance(axis, int) else tf.reshape(axis, ())
    if exclusive or reverse:
        return tf.cumsum(x, place, exclusive=exclusive == 1, reverse=reverse == 1)
    return tf.cumsum(x, place)


@lowering("CumProd", const=("axis",), since=26)
def cum_prod(x: tf.Tensor, axis: int | tf.Tensor, *, exclusive: int = 0, reverse: int = 0) -> tf.Tensor:
    """The product of all elements up to each along an axis, without its own if `exclusive`."""
    place = axis if isinstance(axis, int) else tf.reshape(axis, ())
    if exclusive or reverse:
        return tf.math.cumprod(x, place, exclusive=exclusive == 1, reverse=reverse == 1)
    return tf.math.cumprod(x, place)
