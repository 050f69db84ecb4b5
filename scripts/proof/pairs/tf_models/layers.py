"""The layers of the hand-written versions over plain TensorFlow operators, channels last."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from scripts.proof.pairs.tf_models.weights import Weights

Tensor = tf.Tensor


def dense(w: Weights, name: str, x: Tensor, *, bias: bool = True) -> Tensor:
    y = tf.matmul(x, w.dense(f"{name}.weight"))
    return y + w(f"{name}.bias") if bias else y


def conv(
    w: Weights,
    name: str,
    x: Tensor,
    *,
    padding: int | Sequence[int] = 0,
    strides: int | Sequence[int] = 1,
    dilations: int | Sequence[int] = 1,
    bias: bool = True,
) -> Tensor:
    """A convolution over two or three axes with the same padding at both ends of an axis."""
    if padding:
        ends = [padding] * (len(x.shape) - 2) if isinstance(padding, int) else padding
        x = tf.pad(x, [[0, 0], *([end, end] for end in ends), [0, 0]])
    function = tf.nn.conv2d if len(x.shape) == 4 else tf.nn.conv3d
    if len(x.shape) == 5 and not isinstance(strides, int):
        strides = [1, *strides, 1]
    elif len(x.shape) == 5:
        strides = [1, strides, strides, strides, 1]
    more = {"dilations": dilations} if len(x.shape) == 4 else {}
    y = function(x, w.conv(f"{name}.weight"), strides=strides, padding="VALID", **more)
    return tf.nn.bias_add(y, w(f"{name}.bias")) if bias else y


def conv_transpose(w: Weights, name: str, x: Tensor, *, stride: int, padding: int = 0) -> Tensor:
    """A transposed convolution whose output is `stride` times as large."""
    kernel = w.conv(f"{name}.weight")
    shape = tf.shape(x)
    full = [shape[0], shape[1] * stride + 2 * padding, shape[2] * stride + 2 * padding, kernel.shape[2]]
    y = tf.nn.conv2d_transpose(x, kernel, tf.stack(full), strides=stride, padding="VALID")
    if padding:
        y = y[:, padding:-padding, padding:-padding]
    return tf.nn.bias_add(y, w(f"{name}.bias"))


def batch_norm(w: Weights, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    return tf.nn.batch_normalization(
        x,
        w(f"{name}.running_mean"),
        w(f"{name}.running_var"),
        w(f"{name}.bias"),
        w(f"{name}.weight"),
        epsilon,
    )


def layer_norm(w: Weights, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + epsilon) * w(f"{name}.weight") + w(f"{name}.bias")


def group_norm(w: Weights, name: str, x: Tensor, groups: int, epsilon: float = 1e-5) -> Tensor:
    """Over (batch, height, width, channels)."""
    shape = tf.shape(x)
    grouped = tf.reshape(x, tf.concat([shape[:-1], [groups, x.shape[-1] // groups]], 0))
    mean, variance = tf.nn.moments(grouped, [1, 2, 4], keepdims=True)
    y = tf.reshape((grouped - mean) * tf.math.rsqrt(variance + epsilon), shape)
    return y * w(f"{name}.weight") + w(f"{name}.bias")


def instance_norm(w: Weights, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + epsilon) * w(f"{name}.weight") + w(f"{name}.bias")


def channels_last(x: Tensor) -> Tensor:
    return tf.transpose(x, [0, *range(2, len(x.shape)), 1])


def channels_first(x: Tensor) -> Tensor:
    return tf.transpose(x, [0, len(x.shape) - 1, *range(1, len(x.shape) - 1)])
