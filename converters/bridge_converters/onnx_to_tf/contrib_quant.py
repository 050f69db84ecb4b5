"""onnxruntime's own operators on quantised tensors: dequantised, computed in float32 and quantised again.

onnxruntime folds scales together before it rounds, so that its results may be one step off.
"""

from __future__ import annotations

import tensorflow as tf

from bridge_converters._quantised import channels_last_beyond, coerced_softmax_beyond, packed_beyond
from bridge_converters.onnx_to_tf._table import lowering
from bridge_converters.onnx_to_tf.linear import matmul
from bridge_converters.onnx_to_tf.pool import average_pool
from bridge_converters.onnx_to_tf.quant import (
    dynamic_quantize_linear,
    rows,
    saturated,
    shifted,
    shifted_rows,
)


@lowering("QuantizeLinear", domain="com.microsoft")
def contrib_quantize_linear(
    x: tf.Tensor,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor | None = None,
    *,
    axis: int | None = None,
    input_types: tuple[str, ...],
) -> tf.Tensor:
    """x / y_scale, rounded half to even, + y_zero_point, saturated; one scale or one per place on an axis."""
    kind = "UINT8" if y_zero_point is None else input_types[2]
    if y_scale.ndim > 0:
        shape = [-1 if i == (1 if axis is None else axis) % x.ndim else 1 for i in range(x.ndim)]
        y_scale = tf.reshape(y_scale, shape)
        y_zero_point = None if y_zero_point is None else tf.reshape(y_zero_point, shape)
    whole = tf.cast(tf.round(x / y_scale), tf.float32)
    return saturated(added(whole, y_zero_point), kind)


@lowering("DequantizeLinear", domain="com.microsoft")
def contrib_dequantize_linear(
    x: tf.Tensor, x_scale: tf.Tensor, x_zero_point: tf.Tensor | None = None, *, axis: int | None = None
) -> tf.Tensor:
    """(x - x_zero_point) * x_scale; one scale or one per place on an axis."""
    if x_scale.ndim > 0:
        shape = [-1 if i == (1 if axis is None else axis) % x.ndim else 1 for i in range(x.ndim)]
        x_scale = tf.reshape(x_scale, shape)
        x_zero_point = None if x_zero_point is None else tf.reshape(x_zero_point, shape)
    return tf.cast(real(x, tf.cast(x_scale, tf.float32), x_zero_point), x_scale.dtype)


@lowering("QLinearAdd", domain="com.microsoft")
def qlinear_add(
    a: tf.Tensor,
    a_scale: tf.Tensor,
    a_zero_point: tf.Tensor | None,
    b: tf.Tensor,
    b_scale: tf.Tensor,
    b_zero_point: tf.Tensor | None,
    c_scale: tf.Tensor,
    c_zero_point: tf.Tensor | None = None,
) -> tf.Tensor:
    """a + b, broadcast."""
    total = real(a, a_scale, a_zero_point) + real(b, b_scale, b_zero_point)
    return quantized_as(a, total, c_scale, c_zero_point)


@lowering("QLinearMul", domain="com.microsoft")
def qlinear_mul(
    a: tf.Tensor,
    a_scale: tf.Tensor,
    a_zero_point: tf.Tensor | None,
    b: tf.Tensor,
    b_scale: tf.Tensor,
    b_zero_point: tf.Tensor | None,
    c_scale: tf.Tensor,
    c_zero_point: tf.Tensor | None = None,
) -> tf.Tensor:
    """a * b, broadcast."""
    product = real(a, a_scale, a_zero_point) * real(b, b_scale, b_zero_point)
    return quantized_as(a, product, c_scale, c_zero_point)


@lowering("QLinearSigmoid", domain="com.microsoft")
def qlinear_sigmoid(
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor | None,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor | None = None,
) -> tf.Tensor:
    """1 / (1 + exp(-x))."""
    return quantized_as(x, tf.sigmoid(real(x, x_scale, x_zero_point)), y_scale, y_zero_point)


@lowering("QLinearLeakyRelu", domain="com.microsoft")
def qlinear_leaky_relu(
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor | None,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor | None = None,
    *,
    alpha: float = 0.01,
) -> tf.Tensor:
    """x where it is not negative, alpha * x elsewhere."""
    value = real(x, x_scale, x_zero_point)
    return quantized_as(x, tf.where(value >= 0, value, alpha * value), y_scale, y_zero_point)


@lowering("QLinearSoftmax", domain="com.microsoft", supports=coerced_softmax_beyond)
def qlinear_softmax(
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor | None,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor,
    *,
    axis: int = -1,
    opset: int,
) -> tf.Tensor:
    """The exponentials of x over their sum along an axis."""
    value = real(x, x_scale, x_zero_point)
    return quantized_as(x, tf.nn.softmax(value, axis), y_scale, y_zero_point)


@lowering("QLinearAveragePool", domain="com.microsoft", supports=channels_last_beyond)
def qlinear_average_pool(
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor | None,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> tf.Tensor:
    """Mean over windows."""
    value = real(x, x_scale, x_zero_point)
    y = average_pool(
        tf.transpose(value, (0, *range(2, x.ndim), 1)),
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return quantized_as(x, tf.transpose(y, (0, x.ndim - 1, *range(1, x.ndim - 1))), y_scale, y_zero_point)


@lowering("QLinearGlobalAveragePool", domain="com.microsoft")
def qlinear_global_average_pool(
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor,
    *,
    channels_last: int = 0,
) -> tf.Tensor:
    """Mean over all spatial axes."""
    value = real(x, x_scale, x_zero_point)
    if channels_last:
        mean = tf.reduce_mean(value, tuple(range(1, x.ndim - 1)), keepdims=True)
    else:
        mean = tf.reduce_mean(value, tuple(range(2, x.ndim)), keepdims=True)
    return quantized_as(x, mean, y_scale, y_zero_point)


@lowering("QLinearReduceMean", domain="com.microsoft")
def qlinear_reduce_mean(
    data: tf.Tensor,
    data_scale: tf.Tensor,
    data_zero_point: tf.Tensor | None,
    reduced_scale: tf.Tensor,
    reduced_zero_point: tf.Tensor | None = None,
    *,
    axes: tuple[int, ...],
    keepdims: int,
) -> tf.Tensor:
    """Mean over axes."""
    mean = tf.reduce_mean(real(data, data_scale, data_zero_point), axes, keepdims=bool(keepdims))
    return quantized_as(data, mean, reduced_scale, reduced_zero_point)


@lowering("QLinearConcat", domain="com.microsoft")
def qlinear_concat(y_scale: tf.Tensor, y_zero_point: tf.Tensor, *inputs: tf.Tensor, axis: int) -> tf.Tensor:
    """Tensors, each followed by its scale and zero point, one after the other along an axis."""
    parts = [real(inputs[i], inputs[i + 1], inputs[i + 2]) for i in range(0, len(inputs), 3)]
    return quantized_as(y_zero_point, tf.concat(parts, axis), y_scale, y_zero_point)


@lowering("QLinearWhere", domain="com.microsoft")
def qlinear_where(
    condition: tf.Tensor,
    x: tf.Tensor,
    x_scale: tf.Tensor,
    x_zero_point: tf.Tensor,
    y: tf.Tensor,
    y_scale: tf.Tensor,
    y_zero_point: tf.Tensor,
    z_scale: tf.Tensor,
    z_zero_point: tf.Tensor,
) -> tf.Tensor:
    """x where the condition holds, y elsewhere, all broadcast."""
    chosen = tf.where(condition, real(x, x_scale, x_zero_point), real(y, y_scale, y_zero_point))
    return quantized_as(x, chosen, z_scale, z_zero_point)


@lowering("QGemm", domain="com.microsoft")
def qgemm(
    a: tf.Tensor,
    a_scale: tf.Tensor,
    a_zero_point: tf.Tensor,
    b: tf.Tensor,
    b_scale: tf.Tensor,
    b_zero_point: tf.Tensor,
    c: tf.Tensor | None = None,
    y_scale: tf.Tensor | None = None,
    y_zero_point: tf.Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    input_types: tuple[str, ...],
) -> tf.Tensor:
    """alpha * a @ b + c, quantised if there is a y_scale; b has one scale or one per column of the result."""
    left, right = shifted(a, a_zero_point), tf.cast(b, tf.float64)
    if transA:
        left = tf.transpose(left)
    if transB:
        right = tf.transpose(right)
    total = matmul(left, right - tf.cast(b_zero_point, tf.float64))
    if c is not None:
        total = total + tf.cast(c, tf.float64)
    scale = alpha * a_scale * b_scale
    if y_scale is None:
        return tf.cast(total * tf.cast(scale, tf.float64), tf.float32)
    kind = "UINT8" if y_zero_point is None else input_types[8]
    whole = tf.round(total * tf.cast(scale / y_scale, tf.float64))
    return saturated(added(whole, y_zero_point), kind)


@lowering("MatMulIntegerToFloat", domain="com.microsoft")
def matmul_integer_to_float(
    a: tf.Tensor,
    b: tf.Tensor,
    a_scale: tf.Tensor,
    b_scale: tf.Tensor,
    a_zero_point: tf.Tensor | None = None,
    b_zero_point: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """The matrix product of two quantised tensors plus a bias, in floating point."""
    total = matmul(shifted_rows(a, a_zero_point), shifted(b, b_zero_point))
    scale = tf.cast(rows(a_scale, a) * b_scale, tf.float64)
    y = tf.cast(total * scale, a_scale.dtype)
    return y if bias is None else y + bias


@lowering("DynamicQuantizeMatMul", domain="com.microsoft")
def dynamic_quantize_matmul(
    a: tf.Tensor,
    b: tf.Tensor,
    b_scale: tf.Tensor,
    b_zero_point: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """The matrix product of a, quantised by its own range, with a quantised b, plus a bias."""
    quantized, scale, zero_point = dynamic_quantize_linear(a)
    return matmul_integer_to_float(quantized, b, scale, b_scale, zero_point, b_zero_point, bias)


@lowering("MatMulNBits", domain="com.microsoft", supports=packed_beyond)
def matmul_n_bits(
    a: tf.Tensor,
    b: tf.Tensor,
    scales: tf.Tensor,
    zero_points: tf.Tensor | None = None,
    g_idx: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> tf.Tensor:
    """a times the transpose of an (N, K) matrix of integers of a few bits, packed in bytes, plus a bias.

    Every `block_size` integers along K have a scale and a zero point, by default the middle of their range.
    """
    count = -(-K // block_size)
    whole = tf.cast(unpacked(tf.reshape(b, (N, count, -1)), bits)[..., :block_size], a.dtype)
    if zero_points is None:
        whole = whole - 2 ** (bits - 1)
    elif tf.as_dtype(zero_points.dtype).is_floating:
        whole = whole - tf.reshape(zero_points, (N, count, 1))
    else:
        middle = unpacked(tf.reshape(zero_points, (N, -1)), bits)[:, :count]
        whole = whole - tf.expand_dims(tf.cast(middle, a.dtype), -1)
    weight = tf.reshape(whole * tf.reshape(scales, (N, count, 1)), (N, -1))[:, :K]
    y = matmul(a, tf.transpose(weight))
    return y if bias is None else y + bias


def unpacked(x: tf.Tensor, bits: int) -> tf.Tensor:
    """The integers of 2, 4 or 8 bits in the bytes of the last axis, those in the lowest bits first."""
    shifts = tf.constant(list(range(0, 8, bits)), tf.uint8)
    parts = tf.bitwise.right_shift(tf.expand_dims(x, -1), shifts) & 2**bits - 1
    return tf.reshape(parts, (*x.shape[:-1], -1))


def real(x: tf.Tensor, scale: tf.Tensor, zero_point: tf.Tensor | None) -> tf.Tensor:
    """The numbers that a quantised tensor stands for."""
    value = tf.cast(x, tf.float32)
    return (value if zero_point is None else value - tf.cast(zero_point, tf.float32)) * scale


def quantized_as(like: tf.Tensor, x: tf.Tensor, scale: tf.Tensor, zero_point: tf.Tensor | None) -> tf.Tensor:
    """x quantised in the type of another tensor."""
    return saturated(added(tf.round(x / scale), zero_point), "UINT8" if like.dtype == tf.uint8 else "INT8")


def added(whole: tf.Tensor, zero_point: tf.Tensor | None) -> tf.Tensor:
    """Whole numbers plus a zero point, where there is one."""
    return whole if zero_point is None else whole + tf.cast(zero_point, whole.dtype)
