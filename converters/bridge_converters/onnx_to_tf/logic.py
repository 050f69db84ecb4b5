"""Comparison, logic and bits."""

from __future__ import annotations

import math

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering


@lowering("And")
def and_(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Whether both hold."""
    return x & y


@lowering("Or")
def or_(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Whether either holds."""
    return x | y


@lowering("Xor")
def xor(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Whether exactly one holds."""
    return x ^ y


@lowering("Equal")
def equal(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x == y."""
    return x == y


@lowering("Greater")
def greater(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x > y."""
    return x > y


@lowering("GreaterOrEqual")
def greater_or_equal(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x >= y."""
    return x >= y


@lowering("Less")
def less(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x < y."""
    return x < y


@lowering("LessOrEqual")
def less_or_equal(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x <= y."""
    return x <= y


@lowering("BitwiseAnd")
def bitwise_and(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x & y, bit by bit."""
    return x & y


@lowering("BitwiseOr")
def bitwise_or(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x | y, bit by bit."""
    return x | y


@lowering("BitwiseXor")
def bitwise_xor(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x ^ y, bit by bit."""
    return x ^ y


@lowering("Not")
def not_(x: tf.Tensor) -> tf.Tensor:
    """Whether it does not hold."""
    return ~x


@lowering("BitwiseNot")
def bitwise_not(x: tf.Tensor) -> tf.Tensor:
    """All bits flipped."""
    return ~x


@lowering("IsNaN")
def is_nan(x: tf.Tensor) -> tf.Tensor:
    """Whether x is not a number."""
    return tf.math.is_nan(x)


@lowering("IsInf")
def is_inf(x: tf.Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> tf.Tensor:
    """Whether x is infinite, of the signs asked for."""
    if detect_negative and detect_positive:
        return tf.math.is_inf(x)
    if detect_positive:
        return x == math.inf
    if detect_negative:
        return x == -math.inf
    return tf.zeros_like(x, tf.bool)


@lowering("BitShift")
def bit_shift(x: tf.Tensor, y: tf.Tensor, *, direction: str) -> tf.Tensor:
    """x shifted by y bits, to the LEFT or to the RIGHT; nothing but the sign is left beyond its width."""
    width = 8 * tf.as_dtype(x.dtype).size
    beyond = (y < 0) | (y >= width)
    if direction == "RIGHT" and not tf.as_dtype(x.dtype).is_unsigned:
        return tf.bitwise.right_shift(x, tf.where(beyond, tf.cast(width - 1, y.dtype), y))
    count = tf.where(beyond, tf.zeros_like(y), y)
    if direction == "RIGHT":
        return tf.where(beyond, tf.zeros_like(x), tf.bitwise.right_shift(x, count))
    return tf.where(beyond, tf.zeros_like(x), tf.bitwise.left_shift(x, count))


@lowering("Where")
def where(condition: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x where the condition holds, y elsewhere, all broadcast."""
    return tf.where(condition, x, y)
