"""Element types."""

from __future__ import annotations

import tensorflow as tf


def dtype_of(number: int) -> tf.DType:
    """The dtype that a number of onnx.TensorProto names."""
    return {
        1: tf.float32,
        2: tf.uint8,
        3: tf.int8,
        4: tf.uint16,
        5: tf.int16,
        6: tf.int32,
        7: tf.int64,
        8: tf.string,
        9: tf.bool,
        10: tf.float16,
        11: tf.float64,
        12: tf.uint32,
        13: tf.uint64,
        14: tf.complex64,
        15: tf.complex128,
        16: tf.bfloat16,
    }[number]
