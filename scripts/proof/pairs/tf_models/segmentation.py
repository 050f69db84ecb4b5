"""Networks that make images."""

from __future__ import annotations

import tensorflow as tf

from scripts.proof.pairs.tf_models.layers import (
    Tensor,
    batch_norm,
    channels_first,
    channels_last,
    conv,
    conv_transpose,
    dense,
)
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("transposed_conv")
def transposed_conv(w: Weights, x: Tensor) -> Tensor:
    x = tf.reshape(tf.nn.relu(dense(w, "fc", x)), [-1, 16, 4, 4])
    x = batch_norm(w, "bn", conv_transpose(w, "up1", channels_last(x), stride=2, padding=1))
    return channels_first(tf.tanh(conv_transpose(w, "up2", tf.nn.leaky_relu(x, 0.2), stride=2)))


@tf_model("unet")
def unet(w: Weights, x: Tensor) -> Tensor:
    def double(name: str, x: Tensor) -> Tensor:
        for index in (0, 3):
            x = conv(w, f"{name}.{index}", x, padding=1, bias=False)
            x = tf.nn.relu(batch_norm(w, f"{name}.{index + 1}", x))
        return x

    def halved(x: Tensor) -> Tensor:
        return tf.nn.max_pool2d(x, 2, 2, "VALID")

    a = double("down1", channels_last(x))
    b = double("down2", halved(a))
    c = double("bottom", halved(b))
    b = double("merge2", tf.concat([b, conv_transpose(w, "up2", c, stride=2)], -1))
    a = double("merge1", tf.concat([a, conv_transpose(w, "up1", b, stride=2)], -1))
    return channels_first(conv(w, "out", a))


@tf_model("resize_shuffle")
def resize_shuffle(w: Weights, x: Tensor) -> Tensor:
    x = channels_last(x)
    smooth = tf.image.resize(x, [32, 32], "bilinear")
    y = tf.nn.relu(conv(w, "conv", x, padding=1))
    # PyTorch has the channel before the place within the block, depth_to_space the other way round.
    y = tf.reshape(tf.transpose(tf.reshape(y, [-1, 16, 16, 3, 4]), [0, 1, 2, 4, 3]), [-1, 16, 16, 12])
    sharp = tf.nn.depth_to_space(y, 2)
    return channels_first(conv(w, "out", tf.concat([smooth, sharp], -1), padding=1))
