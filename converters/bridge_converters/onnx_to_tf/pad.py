"""Padding and cropping."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering

Ints = tuple[int, ...]
Value = float | tuple[float, ...]


@lowering("Pad", const=("pads", "constant_value", "axes"))
def pad(
    x: tf.Tensor,
    pads: Ints | tf.Tensor,
    constant_value: Value | tf.Tensor | None = None,
    axes: Ints | tf.Tensor | None = None,
    *,
    mode: str = "constant",
) -> tf.Tensor:
    """x with begins and ends added to (or, where negative, cut from) the given axes."""
    if x.ndim == 0:
        return x
    if isinstance(constant_value, tuple):
        fill = constant_value[0] if constant_value else 0
    elif constant_value is None:
        fill = "" if x.dtype == tf.string else 0
    else:
        fill = constant_value
    if mode == "constant" and axes is None and isinstance(pads, tuple) and min(pads, default=0) >= 0:
        paddings = tuple((pads[i], pads[i + x.ndim]) for i in range(x.ndim))
        if isinstance(fill, int | float) and fill == 0:
            return tf.pad(x, paddings)
        if isinstance(fill, int | float | str):
            return tf.pad(x, paddings, constant_values=fill)
    sides = sides_of_axes(pads, axes, x.ndim)
    sizes = tf.shape(x, sides.dtype)
    begin = tf.maximum(-sides[:, 0], 0)
    x = tf.slice(x, begin, sizes - begin - tf.maximum(-sides[:, 1], 0))
    added = tf.maximum(sides, 0)
    if mode == "constant":
        value = fill if isinstance(fill, str) else tf.reshape(tf.cast(fill, x.dtype), ())
        return tf.pad(x, added, constant_values=value)
    for axis in range(x.ndim):
        if isinstance(pads, tuple) and axes is None and max(pads[axis], pads[axis + x.ndim]) <= 0:
            continue
        size = tf.shape(x, sides.dtype)[axis]
        x = tf.gather(
            x, source_index(tf.range(-added[axis, 0], size + added[axis, 1]), size, mode), axis=axis
        )
    return x


def sides_of_axes(pads: Ints | tf.Tensor, axes: Ints | tf.Tensor | None, rank: int) -> tf.Tensor:
    """The begin and end of every axis (rank, 2), 0 for those that are not given."""
    given = tf.transpose(tf.reshape(pads, (2, -1)))
    if axes is None:
        return given
    places = tf.cast(axes, tf.int32) % rank
    return tf.tensor_scatter_nd_update(tf.zeros((rank, 2), given.dtype), places[:, tf.newaxis], given)


def source_index(index: tf.Tensor, size: tf.Tensor, mode: str) -> tf.Tensor:
    """Where a padded position takes its value from: the `edge`, the `reflect`ion or by `wrap`ping around."""
    if mode == "edge":
        return tf.minimum(tf.maximum(index, 0), size - 1)
    if mode == "wrap":
        return index % size
    period = tf.maximum(2 * size - 2, 1)
    return size - 1 - tf.abs(index % period - (size - 1))


@lowering("CenterCropPad", const=("shape",))
def center_crop_pad(
    x: tf.Tensor, shape: Ints | tf.Tensor, *, axes: tuple[int, ...] | None = None
) -> tf.Tensor:
    """x with the given axes cropped or padded with zeros to a shape around their centres."""
    places = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    sizes = tf.shape(x)
    wanted = tf.tensor_scatter_nd_update(sizes, [[axis] for axis in places], tf.cast(shape, tf.int32))
    kept = tf.minimum(sizes, wanted)
    x = tf.slice(x, (sizes - kept) // 2, kept)
    before = (wanted - kept) // 2
    y = tf.pad(x, tf.stack([before, wanted - kept - before], 1))
    known = dict(zip(places, shape if isinstance(shape, tuple) else [None] * len(places), strict=True))
    return tf.ensure_shape(y, [known.get(axis, size) for axis, size in enumerate(x.shape)])
