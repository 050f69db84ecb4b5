"""Rotary positions in TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering


@lowering("Rotate", domain="bridge")
def rotated(x: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor, *, interleaved: int) -> tf.Tensor:
    """Pairs of the last axis turned by angles; the inputs are those of `fuse_rotations`."""
    return rotate_neighbours(x, cosine, sine) if interleaved else rotate_halves(x, cosine, sine)


def rotate_halves(x: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor) -> tf.Tensor:
    """Rotary positions: each element of the first half turned with its counterpart in the second."""
    first, second = tf.split(x, 2, axis=-1)
    return x * cosine + tf.concat((-second, first), -1) * sine


def rotate_neighbours(x: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor) -> tf.Tensor:
    """Rotary positions: every two neighbours of the last axis turned by an angle."""
    turned = tf.stack((-x[..., 1::2], x[..., ::2]), -1)
    return x * cosine + tf.reshape(turned, tf.shape(x)) * sine
