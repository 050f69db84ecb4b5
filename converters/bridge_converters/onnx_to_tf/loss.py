"""Losses of classification."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering


@lowering("NegativeLogLikelihoodLoss")
def nll_loss(
    x: tf.Tensor,
    target: tf.Tensor,
    weight: tf.Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tf.Tensor:
    """Minus the log-probabilities x (N, C, ...) of the target classes (N, ...)."""
    counts = tf.ones_like(target, tf.bool) if ignore_index is None else target != ignore_index
    classes = tf.where(counts, target, tf.zeros_like(target))
    by_place = tf.transpose(x, (0, *range(2, x.ndim), 1))
    loss = -tf.gather(by_place, classes, batch_dims=x.ndim - 1)
    factor = tf.ones_like(loss) if weight is None else tf.gather(weight, classes)
    factor = tf.where(counts, factor, tf.zeros_like(factor))
    loss = tf.where(counts, loss * factor, tf.zeros_like(loss))
    if reduction == "none":
        return loss
    if reduction == "sum":
        return tf.reduce_sum(loss)
    return tf.reduce_sum(loss) / tf.reduce_sum(factor)


@lowering("SoftmaxCrossEntropyLoss")
def cross_entropy_loss(
    scores: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    outputs: int = 1,
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """The cross entropy of the classes' scores (N, C, ...) at the labels (N, ...), and log-probabilities."""
    log_prob = tf.nn.log_softmax(scores, 1)
    loss = nll_loss(log_prob, labels, weights, ignore_index=ignore_index, reduction=reduction)
    return loss if outputs == 1 else (loss, log_prob)
