"""Convolutions over one axis and over three."""

from __future__ import annotations

import tensorflow as tf

from scripts.proof.pairs.tf_models.layers import Tensor, batch_norm, channels_last, conv, dense
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("causal_conv1d")
def causal_conv1d(w: Weights, x: Tensor) -> Tensor:
    def conv1d(name: str, x: Tensor, rate: int = 1) -> Tensor:
        return tf.nn.conv1d(x, w.conv(f"{name}.weight"), 1, "VALID", dilations=rate) + w(f"{name}.bias")

    x = conv1d("stem", x)
    for index, rate in enumerate((1, 2, 4)):
        past = tf.pad(x, [[0, 0], [rate, 0], [0, 0]])
        gate = tf.sigmoid(conv1d(f"gates.{index}", past, rate))
        x = x + tf.tanh(conv1d(f"filters.{index}", past, rate)) * gate
    return conv1d("out", tf.nn.relu(x))


@tf_model("conv3d")
def conv3d(w: Weights, x: Tensor) -> Tensor:
    x = tf.nn.elu(batch_norm(w, "bn", conv(w, "conv1", channels_last(x), padding=1)))
    x = tf.nn.max_pool3d(x, [1, 2, 1, 1, 1], [1, 2, 1, 1, 1], "VALID")
    x = tf.nn.elu(conv(w, "conv2", x, strides=(1, 2, 2), padding=(0, 1, 1)))
    return dense(w, "fc", tf.reduce_mean(x, [1, 2, 3]))
