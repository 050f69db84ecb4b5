"""Conversions between element types.

Floats of 8 bits and less are carried as their bits in uint8, integers of less than 8 bits by value in the
8-bit integers; `kind` names such a type as ONNX does (`FLOAT8E4M3FN`, `INT4`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bridge_converters._casts import cast_beyond
from bridge_converters.onnx_to_torch._table import lowering


@lowering("Cast", supports=cast_beyond)
def cast(
    x: Tensor, *, round_mode: str = "up", saturate: int = 1, to: int, input_types: tuple[str, ...]
) -> Tensor:
    """x in another element type (a number of onnx.TensorProto)."""
    if input_types[0] == "FLOAT8E4M3FN":
        x = x.view(torch.float8_e4m3fn)
    if input_types[0] == "FLOAT8E4M3FNUZ":
        x = x.view(torch.float8_e4m3fnuz)
    if input_types[0] == "FLOAT8E5M2":
        x = x.view(torch.float8_e5m2)
    if input_types[0] == "FLOAT8E5M2FNUZ":
        x = x.view(torch.float8_e5m2fnuz)
    if input_types[0] == "FLOAT8E8M0":
        x = x.view(torch.float8_e8m0fnu)
    if input_types[0].startswith(("FLOAT4", "FLOAT6")):
        x = small_float_values(x, input_types[0])
    if to == 1:
        return x.to(torch.float32)
    if to == 2:
        return x.to(torch.uint8)
    if to == 3:
        return x.to(torch.int8)
    if to == 4:
        return x.to(torch.uint16)
    if to == 5:
        return x.to(torch.int16)
    if to == 6:
        return x.to(torch.int32)
    if to == 7:
        return x.to(torch.int64)
    if to == 9:
        return x.to(torch.bool)
    if to == 10:
        return x.to(torch.float16)
    if to == 11:
        return x.to(torch.float64)
    if to == 12:
        return x.to(torch.uint32)
    if to == 13:
        return x.to(torch.uint64)
    if to == 14:
        return x.to(torch.complex64)
    if to == 15:
        return x.to(torch.complex128)
    if to == 16:
        return x.to(torch.bfloat16)
    native = input_types[0] in ("FLOAT", "FLOAT16", "BFLOAT16")
    if to == 17 and native and saturate:
        return torch.clamp(x, -448.0, 448.0).to(torch.float8_e4m3fn).view(torch.uint8)
    if to == 18 and native and saturate:
        return torch.clamp(x, -240.0, 240.0).to(torch.float8_e4m3fnuz).view(torch.uint8)
    if to == 19 and native and saturate:
        return torch.clamp(x, -57344.0, 57344.0).to(torch.float8_e5m2).view(torch.uint8)
    if to == 20 and native and saturate:
        return torch.clamp(x, -57344.0, 57344.0).to(torch.float8_e5m2fnuz).view(torch.uint8)
    if to == 17:
        return small_float_bits(x, "FLOAT8E4M3FN", saturate)
    if to == 18:
        return small_float_bits(x, "FLOAT8E4M3FNUZ", saturate)
    if to == 19:
        return small_float_bits(x, "FLOAT8E5M2", saturate)
    if to == 20:
        return small_float_bits(x, "FLOAT8E5M2FNUZ", saturate)
    if to == 21:
        return narrow_integer(x, "UINT4")
    if to == 22:
        return narrow_integer(x, "INT4")
    if to == 23:
        return small_float_bits(x, "FLOAT4E2M1")
    if to == 24:
        return power_of_two_bits(x, saturate, round_mode)
    if to == 25:
        return narrow_integer(x, "UINT2")
    if to == 26:
        return narrow_integer(x, "INT2")
    if to == 27:
        return small_float_bits(x, "FLOAT6E2M3")
    return small_float_bits(x, "FLOAT6E3M2")


@lowering("CastLike", supports=cast_beyond)
def cast_like(
    x: Tensor,
    target_type: Tensor,
    *,
    round_mode: str = "up",
    saturate: int = 1,
    input_types: tuple[str, ...],
) -> Tensor:
    """x in the element type of another tensor."""
    if input_types[0].startswith(("FLOAT4", "FLOAT6", "FLOAT8")):
        x = small_float_values(x, input_types[0])
    if input_types[1] == "FLOAT8E8M0":
        return power_of_two_bits(x, saturate, round_mode)
    if input_types[1].startswith(("FLOAT4", "FLOAT6", "FLOAT8")):
        return small_float_bits(x, input_types[1], saturate)
    if input_types[1].endswith(("INT2", "INT4")):
        return narrow_integer(x, input_types[1])
    return x.to(target_type.dtype)


@lowering("BitCast", supports=cast_beyond)
def bit_cast(x: Tensor, *, to: int, input_types: tuple[str, ...]) -> Tensor:
    """The bits of x as another element type of the same size (a number of onnx.TensorProto)."""
    if input_types[0] == "INT4":
        x = x & 15
    if input_types[0] == "INT2":
        x = x & 3
    if to == 1:
        return x.view(torch.float32)
    if to == 3:
        return x.view(torch.int8)
    if to == 4:
        return x.view(torch.uint16)
    if to == 5:
        return x.view(torch.int16)
    if to == 6:
        return x.view(torch.int32)
    if to == 7:
        return x.view(torch.int64)
    if to == 9:
        return x.view(torch.bool)
    if to == 10:
        return x.view(torch.float16)
    if to == 11:
        return x.view(torch.float64)
    if to == 12:
        return x.view(torch.uint32)
    if to == 13:
        return x.view(torch.uint64)
    if to == 14:
        return x.view(torch.complex64)
    if to == 15:
        return x.view(torch.complex128)
    if to == 16:
        return x.view(torch.bfloat16)
    if to == 22:
        return narrow_integer(x, "INT4")
    if to == 26:
        return narrow_integer(x, "INT2")
    return x.view(torch.uint8)


def narrow_integer(x: Tensor, kind: str) -> Tensor:
    """x as an integer of 4 or 2 bits: truncated towards zero, higher bits discarded."""
    if x.is_floating_point():
        x = x.to(torch.int32)
    if kind == "UINT4":
        return x.to(torch.uint8) & 15
    if kind == "UINT2":
        return x.to(torch.uint8) & 3
    if kind == "INT4":
        return ((x.to(torch.int8) & 15) ^ 8) - 8
    return ((x.to(torch.int8) & 3) ^ 2) - 2


def small_float_values(x: Tensor, kind: str) -> Tensor:
    """The values, as float32, of floats of 8 bits or less that are given as bits."""
    if kind == "FLOAT8E4M3FN":
        return x.view(torch.float8_e4m3fn).to(torch.float32)
    if kind == "FLOAT8E4M3FNUZ":
        return x.view(torch.float8_e4m3fnuz).to(torch.float32)
    if kind == "FLOAT8E5M2":
        return x.view(torch.float8_e5m2).to(torch.float32)
    if kind == "FLOAT8E5M2FNUZ":
        return x.view(torch.float8_e5m2fnuz).to(torch.float32)
    if kind == "FLOAT8E8M0":
        return x.view(torch.float8_e8m0fnu).to(torch.float32)
    magnitudes = small_float_magnitudes(kind)
    values = torch.tensor([*magnitudes, *(-each for each in magnitudes)], device=x.device)
    return values[x.to(torch.int32)]


def small_float_bits(x: Tensor, kind: str, saturate: int = 1) -> Tensor:
    """The bits of x as floats of 8 bits or less, rounded once and half to even.

    What is too large becomes the largest value or, unless `saturate`, infinity or NaN. What is not a
    number becomes zero where the type has no NaN.
    """
    magnitudes = small_float_magnitudes(kind)
    wide = x.to(torch.float64)
    bounds = torch.tensor(rounding_bounds(magnitudes), dtype=torch.float64, device=x.device)
    bits = torch.bucketize(torch.abs(wide), bounds)
    if saturate or not kind.startswith("FLOAT8"):
        bits = torch.clamp(bits, max=len(magnitudes) - 1)
    if kind.endswith("FNUZ"):
        bits = torch.where(torch.signbit(wide) & (bits > 0) & (bits < 128), bits + 128, bits)
        return torch.where(torch.isnan(wide), 128, bits).to(torch.uint8)
    nan = 127 if kind == "FLOAT8E4M3FN" else 126 if kind == "FLOAT8E5M2" else 0
    sign = 128 if kind.startswith("FLOAT8") else len(magnitudes)
    return (torch.where(torch.isnan(wide), nan, bits) + sign * torch.signbit(wide)).to(torch.uint8)


def power_of_two_bits(x: Tensor, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """The bits of the magnitude of x as FLOAT8E8M0, a power of two from 2**-127 to 2**127.

    What is out of range becomes the nearest value or, unless `saturate`, NaN.
    """
    wide = torch.abs(x.to(torch.float64))
    step = 1.5 if round_mode == "nearest" else 1.0
    bounds = torch.tensor(
        [step * 2.0**each for each in range(-127, 128)], dtype=torch.float64, device=x.device
    )
    bits = torch.bucketize(wide, bounds, right=round_mode != "up")
    if round_mode == "down":
        bits = torch.clamp(bits - 1, min=0)
    if saturate:
        bits = torch.clamp(bits, max=254)
    else:
        bits = torch.where((wide < 2.0**-127) | torch.isinf(wide), 255, bits)
    return torch.where(torch.isnan(wide), 255, bits).to(torch.uint8)


def small_float_magnitudes(kind: str) -> list[float]:
    """The finite values without sign of a float of 8 bits or less, in the order of their bits."""
    if kind == "FLOAT8E4M3FN":
        mantissa, lowest, count = 3, -6, 127
    elif kind == "FLOAT8E4M3FNUZ":
        mantissa, lowest, count = 3, -7, 128
    elif kind == "FLOAT8E5M2":
        mantissa, lowest, count = 2, -14, 124
    elif kind == "FLOAT8E5M2FNUZ":
        mantissa, lowest, count = 2, -15, 128
    elif kind == "FLOAT6E2M3":
        mantissa, lowest, count = 3, 0, 32
    elif kind == "FLOAT6E3M2":
        mantissa, lowest, count = 2, -2, 32
    else:
        mantissa, lowest, count = 1, 0, 8
    unit = 2**mantissa
    subnormal = [each * 2.0 ** (lowest - mantissa) for each in range(unit)]
    normal = [
        (each % unit + unit) * 2.0 ** (each // unit - 1 + lowest - mantissa) for each in range(unit, count)
    ]
    return [*subnormal, *normal]


def rounding_bounds(magnitudes: list[float]) -> list[float]:
    """For each value the largest double that is rounded to it, half to even."""
    following = [*magnitudes[1:], 2 * magnitudes[-1] - magnitudes[-2]]
    middles = [(low + high) / 2 for low, high in zip(magnitudes, following, strict=True)]
    return [math.nextafter(each, 0.0) if i % 2 else each for i, each in enumerate(middles)]
