"""Conversions between element types.

Floats of 8 bits and less are carried as their bits in uint8, integers of less than 8 bits by value in the
8-bit integers; `kind` names such a type as ONNX does (`FLOAT8E4M3FN`, `INT4`).
"""

from __future__ import annotations

import math

import tensorflow as tf

from bridge_converters._casts import cast_beyond, cast_beyond_strings
from bridge_converters.onnx_to_tf._table import lowering


@lowering("Cast", supports=cast_beyond_strings)
def cast(
    x: tf.Tensor, *, round_mode: str = "up", saturate: int = 1, to: int, input_types: tuple[str, ...]
) -> tf.Tensor:
    """x in another element type (a number of onnx.TensorProto)."""
    if input_types[0] == "STRING" and to in (1, 8, 11):
        return x if to == 8 else tf.strings.to_number(x, tf.float32 if to == 1 else tf.float64)
    if input_types[0] == "STRING":
        x = tf.strings.to_number(x, tf.int64)
    if input_types[0].startswith(("FLOAT4", "FLOAT6", "FLOAT8")):
        x = small_float_values(x, input_types[0])
    if to == 1:
        return tf.cast(x, tf.float32)
    if to == 2:
        return tf.cast(x, tf.uint8)
    if to == 3:
        return tf.cast(x, tf.int8)
    if to == 4:
        return tf.cast(x, tf.uint16)
    if to == 5:
        return tf.cast(x, tf.int16)
    if to == 6:
        return tf.cast(x, tf.int32)
    if to == 7:
        return tf.cast(x, tf.int64)
    if to == 8:
        return tf.strings.as_string(x)
    if to == 9:
        return tf.cast(x, tf.bool)
    if to == 10:
        return tf.cast(x, tf.float16)
    if to == 11:
        return tf.cast(x, tf.float64)
    if to == 12:
        return tf.cast(x, tf.uint32)
    if to == 13:
        return tf.cast(x, tf.uint64)
    if to == 14:
        return tf.cast(x, tf.complex64)
    if to == 15:
        return tf.cast(x, tf.complex128)
    if to == 16:
        return tf.cast(x, tf.bfloat16)
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


@lowering("CastLike", supports=cast_beyond_strings)
def cast_like(
    x: tf.Tensor,
    target_type: tf.Tensor,
    *,
    round_mode: str = "up",
    saturate: int = 1,
    input_types: tuple[str, ...],
) -> tf.Tensor:
    """x in the element type of another tensor."""
    if input_types[0] == input_types[1]:
        return x
    if input_types[0] == "STRING" and input_types[1] in ("FLOAT", "DOUBLE"):
        return tf.strings.to_number(x, target_type.dtype)
    if input_types[0] == "STRING":
        x = tf.strings.to_number(x, tf.int64)
    if input_types[0].startswith(("FLOAT4", "FLOAT6", "FLOAT8")):
        x = small_float_values(x, input_types[0])
    if input_types[1] == "STRING":
        return tf.strings.as_string(x)
    if input_types[1] == "FLOAT8E8M0":
        return power_of_two_bits(x, saturate, round_mode)
    if input_types[1].startswith(("FLOAT4", "FLOAT6", "FLOAT8")):
        return small_float_bits(x, input_types[1], saturate)
    if input_types[1].endswith(("INT2", "INT4")):
        return narrow_integer(x, input_types[1])
    return tf.cast(x, target_type.dtype)


@lowering("BitCast", supports=cast_beyond)
def bit_cast(x: tf.Tensor, *, to: int, input_types: tuple[str, ...]) -> tf.Tensor:
    """The bits of x as another element type of the same size (a number of onnx.TensorProto)."""
    if input_types[0] == "INT4":
        x = x & 15
    if input_types[0] == "INT2":
        x = x & 3
    if input_types[0] == "BOOL":
        x = tf.cast(x, tf.uint8)
    if to == 1:
        return tf.bitcast(x, tf.float32)
    if to == 3:
        return tf.bitcast(x, tf.int8)
    if to == 4:
        return tf.bitcast(x, tf.uint16)
    if to == 5:
        return tf.bitcast(x, tf.int16)
    if to == 6:
        return tf.bitcast(x, tf.int32)
    if to == 7:
        return tf.bitcast(x, tf.int64)
    if to == 9:
        return tf.cast(x, tf.bool)
    if to == 10:
        return tf.bitcast(x, tf.float16)
    if to == 11:
        return tf.bitcast(x, tf.float64)
    if to == 12:
        return tf.bitcast(x, tf.uint32)
    if to == 13:
        return tf.bitcast(x, tf.uint64)
    if to == 14:
        return tf.bitcast(x, tf.complex64)
    if to == 15:
        return tf.bitcast(x, tf.complex128)
    if to == 16:
        return tf.bitcast(x, tf.bfloat16)
    if to == 22:
        return narrow_integer(x, "INT4")
    if to == 26:
        return narrow_integer(x, "INT2")
    return tf.bitcast(x, tf.uint8)


def narrow_integer(x: tf.Tensor, kind: str) -> tf.Tensor:
    """x as an integer of 4 or 2 bits: truncated towards zero, higher bits discarded."""
    if tf.as_dtype(x.dtype).is_floating:
        x = tf.cast(x, tf.int32)
    if kind == "UINT4":
        return tf.cast(x, tf.uint8) & 15
    if kind == "UINT2":
        return tf.cast(x, tf.uint8) & 3
    if kind == "INT4":
        return ((tf.cast(x, tf.int8) & 15) ^ 8) - 8
    return ((tf.cast(x, tf.int8) & 3) ^ 2) - 2


def small_float_values(x: tf.Tensor, kind: str) -> tf.Tensor:
    """The values, as float32, of floats of 8 bits or less that are given as bits."""
    if kind == "FLOAT8E8M0":
        return tf.gather(
            tf.constant([*(2.0**each for each in range(-127, 128)), math.nan]), tf.cast(x, tf.int32)
        )
    positive = small_float_magnitudes(kind)
    if kind == "FLOAT8E4M3FN":
        positive = [*positive, math.nan]
    if kind == "FLOAT8E5M2":
        positive = [*positive, math.inf, math.nan, math.nan, math.nan]
    negative = [-each for each in positive]
    if kind.endswith("FNUZ"):
        negative = [math.nan, *negative[1:]]
    return tf.gather(tf.constant([*positive, *negative]), tf.cast(x, tf.int32))


def small_float_bits(x: tf.Tensor, kind: str, saturate: int = 1) -> tf.Tensor:
    """The bits of x as floats of 8 bits or less, rounded once and half to even.

    What is too large becomes the largest value or, unless `saturate`, infinity or NaN. What is not a
    number becomes zero where the type has no NaN.
    """
    magnitudes = small_float_magnitudes(kind)
    wide = tf.cast(x, tf.float64)
    bits = places_among(tf.abs(wide), rounding_bounds(magnitudes), "left")
    if saturate or not kind.startswith("FLOAT8"):
        bits = tf.minimum(bits, len(magnitudes) - 1)
    negative = tf.bitcast(wide, tf.int64) < 0
    if kind.endswith("FNUZ"):
        bits = tf.where(negative & (bits > 0) & (bits < 128), bits + 128, bits)
        return tf.cast(tf.where(tf.math.is_nan(wide), 128, bits), tf.uint8)
    nan = 127 if kind == "FLOAT8E4M3FN" else 126 if kind == "FLOAT8E5M2" else 0
    sign = 128 if kind.startswith("FLOAT8") else len(magnitudes)
    return tf.cast(tf.where(tf.math.is_nan(wide), nan, bits) + tf.where(negative, sign, 0), tf.uint8)


def power_of_two_bits(x: tf.Tensor, saturate: int = 1, round_mode: str = "up") -> tf.Tensor:
    """The bits of the magnitude of x as FLOAT8E8M0, a power of two from 2**-127 to 2**127.

    What is out of range becomes the nearest value or, unless `saturate`, NaN.
    """
    wide = tf.abs(tf.cast(x, tf.float64))
    step = 1.5 if round_mode == "nearest" else 1.0
    bounds = [step * 2.0**each for each in range(-127, 128)]
    bits = places_among(wide, bounds, "left" if round_mode == "up" else "right")
    if round_mode == "down":
        bits = tf.maximum(bits - 1, 0)
    if saturate:
        bits = tf.minimum(bits, 254)
    else:
        bits = tf.where((wide < 2.0**-127) | tf.math.is_inf(wide), 255, bits)
    return tf.cast(tf.where(tf.math.is_nan(wide), 255, bits), tf.uint8)


def places_among(x: tf.Tensor, bounds: list[float], side: str) -> tf.Tensor:
    """How many of the ascending bounds are below (`left`) or not above (`right`) each element."""
    places = tf.searchsorted(tf.constant(bounds, x.dtype), tf.reshape(x, [-1]), side)
    return tf.reshape(places, tf.shape(x))


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
