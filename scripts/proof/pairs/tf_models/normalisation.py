"""Normalisations where rounding is amplified."""

from __future__ import annotations

import tensorflow as tf

from scripts.proof.pairs.tf_models.layers import (
    Tensor,
    batch_norm,
    channels_first,
    channels_last,
    conv,
    dense,
    group_norm,
    instance_norm,
    layer_norm,
)
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("group_instance_norm")
def group_instance_norm(w: Weights, x: Tensor) -> Tensor:
    x = conv(w, "conv", channels_last(x), padding=1)
    x = instance_norm(w, "instance", group_norm(w, "group", x, 2))
    return channels_first(conv(w, "out", tf.nn.relu(x), padding=1))


@tf_model("large_bias_norm")
def large_bias_norm(w: Weights, x: Tensor) -> Tensor:
    x = tf.nn.relu(layer_norm(w, "norm1", dense(w, "fc1", x)))
    return dense(w, "fc3", tf.tanh(batch_norm(w, "norm2", dense(w, "fc2", x))))


@tf_model("variance_cancellation")
def variance_cancellation(w: Weights, x: Tensor) -> Tensor:
    x = dense(w, "fc1", x)
    mean = tf.reduce_mean(x, 1, keepdims=True)
    variance = tf.reduce_mean(tf.square(x), 1, keepdims=True) - tf.square(mean)
    return dense(w, "fc2", (x - mean) * tf.math.rsqrt(variance + 1e-3))
