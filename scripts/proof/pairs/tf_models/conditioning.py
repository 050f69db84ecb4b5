"""Networks that pass rounding on and amplify it."""

from __future__ import annotations

import tensorflow as tf

from scripts.proof.pairs.tf_models.layers import Tensor, dense
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


@tf_model("deep_plain")
def deep_plain(w: Weights, x: Tensor) -> Tensor:
    for index in range(40):
        x = tf.nn.leaky_relu(dense(w, f"layers.{index}", x), 0.3)
    return dense(w, "out", x)


@tf_model("exp_sums")
def exp_sums(w: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    energy = 10.0 * tf.tanh(dense(w, "energy", x) / 10.0)
    sums = tf.reduce_sum(tf.exp(energy), -1)
    return sums, tf.reduce_logsumexp(dense(w, "mixture", energy), -1)
