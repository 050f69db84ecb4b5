"""Attention and mixing over tokens."""

from __future__ import annotations

import math

import tensorflow as tf

from scripts.proof.pairs.tf_models.layers import Tensor, layer_norm
from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return tf.tensordot(x, w.dense(f"{name}.weight"), 1) + w(f"{name}.bias")


def attention(w: Weights, name: str, x: Tensor, heads: int, *, causal: bool) -> Tensor:
    length, width = x.shape[1], x.shape[2]
    qkv = tf.reshape(linear(w, f"{name}.qkv", x), [-1, length, 3, heads, width // heads])
    q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
    scores = tf.matmul(q, k, transpose_b=True) / math.sqrt(width // heads)
    if causal:
        seen = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
        scores = tf.where(seen, scores, -1e9)
    y = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3])
    return linear(w, f"{name}.proj", tf.reshape(y, [-1, length, width]))


def block(w: Weights, prefix: str, x: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    y = layer_norm(w, f"{prefix}norm1", x)
    x = x + attention(w, f"{prefix}attention", y, heads, causal=causal)
    y = layer_norm(w, f"{prefix}norm2", x, 1e-6)
    return x + linear(w, f"{prefix}fc2", tf.nn.gelu(linear(w, f"{prefix}fc1", y), approximate=False))


@tf_model("transformer_block")
def transformer_block(w: Weights, x: Tensor) -> Tensor:
    return block(w, "", x, 4)


@tf_model("attention_pooling")
def attention_pooling(w: Weights, x: Tensor) -> Tensor:
    scores = tf.linalg.matvec(tf.tanh(linear(w, "key", x)), w("query")) / math.sqrt(12.0)
    weights = tf.nn.softmax(scores, axis=1)
    return linear(w, "out", tf.einsum("bt,btc->bc", weights, linear(w, "value", x)))


@tf_model("causal_decoder")
def causal_decoder(w: Weights, tokens: Tensor) -> Tensor:
    x = tf.gather(w("embed.weight"), tokens) + w("position")
    for index in range(2):
        x = block(w, f"blocks.{index}.", x, 2, causal=True)
    return tf.einsum("btc,vc->btv", layer_norm(w, "norm", x), w("embed.weight"))


@tf_model("einsum_mixer")
def einsum_mixer(w: Weights, x: Tensor) -> Tensor:
    y = tf.matmul(layer_norm(w, "norm1", x), w("tokens_in"), transpose_a=True)
    y = tf.nn.gelu(y, approximate=False)
    x = x + tf.transpose(tf.matmul(y, w("tokens_out")), [0, 2, 1])
    return tf.einsum("btc,hcd->bhtd", layer_norm(w, "norm2", x), w("channels"))
