"""Convolutional classifiers and blocks."""

from __future__ import annotations

import keras
import tensorflow as tf

from scripts.proof.pairs.tf_models.keras_weights import with_weights
from scripts.proof.pairs.tf_models.layers import (
    Tensor,
    batch_norm,
    channels_first,
    channels_last,
    conv,
    dense,
)
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("lenet")
def lenet(w: Weights) -> keras.Model:
    layers = keras.layers
    inputs = keras.Input((28, 28, 1), name="x")
    x = layers.Conv2D(6, 5, padding="same", activation="tanh", name="conv1")(inputs)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(16, 5, activation="relu", name="conv2")(x)
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Dense(40, activation="tanh", name="fc1")(x)
    x = layers.Dense(30, activation="tanh", name="fc2")(x)
    return with_weights(keras.Model(inputs, layers.Dense(10, name="fc3")(x)), w)


@tf_model("vgg")
def vgg(w: Weights, x: Tensor) -> Tensor:
    x = channels_last(x)
    for stage in range(3):
        first = 6 * stage
        x = batch_norm(w, f"features.{first + 1}", conv(w, f"features.{first}", x, padding=1))
        x = tf.nn.relu(conv(w, f"features.{first + 3}", tf.nn.relu(x), padding=1))
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.reshape(channels_first(x), [-1, 96])
    return dense(w, "classifier.3", tf.nn.relu(dense(w, "classifier.0", x)))


@tf_model("resnet_stack")
def resnet_stack(w: Weights, x: Tensor) -> Tensor:
    def block(name: str, x: Tensor, stride: int, *, project: bool) -> Tensor:
        y = conv(w, f"{name}.conv1", x, strides=stride, padding=1, bias=False)
        y = tf.nn.relu(batch_norm(w, f"{name}.bn1", y))
        y = batch_norm(w, f"{name}.bn2", conv(w, f"{name}.conv2", y, padding=1, bias=False))
        if project:
            x = conv(w, f"{name}.shortcut.0", x, strides=stride, bias=False)
            x = batch_norm(w, f"{name}.shortcut.1", x)
        return tf.nn.relu(y + x)

    x = channels_last(x)
    x = tf.nn.relu(batch_norm(w, "bn", conv(w, "stem", x, strides=2, padding=3, bias=False)))
    x = tf.nn.max_pool2d(x, 3, 2, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = block("blocks.0", x, 1, project=False)
    x = block("blocks.1", x, 2, project=True)
    x = block("blocks.2", x, 2, project=True)
    return dense(w, "fc", tf.reduce_mean(x, [1, 2]))


@tf_model("mobilenet_block")
def mobilenet_block(w: Weights) -> keras.Model:
    layers = keras.layers

    def normalised(name: str, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)(x)

    inputs = keras.Input((16, 16, 3), name="x")
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(6.0)(normalised("stem_bn", x))
    y = layers.Conv2D(24, 1, use_bias=False, name="expand")(x)
    y = layers.ReLU(6.0)(normalised("expand_bn", y))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(y)
    y = layers.ReLU(6.0)(normalised("depthwise_bn", y))
    y = normalised("project_bn", layers.Conv2D(8, 1, use_bias=False, name="project")(y))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return with_weights(keras.Model(inputs, layers.Dense(6, name="fc")(x)), w)


@tf_model("squeeze_excite")
def squeeze_excite(w: Weights, x: Tensor) -> Tensor:
    x = tf.nn.silu(batch_norm(w, "bn", conv(w, "conv", x, padding=1)))
    gate = tf.reduce_mean(x, [1, 2], keepdims=True)
    gate = conv(w, "expand", tf.nn.silu(conv(w, "reduce", gate)))
    return conv(w, "out", x * tf.sigmoid(gate))


@tf_model("dilated")
def dilated(w: Weights, x: Tensor) -> Tensor:
    x = tf.nn.relu(conv(w, "stem", channels_last(x), padding=1))
    parts = [
        conv(w, f"branches.{index}", x, padding=rate, dilations=rate) for index, rate in enumerate((1, 2, 4))
    ]
    parts.append(conv(w, "uneven", x, padding=(2, 2), dilations=(2, 1)))
    return channels_first(conv(w, "out", tf.nn.relu(tf.concat(parts, -1))))
