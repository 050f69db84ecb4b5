"""Attention and projections of Keras layers as ONNX's operators, while a model is traced.

Written for Keras 3.15, like `hooks`, which installs these.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from keras.src import layers, ops

from bridge_converters.tf_to_onnx.markers import mark

DROPOUT = "dropout"
"""An attribute of the marker that is none of the operator's: the ratio of dropped weights in training."""

VERSION = 23
"""The opset that has Attention and RMSNormalization first."""

_HIDDEN = -0.7 * 3.38953e38
"""What Keras' fused attention writes over masked scores in float32: a row without keys weighs all alike."""


def attend(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    mask: tf.Tensor | None,
    *,
    scale: float,
    dropout: float,
    causal: bool,
) -> tf.Tensor | None:
    """Attention of (batch, length, heads, size); keys and values may have fewer heads, which are shared.

    None where the operator does not say what Keras computes: other ranks and types.
    """
    given = (query, key, value)
    if any(each.shape.rank != 4 or each.dtype != tf.float32 for each in given):
        return None
    if any(each.shape[axis] is None for each in given for axis in (2, 3)):
        return None
    heads, shared = query.shape[2], key.shape[2]
    if heads % shared or value.shape[2] != shared:
        return None
    inputs = [tf.transpose(each, [0, 2, 1, 3]) for each in given]
    if mask is not None:
        inputs.append(_mask(mask, zeroed=dropout > 0.0))
    attributes: dict[str, Any] = {DROPOUT: float(dropout)}
    if not math.isclose(scale, query.shape[3] ** -0.5, rel_tol=1e-7):
        attributes["scale"] = float(scale)
    if causal:
        attributes["is_causal"] = 1
    shape = tf.TensorShape([*inputs[0].shape[:3], value.shape[3]])
    result = mark("Attention", inputs, shape=shape, dtype=query.dtype, attributes=attributes)
    return tf.transpose(result, [0, 2, 1, 3])


def _mask(mask: tf.Tensor, *, zeroed: bool) -> tf.Tensor:
    """A mask of 2 to 4 axes as the operator takes it.

    A row that hides every key is `zeroed` where Keras computes weights to drop some, as the operator's
    boolean masks do; Keras' fused form weighs all keys alike there, as numbers to add do.
    """
    mask = tf.convert_to_tensor(mask)
    if mask.dtype != tf.bool:
        mask = mask > tf.cast(0.5, mask.dtype) if zeroed else tf.cast(mask, tf.bool)
    while mask.shape.rank < 4:
        mask = tf.expand_dims(mask, -3)
    return mask if zeroed else tf.where(mask, tf.constant(0.0), tf.constant(_HIDDEN))


def attend_at_once(
    layer: layers.Attention,
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    present: tf.Tensor | None,
    *,
    causal: bool,
) -> tf.Tensor | None:
    """Attention of (batch, length, size) without heads; `present` (batch, keys) says which keys there are.

    None for scores that are no products, other ranks and types, and where `present` and `causal` may hide all
    keys of a row together.
    """
    given = (query, key, value)
    products = (
        layer.score_mode == "dot" and type(layer)._calculate_scores is layers.Attention._calculate_scores
    )
    if not products or any(each.shape.rank != 3 or each.dtype != tf.float32 for each in given):
        return None
    if causal and present is not None:
        return None
    if layer.scale is not None:
        query = query * layer.scale
    inputs = [tf.expand_dims(each, 1) for each in (query, key, value)]
    if present is not None:
        added = tf.where(present, tf.constant(0.0), tf.constant(-1.0e9))
        inputs.append(added[:, tf.newaxis, tf.newaxis])
    attributes: dict[str, Any] = {"scale": 1.0, DROPOUT: float(layer.dropout)}
    if causal:
        attributes["is_causal"] = 1
    shape = tf.TensorShape([*inputs[0].shape[:3], value.shape[2]])
    result = mark("Attention", inputs, shape=shape, dtype=query.dtype, attributes=attributes)
    return tf.squeeze(result, 1)


def project(layer: layers.EinsumDense, inputs: tf.Tensor) -> tf.Tensor | None:
    """An EinsumDense over an input's last axes as the product of matrices that it is.

    None for other equations, and where the bias does not follow all new axes.
    """
    if type(layer).call is not layers.EinsumDense.call or layer.lora_enabled or layer.quantization_mode:
        return None
    axes = _new_axes(layer.equation)
    kernel = tf.convert_to_tensor(layer.kernel)
    if axes is None or inputs.dtype != kernel.dtype or inputs.shape.rank is None:
        return None
    contracted, sizes = kernel.shape[: len(kernel.shape) - axes], kernel.shape[len(kernel.shape) - axes :]
    bias = layer.bias
    if bias is not None and tuple(bias.shape) != tuple(sizes):
        return None
    kept = inputs.shape.rank - len(contracted)
    if kept < 1 or tuple(inputs.shape[kept:]) != tuple(contracted):
        return None
    if len(contracted) > 1:
        inputs = _reshaped(inputs, kept, [contracted.num_elements()])
    if len(kernel.shape) > 2:
        kernel = tf.reshape(kernel, [contracted.num_elements(), sizes.num_elements()])
    result = tf.matmul(inputs, kernel)
    if bias is not None:
        result = result + tf.reshape(tf.convert_to_tensor(bias), [-1])
    if len(sizes) > 1:
        result = _reshaped(result, kept, list(sizes))
    return result if layer.activation is None else layer.activation(result)


def _reshaped(x: tf.Tensor, kept: int, sizes: list[int]) -> tf.Tensor:
    """x with the axes after the first `kept` ones replaced."""
    result = tf.reshape(x, tf.concat([tf.shape(x)[:kept], sizes], 0))
    return tf.ensure_shape(result, [*x.shape[:kept], *sizes])


def _new_axes(equation: str) -> int | None:
    """How many axes of a kernel are new in the result, if the others are the input's last, in their order."""
    operands, _, result = equation.replace(" ", "").replace("...", ".").partition("->")
    given, _, kernel = operands.partition(",")
    contracted = [label for label in kernel if label in given]
    new = kernel[len(contracted) :]
    batch = given[: len(given) - len(contracted)]
    if not contracted or not new or len({*given}) != len(given) or len({*kernel}) != len(kernel):
        return None
    fits = given == batch + "".join(contracted) and kernel == "".join(contracted) + new
    return len(new) if fits and result == batch + new else None


def repeated(layer: layers.GroupedQueryAttention, keys: tf.Tensor) -> tf.Tensor:
    """Keys or values with a head for every head of the queries."""
    times = layer.num_query_heads // keys.shape[2]
    return keys if times == 1 else ops.repeat(keys, times, axis=2)
