"""onnxruntime's own operators on quantised tensors: dequantised, computed in float32 and quantised again.

onnxruntime folds scales together before it rounds, so that its results may be one step off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bridge_converters._quantised import channels_last_beyond, coerced_softmax_beyond, packed_beyond
from bridge_converters.onnx_to_torch._table import lowering
from bridge_converters.onnx_to_torch.pool import average_pool
from bridge_converters.onnx_to_torch.quant import (
    dynamic_quantize_linear,
    rows,
    saturated,
    shifted,
    shifted_rows,
)


@lowering("QuantizeLinear", domain="com.microsoft")
def contrib_quantize_linear(
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    axis: int | None = None,
    input_types: tuple[str, ...],
) -> Tensor:
    """x / y_scale, rounded half to even, + y_zero_point, saturated; one scale or one per place on an axis."""
    kind = "UINT8" if y_zero_point is None else input_types[2]
    if y_scale.ndim > 0:
        shape = [-1 if i == (1 if axis is None else axis) % x.ndim else 1 for i in range(x.ndim)]
        y_scale = y_scale.reshape(shape)
        y_zero_point = None if y_zero_point is None else y_zero_point.reshape(shape)
    whole = torch.round(x / y_scale).to(torch.float32)
    return saturated(whole if y_zero_point is None else whole + y_zero_point, kind)


@lowering("DequantizeLinear", domain="com.microsoft")
def contrib_dequantize_linear(
    x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None = None, *, axis: int | None = None
) -> Tensor:
    """(x - x_zero_point) * x_scale; one scale or one per place on an axis."""
    if x_scale.ndim > 0:
        shape = [-1 if i == (1 if axis is None else axis) % x.ndim else 1 for i in range(x.ndim)]
        x_scale = x_scale.reshape(shape)
        x_zero_point = None if x_zero_point is None else x_zero_point.reshape(shape)
    value = x.to(torch.float32) if x_zero_point is None else x.to(torch.float32) - x_zero_point
    return (value * x_scale).to(x_scale.dtype)


@lowering("QLinearAdd", domain="com.microsoft")
def qlinear_add(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None,
    c_scale: Tensor,
    c_zero_point: Tensor | None = None,
) -> Tensor:
    """a + b, broadcast."""
    total = real(a, a_scale, a_zero_point) + real(b, b_scale, b_zero_point)
    return quantized_as(a, total, c_scale, c_zero_point)


@lowering("QLinearMul", domain="com.microsoft")
def qlinear_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None,
    c_scale: Tensor,
    c_zero_point: Tensor | None = None,
) -> Tensor:
    """a * b, broadcast."""
    product = real(a, a_scale, a_zero_point) * real(b, b_scale, b_zero_point)
    return quantized_as(a, product, c_scale, c_zero_point)


@lowering("QLinearSigmoid", domain="com.microsoft")
def qlinear_sigmoid(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
) -> Tensor:
    """1 / (1 + exp(-x))."""
    return quantized_as(x, torch.sigmoid(real(x, x_scale, x_zero_point)), y_scale, y_zero_point)


@lowering("QLinearLeakyRelu", domain="com.microsoft")
def qlinear_leaky_relu(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 0.01,
) -> Tensor:
    """x where it is not negative, alpha * x elsewhere."""
    value = real(x, x_scale, x_zero_point)
    return quantized_as(x, torch.where(value >= 0, value, alpha * value), y_scale, y_zero_point)


@lowering("QLinearSoftmax", domain="com.microsoft", supports=coerced_softmax_beyond)
def qlinear_softmax(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    axis: int = -1,
    opset: int,
) -> Tensor:
    """The exponentials of x over their sum along an axis."""
    value = real(x, x_scale, x_zero_point)
    return quantized_as(x, torch.softmax(value, axis), y_scale, y_zero_point)


@lowering("QLinearAveragePool", domain="com.microsoft", supports=channels_last_beyond)
def qlinear_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """Mean over windows."""
    y = average_pool(
        real(x, x_scale, x_zero_point),
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return quantized_as(x, y, y_scale, y_zero_point)


@lowering("QLinearGlobalAveragePool", domain="com.microsoft")
def qlinear_global_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    channels_last: int = 0,
) -> Tensor:
    """Mean over all spatial axes."""
    value = real(x, x_scale, x_zero_point)
    if channels_last:
        mean = torch.mean(value, tuple(range(1, x.ndim - 1)), keepdim=True)
    else:
        mean = torch.mean(value, tuple(range(2, x.ndim)), keepdim=True)
    return quantized_as(x, mean, y_scale, y_zero_point)


@lowering("QLinearReduceMean", domain="com.microsoft")
def qlinear_reduce_mean(
    data: Tensor,
    data_scale: Tensor,
    data_zero_point: Tensor | None,
    reduced_scale: Tensor,
    reduced_zero_point: Tensor | None = None,
    *,
    axes: tuple[int, ...],
    keepdims: int,
) -> Tensor:
    """Mean over axes."""
    mean = torch.mean(real(data, data_scale, data_zero_point), axes, keepdim=bool(keepdims))
    return quantized_as(data, mean, reduced_scale, reduced_zero_point)


@lowering("QLinearConcat", domain="com.microsoft")
def qlinear_concat(y_scale: Tensor, y_zero_point: Tensor, *inputs: Tensor, axis: int) -> Tensor:
    """Tensors, each followed by its scale and zero point, one after the other along an axis."""
    parts = [real(inputs[i], inputs[i + 1], inputs[i + 2]) for i in range(0, len(inputs), 3)]
    return quantized_as(y_zero_point, torch.cat(parts, axis), y_scale, y_zero_point)


@lowering("QLinearWhere", domain="com.microsoft")
def qlinear_where(
    condition: Tensor,
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    z_scale: Tensor,
    z_zero_point: Tensor,
) -> Tensor:
    """x where the condition holds, y elsewhere, all broadcast."""
    chosen = torch.where(condition, real(x, x_scale, x_zero_point), real(y, y_scale, y_zero_point))
    return quantized_as(x, chosen, z_scale, z_zero_point)


@lowering("QGemm", domain="com.microsoft")
def qgemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    input_types: tuple[str, ...],
) -> Tensor:
    """alpha * a @ b + c, quantised if there is a y_scale; b has one scale or one per column of the result."""
    left, right = shifted(a, a_zero_point), b.to(torch.float64)
    if transA:
        left = left.t()
    if transB:
        right = right.t()
    total = torch.matmul(left, right - b_zero_point)
    if c is not None:
        total = total + c
    scale = alpha * a_scale * b_scale
    if y_scale is None:
        return (total * scale).to(torch.float32)
    kind = "UINT8" if y_zero_point is None else input_types[8]
    whole = torch.round(total * (scale / y_scale))
    return saturated(whole if y_zero_point is None else whole + y_zero_point, kind)


@lowering("MatMulIntegerToFloat", domain="com.microsoft")
def matmul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The matrix product of two quantised tensors plus a bias, in floating point."""
    total = torch.matmul(shifted_rows(a, a_zero_point), shifted(b, b_zero_point))
    y = (total * (rows(a_scale, a) * b_scale)).to(a_scale.dtype)
    return y if bias is None else y + bias


@lowering("DynamicQuantizeMatMul", domain="com.microsoft")
def dynamic_quantize_matmul(
    a: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The matrix product of a, quantised by its own range, with a quantised b, plus a bias."""
    quantized, scale, zero_point = dynamic_quantize_linear(a)
    return matmul_integer_to_float(quantized, b, scale, b_scale, zero_point, b_zero_point, bias)


@lowering("MatMulNBits", domain="com.microsoft", supports=packed_beyond)
def matmul_n_bits(
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> Tensor:
    """a times the transpose of an (N, K) matrix of integers of a few bits, packed in bytes, plus a bias.

    Every `block_size` integers along K have a scale and a zero point, by default the middle of their range.
    """
    count = -(-K // block_size)
    whole = unpacked(b.reshape(N, count, -1), bits)[..., :block_size].to(a.dtype)
    if zero_points is None:
        whole = whole - 2 ** (bits - 1)
    elif zero_points.is_floating_point():
        whole = whole - zero_points.reshape(N, count, 1)
    else:
        middle = unpacked(zero_points.reshape(N, -1), bits)[:, :count]
        whole = whole - middle.to(a.dtype).unsqueeze(-1)
    weight = (whole * scales.reshape(N, count, 1)).reshape(N, -1)[:, :K]
    y = torch.matmul(a, weight.t())
    return y if bias is None else y + bias


def unpacked(x: Tensor, bits: int) -> Tensor:
    """The integers of 2, 4 or 8 bits in the bytes of the last axis, those in the lowest bits first."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=x.device)
    parts: Tensor = x.unsqueeze(-1) >> shifts & 2**bits - 1
    return parts.flatten(-2)


def real(x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """The numbers that a quantised tensor stands for."""
    return (x.to(torch.float32) if zero_point is None else x.to(torch.float32) - zero_point) * scale


def quantized_as(like: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """x quantised in the type of another tensor."""
    whole = torch.round(x / scale)
    return saturated(
        whole if zero_point is None else whole + zero_point, "UINT8" if like.dtype == torch.uint8 else "INT8"
    )
