"""The TensorFlow models that bridge converts to PyTorch, to plant faults in the conversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def autoencoder() -> Any:
    """A convolutional variational autoencoder: reconstruction, mean and log variance."""
    image = keras.Input((12, 8, 3), name="image")
    y = layers.Conv2D(8, 3, strides=2, padding="same", name="encode1")(image)
    y = layers.BatchNormalization(name="encode_norm")(y)
    y = layers.LeakyReLU(0.1, name="encode_act")(y)
    y = layers.Conv2D(8, 3, padding="same", activation="gelu", name="encode2")(y)
    y = layers.Flatten(name="flatten")(y)
    y = layers.Dropout(0.25, name="dropout")(y)
    mean = layers.Dense(6, name="mean")(y)
    variance = layers.Dense(6, name="variance")(y)
    z = layers.Dense(6 * 4 * 4, activation="relu", name="decode")(mean)
    z = layers.Reshape((6, 4, 4), name="shape")(z)
    z = layers.UpSampling2D(2, interpolation="bilinear", name="up")(z)
    z = layers.Conv2D(3, 3, padding="same", activation="sigmoid", name="out")(z)
    return keras.Model(image, [mean, variance, z], name="autoencoder")


def mobile() -> Any:
    """Depthwise, dilated and grouped convolutions with ReLU6."""
    image = keras.Input((14, 11, 3), name="image")
    y = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    y = layers.BatchNormalization(name="stem_norm")(y)
    y = layers.ReLU(6.0, name="stem_relu")(y)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(y)
    y = layers.BatchNormalization(momentum=0.9, name="depthwise_norm")(y)
    y = layers.ReLU(6.0, name="depthwise_relu")(y)
    y = layers.Conv2D(8, 3, padding="same", dilation_rate=(1, 2), activation="relu", name="dilated")(y)
    y = layers.AveragePooling2D(3, 2, padding="same", name="average")(y)
    y = layers.Conv2D(12, 1, activation="relu", name="point")(y)
    y = layers.GlobalAveragePooling2D(name="pool")(y)
    y = layers.Dropout(0.2, name="dropout")(y)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="head")(y), name="mobile")


def text() -> Any:
    """An encoder block over token ids with two outputs."""
    ids = keras.Input((8,), dtype="int64", name="ids")
    y = layers.Embedding(50, 16, name="embedding")(ids)
    z = layers.MultiHeadAttention(2, 8, name="attention")(y, y)
    y = layers.LayerNormalization(epsilon=1e-5, name="norm1")(layers.Add(name="add1")([y, z]))
    z = layers.Dense(32, activation="gelu", name="wide")(y)
    z = layers.Dropout(0.1, name="dropout")(layers.Dense(16, name="narrow")(z))
    y = layers.LayerNormalization(epsilon=1e-5, name="norm2")(layers.Add(name="add2")([y, z]))
    pooled = layers.GlobalAveragePooling1D(name="pool")(y)
    first, second = layers.Dense(3, name="first")(pooled), layers.Dense(3, name="second")(pooled)
    return keras.Model(ids, [first, second], name="text")


class Arithmetic(tf.Module):  # type: ignore[misc]
    """Integers, bounds, rounding, and NaN where the input is negative."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(5)
        self.kernel = tf.Variable(generator.standard_normal((6, 6)).astype(np.float32), name="kernel")
        self.bias = tf.Variable(generator.standard_normal(6).astype(np.float32), name="bias")

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 6), name="x"),
            tf.TensorSpec((None, 5), tf.int64, name="numbers"),
        ]
    )  # type: ignore[untyped-decorator]
    def __call__(self, x: Any, numbers: Any) -> dict[str, Any]:
        y = tf.nn.bias_add(tf.matmul(x, self.kernel), self.bias)
        clipped = tf.clip_by_value(y, -1.5, 1.5)
        logs = tf.clip_by_value(tf.math.log(y), -2.0, 2.0)
        choice = tf.argmax(clipped + tf.round(x), -1)
        groups = tf.truncatediv(numbers, 3) + 2 * numbers
        return {"clipped": tf.nn.softmax(clipped), "logs": logs, "choice": choice, "groups": groups}


MODELS: Mapping[str, Callable[[], Any]] = {
    "autoencoder_converted": autoencoder,
    "mobile_keras": mobile,
    "text": text,
    "arithmetic_converted": Arithmetic,
}


def save(name: str, path: Path) -> None:
    """Write a model as `.keras`, or as a SavedModel where it is no Keras model; weights are seeded."""
    keras.utils.set_random_seed(sum(map(ord, name)))
    model = MODELS[name]()
    if isinstance(model, tf.Module) and not isinstance(model, keras.Model):
        tf.saved_model.save(model, str(path), signatures=model.__call__)
        return
    generator = np.random.default_rng(sum(map(ord, name)))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            scale, shift, mean, variance = (each.shape for each in layer.get_weights())
            layer.set_weights(
                [
                    1 + 0.1 * generator.standard_normal(scale),
                    0.1 * generator.standard_normal(shift),
                    0.3 * generator.standard_normal(mean),
                    np.exp(0.4 * generator.standard_normal(variance)),
                ]
            )
        elif isinstance(layer, layers.Dense | layers.Conv2D):
            weights = layer.get_weights()
            if len(weights) == 2:
                layer.set_weights([weights[0], 0.2 * generator.standard_normal(weights[1].shape)])
    model.save(path)
