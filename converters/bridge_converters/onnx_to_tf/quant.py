"""Quantisation, and arithmetic on quantised numbers.

Products of integers are summed in float64, which is exact on every device as long as sums stay below 2**53.
"""

from __future__ import annotations

import tensorflow as tf

from bridge_converters._quantised import integers_beyond, quantisation_beyond
from bridge_converters.onnx_to_tf._table import lowering
from bridge_converters.onnx_to_tf.cast import small_float_bits, small_float_values
from bridge_converters.onnx_to_tf.conv import conv
from bridge_converters.onnx_to_tf.linear import matmul


@lowering("QuantizeLinear", supports=quantisation_beyond)
def quantize_linear(
    x: tf.Tensor,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    input_types: tuple[str, ...],
    output_types: tuple[str, ...],
) -> tf.Tensor:
    """x / y_scale, rounded half to even, + y_zero_point, saturated; scales per tensor, axis or block."""
    kind = output_types[0]
    if input_types[1] == "FLOAT8E8M0":
        y_scale = small_float_values(y_scale, "FLOAT8E8M0")
    if y_zero_point is not None and kind.startswith("FLOAT"):
        y_zero_point = small_float_values(y_zero_point, kind)
    if y_scale.ndim > 0 and block_size:
        y_scale = blocks(y_scale, x, axis, block_size)
    elif y_scale.ndim > 0:
        y_scale = tf.reshape(y_scale, [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if y_zero_point is not None and y_zero_point.ndim > 0 and block_size:
        y_zero_point = blocks(y_zero_point, x, axis, block_size)
    elif y_zero_point is not None and y_zero_point.ndim > 0:
        y_zero_point = tf.reshape(y_zero_point, [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    plain = input_types[0] == "FLOAT" and input_types[1] == "FLOAT" and precision in (0, 1)
    if plain and kind == "UINT8" and y_zero_point is not None:
        return quantized_uint8(x, y_scale, y_zero_point)
    if plain and kind == "INT8" and y_zero_point is not None:
        return quantized_int8(x, y_scale, y_zero_point)
    ratio = x / y_scale if plain else quotient(x, y_scale, precision)
    if kind.startswith("FLOAT"):
        shift = 0.0 if y_zero_point is None else tf.cast(y_zero_point, ratio.dtype)
        return small_float_bits(ratio + shift, kind, saturate)
    whole = tf.round(ratio) if plain else tf.cast(tf.round(ratio), tf.float32)
    if y_zero_point is not None:
        whole = whole + tf.cast(y_zero_point, tf.float32)
    return saturated(whole, kind)


@lowering("DequantizeLinear", supports=quantisation_beyond)
def dequantize_linear(
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    input_types: tuple[str, ...],
    output_types: tuple[str, ...],
) -> tf.Tensor:
    """(x - x_zero_point) * x_scale; scales per tensor, axis or block."""
    plain = "FLOAT" not in input_types[0] and input_types[1] == output_types[0] == "FLOAT"
    if plain and x_zero_point is not None and x_scale.ndim == 0:
        return dequantized(x, x_scale, x_zero_point)
    if plain and x_zero_point is not None and x_scale.ndim == 1 and not block_size:
        return dequantized_along_axis(x, x_scale, x_zero_point, axis)
    if input_types[1] == "FLOAT8E8M0":
        x_scale = small_float_values(x_scale, "FLOAT8E8M0")
    if x_zero_point is not None and input_types[0].startswith("FLOAT"):
        x_zero_point = small_float_values(x_zero_point, input_types[0])
    if x_scale.ndim > 0 and block_size:
        x_scale = blocks(x_scale, x, axis, block_size)
    elif x_scale.ndim > 0:
        x_scale = tf.reshape(x_scale, [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if x_zero_point is not None and x_zero_point.ndim > 0 and block_size:
        x_zero_point = blocks(x_zero_point, x, axis, block_size)
    elif x_zero_point is not None and x_zero_point.ndim > 0:
        x_zero_point = tf.reshape(x_zero_point, [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if input_types[0].startswith("FLOAT"):
        value = small_float_values(x, input_types[0])
    else:
        value = tf.cast(x, tf.float32)
    if x_zero_point is not None:
        value = value - tf.cast(x_zero_point, tf.float32)
    if input_types[1].endswith("FLOAT16"):
        x_scale = tf.cast(x_scale, tf.float32)
    value = value * x_scale
    if output_types[0] == "FLOAT16":
        return tf.cast(value, tf.float16)
    if output_types[0] == "BFLOAT16":
        return tf.cast(value, tf.bfloat16)
    return value


@lowering("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """x in 8 bits, with the scale and the zero point that its range and zero need."""
    low = tf.minimum(tf.reduce_min(x), 0.0)
    high = tf.maximum(tf.reduce_max(x), 0.0)
    scale = tf.where(high == low, 1.0, high - low) / 255.0
    zero_point = tf.round(tf.clip_by_value(-low / scale, 0, 255))
    y = tf.clip_by_value(tf.round(x / scale) + zero_point, 0, 255)
    return tf.cast(y, tf.uint8), scale, tf.cast(zero_point, tf.uint8)


@lowering("MatMulInteger", supports=integers_beyond)
def matmul_integer(
    a: tf.Tensor, b: tf.Tensor, a_zero_point: tf.Tensor | None = None, b_zero_point: tf.Tensor | None = None
) -> tf.Tensor:
    """The matrix product of (a - a_zero_point) and (b - b_zero_point) in int32."""
    return int32_sum(matmul(shifted_rows(a, a_zero_point), shifted(b, b_zero_point)))


@lowering("ConvInteger", layout="channels_last", supports=integers_beyond)
def conv_integer(
    x: tf.Tensor,
    w: tf.Tensor,
    x_zero_point: tf.Tensor | None = None,
    w_zero_point: tf.Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Convolution of x - x_zero_point with w - w_zero_point (one or one per filter) in int32."""
    y = conv(
        shifted(x, x_zero_point),
        shifted_filters(w, w_zero_point),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    return int32_sum(y)


@lowering("QLinearMatMul", supports=integers_beyond)
def qlinear_matmul(
    a: tf.Tensor,
    a_scale: tf.Tensor,
    a_zero_point: tf.Tensor,
    b: tf.Tensor,
    b_scale: tf.Tensor,
    b_zero_point: tf.Tensor,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor,
    *,
    output_types: tuple[str, ...],
) -> tf.Tensor:
    """The matrix product of two quantised tensors, quantised; scales per tensor, row of a or column of b."""
    total = matmul(shifted_rows(a, a_zero_point), shifted(b, b_zero_point))
    scale = tf.cast(rows(a_scale, a) * b_scale / y_scale, tf.float64)
    shift = tf.cast(rows(y_zero_point, a), tf.float64)
    return saturated(tf.round(total * scale) + shift, output_types[0])


@lowering("QLinearConv", layout="channels_last", supports=integers_beyond)
def qlinear_conv(
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor,
    w: tf.Tensor,
    w_scale: tf.Tensor,
    w_zero_point: tf.Tensor,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor,
    b: tf.Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
    output_types: tuple[str, ...],
) -> tf.Tensor:
    """Convolution of quantised tensors, quantised; the filters have one scale or one each."""
    total = conv(
        shifted(x, x_zero_point),
        shifted_filters(w, w_zero_point),
        None if b is None else tf.cast(b, tf.float64),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    scale = tf.cast(x_scale * w_scale / y_scale, tf.float64)
    return saturated(tf.round(total * scale) + tf.cast(y_zero_point, tf.float64), output_types[0])


def quantized_uint8(x: tf.Tensor, scale: tf.Tensor, zero_point: tf.Tensor) -> tf.Tensor:
    """x / scale, rounded half to even, + zero_point, saturated."""
    whole = tf.round(x / scale) + tf.cast(zero_point, tf.float32)
    return tf.cast(tf.clip_by_value(whole, 0, 255), tf.uint8)


def quantized_int8(x: tf.Tensor, scale: tf.Tensor, zero_point: tf.Tensor) -> tf.Tensor:
    """x / scale, rounded half to even, + zero_point, saturated."""
    whole = tf.round(x / scale) + tf.cast(zero_point, tf.float32)
    return tf.cast(tf.clip_by_value(whole, -128, 127), tf.int8)


def dequantized(x: tf.Tensor, scale: tf.Tensor, zero_point: tf.Tensor) -> tf.Tensor:
    """(x - zero_point) * scale."""
    return (tf.cast(x, tf.float32) - tf.cast(zero_point, tf.float32)) * scale


def dequantized_along_axis(x: tf.Tensor, scale: tf.Tensor, zero_point: tf.Tensor, axis: int) -> tf.Tensor:
    """(x - zero_point) * scale, with one of each for every place along an axis."""
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    return dequantized(x, tf.reshape(scale, shape), tf.reshape(zero_point, shape))


def quotient(x: tf.Tensor, scale: tf.Tensor, precision: int) -> tf.Tensor:
    """x / scale in the precision of the scale, or in that asked for (a number of onnx.TensorProto)."""
    if precision == 1:
        dtype = tf.float32
    elif precision == 10:
        dtype = tf.float16
    elif precision == 11:
        dtype = tf.float64
    elif precision == 16:
        dtype = tf.bfloat16
    else:
        dtype = scale.dtype
    return tf.cast(x, dtype) / tf.cast(scale, dtype)


def blocks(parameter: tf.Tensor, x: tf.Tensor, axis: int, block_size: int) -> tf.Tensor:
    """A scale or zero point per block, repeated for the elements of x."""
    axis = axis % x.ndim
    repeated = tf.repeat(parameter, block_size, axis)
    return repeated[(slice(None),) * axis + (slice(None, tf.shape(x)[axis]),)]


def saturated(x: tf.Tensor, kind: str) -> tf.Tensor:
    """Whole numbers in floating point as integers of a type, those beyond its range at its ends."""
    if kind == "UINT8":
        return tf.cast(tf.clip_by_value(x, 0, 255), tf.uint8)
    if kind == "INT8":
        return tf.cast(tf.clip_by_value(x, -128, 127), tf.int8)
    if kind == "UINT16":
        return tf.cast(tf.clip_by_value(x, 0, 65535), tf.uint16)
    if kind == "INT16":
        return tf.cast(tf.clip_by_value(x, -32768, 32767), tf.int16)
    if kind == "UINT4":
        return tf.cast(tf.clip_by_value(x, 0, 15), tf.uint8)
    if kind == "INT4":
        return tf.cast(tf.clip_by_value(x, -8, 7), tf.int8)
    if kind == "UINT2":
        return tf.cast(tf.clip_by_value(x, 0, 3), tf.uint8)
    return tf.cast(tf.clip_by_value(x, -2, 1), tf.int8)


def shifted(x: tf.Tensor, zero_point: tf.Tensor | None) -> tf.Tensor:
    """x - zero_point in float64."""
    return (
        tf.cast(x, tf.float64)
        if zero_point is None
        else tf.cast(x, tf.float64) - tf.cast(zero_point, tf.float64)
    )


def shifted_rows(x: tf.Tensor, zero_point: tf.Tensor | None) -> tf.Tensor:
    """x - zero_point in float64, with one zero point or one per row of the matrices."""
    return shifted(x, None if zero_point is None else rows(zero_point, x))


def shifted_filters(w: tf.Tensor, zero_point: tf.Tensor | None) -> tf.Tensor:
    """w - zero_point in float64, with one zero point or one per filter."""
    return shifted(w, None if zero_point is None else tf.reshape(zero_point, (-1, *(1,) * (w.ndim - 1))))


def rows(parameter: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """A scale or zero point, one or one per row of the matrices of x, in a shape that broadcasts with x."""
    return tf.expand_dims(parameter, -1) if parameter.ndim == 1 and x.ndim > 1 else parameter


def int32_sum(x: tf.Tensor) -> tf.Tensor:
    """Whole numbers in float64 as int32, wrapped around as a sum in 32 bits is."""
    return tf.cast(tf.cast(x, tf.int64), tf.int32)
