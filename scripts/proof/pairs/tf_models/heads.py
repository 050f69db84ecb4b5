"""Heads: several outputs, probabilities, distances, indices."""

from __future__ import annotations

import tensorflow as tf

from scripts.proof.pairs.tf_models.layers import Tensor, dense
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("several_outputs")
def several_outputs(w: Weights, x: Tensor) -> dict[str, Tensor]:
    x = tf.nn.relu(dense(w, "trunk", x))
    scores = dense(w, "classes", x)
    return {"boxes": dense(w, "boxes", x), "label": tf.argmax(scores, -1), "scores": scores}


@tf_model("softmax_heads")
def softmax_heads(w: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    x = tf.tanh(dense(w, "trunk", x))
    return tf.nn.softmax(dense(w, "coarse", x)), tf.nn.log_softmax(dense(w, "fine", x))


@tf_model("rbf_cosine")
def rbf_cosine(w: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    x = dense(w, "fc", x)
    squared = tf.reduce_sum(tf.math.squared_difference(x[:, tf.newaxis, :], w("centres")), -1)
    near = tf.exp(-squared * tf.exp(w("log_width")))
    unit = tf.math.l2_normalize(x, -1)
    return near, tf.matmul(unit, tf.math.l2_normalize(w("prototypes"), -1), transpose_b=True)


@tf_model("indexing")
def indexing(w: Weights, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scores = tf.squeeze(tf.tensordot(x, w.dense("score.weight"), 1) + w("score.bias"), -1)
    best, index = tf.math.top_k(scores, 4)
    values = tf.tensordot(x, w.dense("fc.weight"), 1) + w("fc.bias")
    chosen = tf.gather(values, index, axis=1, batch_dims=1)
    return tf.cumsum(chosen, axis=1), tf.sigmoid(best), tf.cast(index, tf.int64)
