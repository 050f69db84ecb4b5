"""Recurrent networks, and a bag of embeddings."""

from __future__ import annotations

import keras
import tensorflow as tf

from scripts.proof.pairs.tf_models.keras_weights import with_weights
from scripts.proof.pairs.tf_models.layers import Tensor, dense, layer_norm
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("embedding_classifier")
def embedding_classifier(w: Weights, tokens: Tensor, mask: Tensor) -> Tensor:
    x = tf.nn.embedding_lookup(w("embed.weight"), tokens) * mask[:, :, tf.newaxis]
    x = tf.reduce_sum(x, 1) / tf.maximum(tf.reduce_sum(mask, 1, keepdims=True), 1.0)
    return dense(w, "out", tf.nn.relu(layer_norm(w, "norm", dense(w, "fc", x))))


@tf_model("lstm")
def lstm(w: Weights) -> keras.Model:
    inputs = keras.Input((9, 8), name="x")
    x = keras.layers.LSTM(10, return_sequences=True, name="lstm")(inputs)
    return with_weights(keras.Model(inputs, keras.layers.Dense(3, name="fc")(x)), w)


@tf_model("gru")
def gru(w: Weights, x: Tensor) -> Tensor:
    """The recurrence as a loop over time."""
    projected = tf.tensordot(x, w.dense("gru.weight_ih_l0"), 1) + w("gru.bias_ih_l0")
    recurrent = w.dense("gru.weight_hh_l0")

    def step(time: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        reset_in, update_in, new_in = tf.split(projected[:, time], 3, axis=-1)
        gates = tf.matmul(state, recurrent) + w("gru.bias_hh_l0")
        reset_state, update_state, new_state = tf.split(gates, 3, axis=-1)
        reset = tf.sigmoid(reset_in + reset_state)
        update = tf.sigmoid(update_in + update_state)
        new = tf.tanh(new_in + reset * new_state)
        return time + 1, update * state + (1.0 - update) * new

    start = tf.zeros([tf.shape(x)[0], 10])
    _, state = tf.while_loop(lambda time, state: time < 7, step, [tf.constant(0), start])
    return dense(w, "fc", tf.tanh(state))
