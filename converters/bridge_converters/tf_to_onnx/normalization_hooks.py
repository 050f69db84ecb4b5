"""Keras' normalisations of axes as markers, between transposes where the axes are not the last ones."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from bridge_converters.tf_to_onnx.markers import mark


def normalized_axes(x: tf.Tensor, axis: int | Sequence[int]) -> list[int] | None:
    """The axes as sorted positions; None if one is the batch or of unknown size."""
    rank = x.shape.rank
    if rank is None:
        return None
    axes = sorted(each % rank for each in ([axis] if isinstance(axis, int) else axis))
    if not axes or 0 in axes or any(x.shape[each] is None for each in axes):
        return None
    return axes


def normalize(
    operator: str,
    x: tf.Tensor,
    axes: Sequence[int],
    gamma: tf.Tensor | None,
    beta: tf.Tensor | None,
    epsilon: float | None,
) -> tf.Tensor:
    """LayerNormalization or RMSNormalization over axes of known sizes."""
    rank = x.shape.rank
    sizes = [x.shape[each] for each in axes]
    scale = tf.ones(sizes, x.dtype) if gamma is None else tf.convert_to_tensor(gamma, x.dtype)
    inputs = [scale if scale.shape == sizes else tf.reshape(scale, sizes)]
    if beta is not None:
        inputs.append(tf.reshape(tf.convert_to_tensor(beta, x.dtype), sizes))
    perm = [*(each for each in range(rank) if each not in axes), *axes]
    moved = x if perm == sorted(perm) else tf.transpose(x, perm)
    result = mark(
        operator,
        [moved, *inputs],
        shape=moved.shape,
        dtype=x.dtype,
        attributes={
            "axis": -len(axes),
            "epsilon": float(keras.backend.epsilon() if epsilon is None else epsilon),
        },
    )
    return result if moved is x else tf.transpose(result, [perm.index(each) for each in range(rank)])
