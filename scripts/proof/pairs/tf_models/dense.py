"""Networks of fully connected layers."""

from __future__ import annotations

import keras
import tensorflow as tf

from scripts.proof.pairs.tf_models.keras_weights import with_weights
from scripts.proof.pairs.tf_models.layers import Tensor, batch_norm, dense
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("mlp")
def mlp(w: Weights, x: Tensor) -> Tensor:
    x = tf.nn.relu(batch_norm(w, "bn", dense(w, "fc1", x)))
    return dense(w, "fc3", tf.tanh(dense(w, "fc2", x)), bias=False)


@tf_model("activations")
def activations(w: Weights, x: Tensor) -> Tensor:
    a, b, c, d, e, f, g = tf.split(dense(w, "inner", x), 7, axis=-1)
    parts = [
        tf.sigmoid(a),
        tf.tanh(b),
        tf.math.softplus(c),
        tf.where(d > 0, d, 0.7 * tf.math.expm1(tf.minimum(d, 0.0))),
        e * tf.nn.relu6(e + 3.0) / 6.0,
        tf.nn.leaky_relu(f, 0.1),
        tf.nn.silu(g),
    ]
    return dense(w, "outer", tf.concat(parts, -1))


@tf_model("autoencoder")
def autoencoder(w: Weights) -> keras.Model:
    layers, gelu = keras.layers, keras.ops.gelu
    inputs = keras.Input((32,), name="x")
    x = gelu(layers.Dense(20, name="encoder_0")(inputs), approximate=False)
    x = layers.LayerNormalization(epsilon=1e-5, name="encoder_2")(x)
    x = layers.Dense(6, activation="tanh", name="encoder_3")(x)
    x = gelu(layers.Dense(20, name="decoder_0")(x), approximate=True)
    return with_weights(keras.Model(inputs, layers.Dense(32, name="decoder_2")(x)), w)


@tf_model("siamese")
def siamese(w: Weights, left: Tensor, right: Tensor) -> Tensor:
    def tower(x: Tensor) -> Tensor:
        return dense(w, "tower.2", tf.nn.relu(dense(w, "tower.0", x)))

    a, b = tower(left), tower(right)
    distance = tf.sqrt(tf.reduce_sum(tf.math.squared_difference(a, b), axis=1, keepdims=True) + 1e-6)
    return tf.sigmoid(dense(w, "head", tf.concat([tf.abs(a - b), a * b, distance], axis=1)))


def rms_norm(w: Weights, name: str, x: Tensor, epsilon: float = 1e-6) -> Tensor:
    mean_square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
    return x / tf.sqrt(mean_square + epsilon) * w(f"{name}.weight")


@tf_model("swiglu_rmsnorm")
def swiglu_rmsnorm(w: Weights, x: Tensor) -> Tensor:
    y = rms_norm(w, "norm", x)
    y = tf.nn.silu(linear(w, "gate", y)) * linear(w, "up", y)
    return rms_norm(w, "final", x + linear(w, "down", y))


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return tf.einsum("...i,io->...o", x, w.dense(f"{name}.weight"))
