"""Quantisation, and arithmetic on quantised numbers.

Products of integers are summed in float64, which is exact on every device as long as sums stay below 2**53.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bridge_converters._quantised import integers_beyond, quantisation_beyond
from bridge_converters.onnx_to_torch._table import lowering
from bridge_converters.onnx_to_torch.cast import small_float_bits, small_float_values
from bridge_converters.onnx_to_torch.conv import conv


@lowering("QuantizeLinear", supports=quantisation_beyond)
def quantize_linear(
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    input_types: tuple[str, ...],
    output_types: tuple[str, ...],
) -> Tensor:
    """x / y_scale, rounded half to even, + y_zero_point, saturated; scales per tensor, axis or block."""
    kind = output_types[0]
    if input_types[1] == "FLOAT8E8M0":
        y_scale = small_float_values(y_scale, "FLOAT8E8M0")
    if y_zero_point is not None and kind.startswith("FLOAT"):
        y_zero_point = small_float_values(y_zero_point, kind)
    if y_scale.ndim > 0 and block_size:
        y_scale = blocks(y_scale, x, axis, block_size)
    elif y_scale.ndim > 0:
        y_scale = y_scale.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if y_zero_point is not None and y_zero_point.ndim > 0 and block_size:
        y_zero_point = blocks(y_zero_point, x, axis, block_size)
    elif y_zero_point is not None and y_zero_point.ndim > 0:
        y_zero_point = y_zero_point.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    plain = input_types[0] == "FLOAT" and input_types[1] == "FLOAT" and precision in (0, 1)
    if plain and kind == "UINT8" and y_zero_point is not None:
        return quantized_uint8(x, y_scale, y_zero_point)
    if plain and kind == "INT8" and y_zero_point is not None:
        return quantized_int8(x, y_scale, y_zero_point)
    ratio = x / y_scale if plain else quotient(x, y_scale, precision)
    if kind.startswith("FLOAT"):
        return small_float_bits(ratio if y_zero_point is None else ratio + y_zero_point, kind, saturate)
    whole = torch.round(ratio) if plain else torch.round(ratio).to(torch.float32)
    if y_zero_point is not None:
        whole = whole + y_zero_point
    return saturated(whole, kind)


@lowering("DequantizeLinear", supports=quantisation_beyond)
def dequantize_linear(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    input_types: tuple[str, ...],
    output_types: tuple[str, ...],
) -> Tensor:
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
        x_scale = x_scale.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if x_zero_point is not None and x_zero_point.ndim > 0 and block_size:
        x_zero_point = blocks(x_zero_point, x, axis, block_size)
    elif x_zero_point is not None and x_zero_point.ndim > 0:
        x_zero_point = x_zero_point.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if input_types[0].startswith("FLOAT"):
        value = small_float_values(x, input_types[0])
    else:
        value = x.to(torch.float32)
    if x_zero_point is not None:
        value = value - x_zero_point
    value = value * x_scale
    if output_types[0] == "FLOAT16":
        return value.to(torch.float16)
    if output_types[0] == "BFLOAT16":
        return value.to(torch.bfloat16)
    return value.to(torch.float32) if input_types[1].endswith("FLOAT16") else value


@lowering("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x in 8 bits, with the scale and the zero point that its range and zero need."""
    low = torch.clamp(torch.amin(x), max=0)
    high = torch.clamp(torch.amax(x), min=0)
    scale = torch.where(high == low, 1.0, high - low) / torch.full_like(high, 255.0)
    zero_point = torch.round(torch.clamp(-low / scale, 0, 255))
    y = torch.clamp(torch.round(x / scale) + zero_point, 0, 255)
    return y.to(torch.uint8), scale, zero_point.to(torch.uint8)


@lowering("MatMulInteger", supports=integers_beyond)
def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    """The matrix product of (a - a_zero_point) and (b - b_zero_point) in int32."""
    return int32_sum(torch.matmul(shifted_rows(a, a_zero_point), shifted(b, b_zero_point)))


@lowering("ConvInteger", layout="channels_first", supports=integers_beyond)
def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
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
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    output_types: tuple[str, ...],
) -> Tensor:
    """The matrix product of two quantised tensors, quantised; scales per tensor, row of a or column of b."""
    total = torch.matmul(shifted_rows(a, a_zero_point), shifted(b, b_zero_point))
    scale = rows(a_scale, a) * b_scale / y_scale
    return saturated(torch.round(total * scale) + rows(y_zero_point, a), output_types[0])


@lowering("QLinearConv", layout="channels_first", supports=integers_beyond)
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
    output_types: tuple[str, ...],
) -> Tensor:
    """Convolution of quantised tensors, quantised; the filters have one scale or one each."""
    total = conv(
        shifted(x, x_zero_point),
        shifted_filters(w, w_zero_point),
        None if b is None else b.to(torch.float64),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    scale = (x_scale * w_scale / y_scale).reshape(-1, *(1,) * (x.ndim - 2))
    return saturated(torch.round(total * scale) + y_zero_point, output_types[0])


def quantized_uint8(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """x / scale, rounded half to even, + zero_point, saturated."""
    return torch.clamp(torch.round(x / scale) + zero_point, 0, 255).to(torch.uint8)


def quantized_int8(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """x / scale, rounded half to even, + zero_point, saturated."""
    return torch.clamp(torch.round(x / scale) + zero_point, -128, 127).to(torch.int8)


def dequantized(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """(x - zero_point) * scale."""
    return (x.to(torch.float32) - zero_point) * scale


def dequantized_along_axis(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """(x - zero_point) * scale, with one of each for every place along an axis."""
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    return dequantized(x, scale.reshape(shape), zero_point.reshape(shape))


def quotient(x: Tensor, scale: Tensor, precision: int) -> Tensor:
    """x / scale in the precision of the scale, or in that asked for (a number of onnx.TensorProto)."""
    if precision == 1:
        dtype = torch.float32
    elif precision == 10:
        dtype = torch.float16
    elif precision == 11:
        dtype = torch.float64
    elif precision == 16:
        dtype = torch.bfloat16
    else:
        dtype = scale.dtype
    return x.to(dtype) / scale.to(dtype)


def blocks(parameter: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point per block, repeated for the elements of x."""
    return torch.repeat_interleave(parameter, block_size, axis).narrow(axis, 0, x.shape[axis])


def saturated(x: Tensor, kind: str) -> Tensor:
    """Whole numbers in floating point as integers of a type, those beyond its range at its ends."""
    if kind == "UINT8":
        return torch.clamp(x, 0, 255).to(torch.uint8)
    if kind == "INT8":
        return torch.clamp(x, -128, 127).to(torch.int8)
    if kind == "UINT16":
        return torch.clamp(x, 0, 65535).to(torch.uint16)
    if kind == "INT16":
        return torch.clamp(x, -32768, 32767).to(torch.int16)
    if kind == "UINT4":
        return torch.clamp(x, 0, 15).to(torch.uint8)
    if kind == "INT4":
        return torch.clamp(x, -8, 7).to(torch.int8)
    if kind == "UINT2":
        return torch.clamp(x, 0, 3).to(torch.uint8)
    return torch.clamp(x, -2, 1).to(torch.int8)


def shifted(x: Tensor, zero_point: Tensor | None) -> Tensor:
    """x - zero_point in float64."""
    return x.to(torch.float64) if zero_point is None else x.to(torch.float64) - zero_point


def shifted_rows(x: Tensor, zero_point: Tensor | None) -> Tensor:
    """x - zero_point in float64, with one zero point or one per row of the matrices."""
    return shifted(x, None if zero_point is None else rows(zero_point, x))


def shifted_filters(w: Tensor, zero_point: Tensor | None) -> Tensor:
    """w - zero_point in float64, with one zero point or one per filter."""
    return shifted(w, None if zero_point is None else zero_point.reshape(-1, *(1,) * (w.ndim - 1)))


def rows(parameter: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point, one or one per row of the matrices of x, in a shape that broadcasts with x."""
    return parameter.unsqueeze(-1) if parameter.ndim == 1 and x.ndim > 1 else parameter


def int32_sum(x: Tensor) -> Tensor:
    """Whole numbers in float64 as int32, wrapped around as a sum in 32 bits is."""
    return x.to(torch.int64).to(torch.int32)
