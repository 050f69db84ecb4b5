"""Detection: the choice among overlapping boxes."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering

Scalar = int | float | tuple[int, ...] | tuple[float, ...]


@lowering("NonMaxSuppression", const=("max_output_boxes_per_class", "iou_threshold", "score_threshold"))
def non_max_suppression(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    max_output_boxes_per_class: Scalar | tf.Tensor | None = None,
    iou_threshold: Scalar | tf.Tensor | None = None,
    score_threshold: Scalar | tf.Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> tf.Tensor:
    """The (batch, class, box) of the boxes that overlap with none of a higher score in their class.

    Boxes are (N, boxes, 4), scores (N, classes, boxes). Of equal scores the first comes first; an
    overlap of exactly the threshold is none.
    """
    limit = tf.cast(first_number(max_output_boxes_per_class, 0), tf.int64)
    limit = tf.minimum(limit, tf.shape(boxes, tf.int64)[1])
    most_overlap = tf.cast(first_number(iou_threshold, 0.0), boxes.dtype)
    first, second = boxes[..., :2], boxes[..., 2:]
    if center_point_box:
        low, high = first - second / 2, first + second / 2
    else:
        low, high = tf.minimum(first, second), tf.maximum(first, second)
    area = tf.reduce_prod(high - low, -1)
    left = tf.ones_like(scores, tf.bool)
    if score_threshold is not None:
        left = scores > tf.cast(first_number(score_threshold, 0.0), scores.dtype)

    def keep_best(
        step: tf.Tensor, left: tf.Tensor, picks: tf.TensorArray, found: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
        best = tf.reduce_max(tf.where(left, scores, tf.as_dtype(scores.dtype).min), -1, keepdims=True)
        pick = tf.argmax(tf.cast((scores == best) & left, tf.int8), -1)
        kept_low, kept_high = (tf.gather(each, pick, batch_dims=1)[:, :, tf.newaxis] for each in (low, high))
        kept_area = tf.gather(area, pick, batch_dims=1)[:, :, tf.newaxis]
        all_low, all_high, all_area = low[:, tf.newaxis], high[:, tf.newaxis], area[:, tf.newaxis]
        shared = tf.minimum(all_high, kept_high) - tf.maximum(all_low, kept_low)
        common = tf.reduce_prod(tf.maximum(shared, 0), -1)
        ratio = common / (all_area + kept_area - common)
        overlaps = (common > 0) & (all_area > 0) & (kept_area > 0) & (ratio > most_overlap)
        picks, found = picks.write(step, pick), found.write(step, tf.reduce_any(left, -1))
        left = left & ~overlaps & ~tf.one_hot(pick, tf.shape(scores)[2], True, False)
        return step + 1, left, picks, found

    shape = tf.TensorShape(scores.shape[:2])
    picks = tf.TensorArray(tf.int64, 0, dynamic_size=True, element_shape=shape)
    found = tf.TensorArray(tf.bool, 0, dynamic_size=True, element_shape=shape)
    _, _, picks, found = tf.while_loop(
        lambda step, left, picks, found: (tf.cast(step, tf.int64) < limit) & tf.reduce_any(left),
        keep_best,
        (tf.constant(0), left, picks, found),
    )
    chosen = tf.where(tf.transpose(found.stack(), (1, 2, 0)))
    boxes_kept = tf.gather_nd(tf.transpose(picks.stack(), (1, 2, 0)), chosen)
    return tf.concat([chosen[:, :2], boxes_kept[:, tf.newaxis]], 1)


def first_number(value: Scalar | tf.Tensor | None, default: float) -> float | tf.Tensor:
    """The number of an input that is a scalar or a vector of one; the default where it is absent or empty."""
    if value is None:
        return default
    if isinstance(value, tuple):
        return value[0] if value else default
    return value if isinstance(value, int | float) else tf.reshape(value, (-1,))[0]
