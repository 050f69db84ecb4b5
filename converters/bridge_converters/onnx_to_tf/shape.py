"""Shapes: reshaping, joining, splitting, padding, and conversion of dtypes."""

from __future__ import annotations

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge_converters.onnx_to_tf._dtypes import dtype_of
from bridge_converters.onnx_to_tf._table import layer_rule, lowering

Ints = tuple[int, ...]
Shapes = tuple[tuple[int | str | None, ...] | None, ...]


@lowering("Identity")
def identity(x: tf.Tensor) -> tf.Tensor:
    """x itself."""
    return x


@lowering("StopGradient", domain="bridge")
def stop_gradient(x: tf.Tensor) -> tf.Tensor:
    """x, through which no gradient passes."""
    return tf.stop_gradient(x)


@lowering("Shape")
def shape(x: tf.Tensor, *, end: int | None = None, start: int = 0) -> tf.Tensor:
    """The sizes of the axes from `start` up to `end`."""
    if start == 0 and end is None:
        return tf.shape(x, out_type=tf.int64)
    return tf.shape(x, out_type=tf.int64)[start:end]


@lowering("Size")
def size(x: tf.Tensor) -> tf.Tensor:
    """The number of elements."""
    return tf.size(x, out_type=tf.int64)


@lowering("Reshape", const=("shape",))
def reshape(x: tf.Tensor, shape: Ints | tf.Tensor, *, allowzero: int = 0) -> tf.Tensor:
    """x in another shape: -1 is what remains, 0 keeps the input's size (or is 0 with `allowzero`)."""
    if allowzero or (isinstance(shape, tuple) and 0 not in shape):
        return tf.reshape(x, shape)
    if isinstance(shape, tuple) and 0 not in shape[1:]:
        return tf.reshape(x, (tf.shape(x)[0], *shape[1:]))
    if isinstance(shape, tuple):
        return tf.reshape(x, (*[tf.shape(x)[i] if n == 0 else n for i, n in enumerate(shape)],))
    kept = tf.shape(x, out_type=shape.dtype)[: tf.size(shape)]
    kept = tf.pad(kept, [[0, tf.size(shape) - tf.size(kept)]])
    return tf.reshape(x, tf.where(shape == 0, kept, shape))


@lowering("Flatten")
def flatten(x: tf.Tensor, *, axis: int = 1) -> tf.Tensor:
    """x as a matrix: the axes before `axis` are rows, the others columns."""
    if axis == 1 and x.ndim > 1:
        return tf.reshape(x, (tf.shape(x)[0], -1))
    rows = tf.reduce_prod(tf.shape(x)[: axis if axis >= 0 else axis + x.ndim])
    columns = tf.reduce_prod(tf.shape(x)[axis if axis >= 0 else axis + x.ndim :])
    return tf.reshape(x, (rows, columns))


@lowering("Transpose")
def transpose(x: tf.Tensor, *, perm: Ints | None = None) -> tf.Tensor:
    """The axes in another order, by default reversed."""
    if perm is None:
        return tf.transpose(x)
    return tf.transpose(x, perm)


@lowering("Squeeze", const=("axes",))
def squeeze(x: tf.Tensor, axes: int | Ints | tf.Tensor | None = None) -> tf.Tensor:
    """x without the given axes of size 1, or without all of them."""
    if axes is None:
        return tf.squeeze(x)
    if isinstance(axes, int):
        return tf.squeeze(x, axes)
    if not isinstance(axes, tuple):
        kept = tf.where(tf.logical_not(among(axes, tf.rank(x))))
        return tf.reshape(x, tf.gather(tf.shape(x), tf.reshape(kept, (-1,))))
    if len(axes) == 1:
        return tf.squeeze(x, axes[0])
    return tf.squeeze(x, axes) if axes else x


def among(axes: tf.Tensor, rank: tf.Tensor) -> tf.Tensor:
    """For each of so many axes whether it is one of `axes`, which may count from the end."""
    places = axes % tf.cast(rank, axes.dtype)
    return tf.reduce_any(tf.range(rank) == tf.cast(places, tf.int32)[:, tf.newaxis], 0)


@lowering("Unsqueeze", const=("axes",))
def unsqueeze(x: tf.Tensor, axes: int | Ints | tf.Tensor) -> tf.Tensor:
    """x with new axes of size 1 at these places of the result."""
    if isinstance(axes, int):
        return tf.expand_dims(x, axes)
    if not isinstance(axes, tuple):
        new = among(axes, tf.rank(x) + tf.size(axes))
        return tf.reshape(
            x, tf.tensor_scatter_nd_update(tf.ones_like(new, tf.int32), tf.where(~new), tf.shape(x))
        )
    if len(axes) == 1:
        return tf.expand_dims(x, axes[0])
    rank = x.ndim + len(axes)
    places = [axis % rank for axis in axes]
    return x[(*[tf.newaxis if i in places else slice(None) for i in range(rank)],)]


@lowering("Expand", const=("shape",))
def expand(x: tf.Tensor, shape: Ints | tf.Tensor, *, input_shapes: Shapes = (None,)) -> tf.Tensor:
    """x broadcast together with a shape."""
    if isinstance(shape, tuple) and repeats(shape, input_shapes[0]):
        return tf.tile(x, shape)
    sizes = tf.constant(shape, tf.int32) if isinstance(shape, tuple) else tf.cast(shape, tf.int32)
    return tf.broadcast_to(x, tf.broadcast_dynamic_shape(tf.shape(x), sizes))


def repeats(shape: Ints, given: tuple[int | str | None, ...] | None) -> bool:
    """Whether broadcasting together with a shape repeats axes of size 1, and keeps all others."""
    if given is None or len(given) != len(shape):
        return False
    return all(size == 1 or known == 1 for size, known in zip(shape, given, strict=True))


@lowering("Reshape", domain="bridge")
def reshape_by_sizes(x: tf.Tensor, *others: tf.Tensor, owners: Ints, sizes: Ints) -> tf.Tensor:
    """x in another shape of numbers (owner -1) and the sizes of axes, those of x (owner 0) or another."""
    return tf.reshape(
        x,
        (
            *[
                n if i < 0 else tf.shape(x)[n] if i == 0 else tf.shape(others[i - 1])[n]
                for i, n in zip(owners, sizes, strict=True)
            ],
        ),
    )


@lowering("Expand", domain="bridge")
def expand_by_sizes(x: tf.Tensor, *others: tf.Tensor, owners: Ints, sizes: Ints) -> tf.Tensor:
    """x broadcast to a shape of numbers (owner -1) and the sizes of axes, those of x (owner 0) or another."""
    return tf.broadcast_to(
        x,
        (
            *[
                n if i < 0 else tf.shape(x)[n] if i == 0 else tf.shape(others[i - 1])[n]
                for i, n in zip(owners, sizes, strict=True)
            ],
        ),
    )


@lowering("Concat")
def concat(*inputs: tf.Tensor, axis: int) -> tf.Tensor:
    """The inputs one after the other along an axis."""
    return tf.concat(inputs, axis)


@lowering("Split", const=("split",))
def split(
    x: tf.Tensor,
    split: Ints | tf.Tensor | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    outputs: int = 1,
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """x cut along an axis into pieces of the given sizes, or into equal ones (the last may be smaller)."""
    if outputs == 1:
        return x
    if isinstance(split, tuple) and split == (split[0],) * len(split):
        return tuple(tf.split(x, len(split), axis))
    if isinstance(split, tuple):
        return tuple(tf.split(x, split, axis))
    if split is not None:
        return tuple(tf.split(x, split, axis, num=outputs))
    count = num_outputs or outputs
    size = tf.shape(x)[axis]
    piece = -(-size // count)
    return tuple(tf.split(x, [piece] * (count - 1) + [size - piece * (count - 1)], axis))


@lowering("Tile", const=("repeats",))
def tile(x: tf.Tensor, repeats: Ints | tf.Tensor) -> tf.Tensor:
    """x repeated along each axis."""
    return tf.tile(x, repeats)


@lowering("ConstantOfShape", const=("shape",))
def constant_of_shape(shape: Ints | tf.Tensor, *, value: tf.Tensor | None = None) -> tf.Tensor:
    """A tensor of one value (by default the float 0) throughout."""
    if value is None:
        return tf.zeros(shape)
    return tf.fill(shape, value)


@lowering("Full", domain="bridge")
def full_by_sizes(*others: tf.Tensor, owners: Ints, sizes: Ints, value: float, dtype: int) -> tf.Tensor:
    """A tensor of one number; its shape is numbers (owner -1) and sizes of axes."""
    if value == 0:
        return tf.zeros(
            (*[n if i < 0 else tf.shape(others[i])[n] for i, n in zip(owners, sizes, strict=True)],),
            dtype_of(dtype),
        )
    return tf.fill(
        (*[n if i < 0 else tf.shape(others[i])[n] for i, n in zip(owners, sizes, strict=True)],),
        tf.constant(bool(value) if dtype == 9 else value, dtype_of(dtype)),
    )


@lowering("Arange", domain="bridge")
def arange(x: tf.Tensor, *, axis: int, step: int = 1, output_types: tuple[str, ...]) -> tf.Tensor:
    """0, step, ... below the size of an axis, in 32 or 64 bits."""
    if output_types[0] == "INT32":
        if step == 1:
            return tf.range(tf.shape(x)[axis])
        return tf.range(0, tf.shape(x)[axis], step)
    if step == 1:
        return tf.range(tf.shape(x, out_type=tf.int64)[axis])
    return tf.range(0, tf.shape(x, out_type=tf.int64)[axis], step)


@lowering("EyeLike")
def eye_like(x: tf.Tensor, *, dtype: int | None = None, k: int = 0) -> tf.Tensor:
    """Ones on the k-th diagonal of a matrix of x's shape, zeros elsewhere."""
    rows, columns = tf.range(tf.shape(x)[0])[:, tf.newaxis], tf.range(tf.shape(x)[1])
    return tf.cast(rows + k == columns, x.dtype if dtype is None else dtype_of(dtype))


@lowering("Range")
def range_(start: tf.Tensor, limit: tf.Tensor, delta: tf.Tensor, *, stash_type: int = 1) -> tf.Tensor:
    """start, start + delta, ... below (or above, for a negative delta) the limit."""
    if start.dtype == tf.int16 or (stash_type == 1 and start.dtype in (tf.float16, tf.bfloat16)):
        first, last, step = (tf.cast(each, tf.float32) for each in (start, limit, delta))
        return tf.cast(
            tf.range(first, tf.where((last > first) == (step > 0), last, first), step), start.dtype
        )
    return tf.range(start, tf.where((limit > start) == (delta > 0), limit, start), delta)


@layer_rule("Flatten")
def flatten_layer(view: NodeView) -> Layer | None:
    """A flattening of everything but the batch."""
    return Layer("keras.layers.Flatten") if view.attr("axis", 1) == 1 else None


@layer_rule("Identity")
def identity_layer(view: NodeView) -> Layer | None:
    return Layer("keras.layers.Identity")
