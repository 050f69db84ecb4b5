"""Element types that the frameworks do not compute with, and the integers that carry them.

Integers of less than 8 bits travel as the 8-bit integers of the same value. Floats of 8 bits and less
travel as their bits in unsigned 8-bit integers, one element to a byte. Models that bridge emits take and
give these carriers; `run` converts at the boundary. Text, numpy's `object`, is TensorFlow's `string`, which
gives the bytes of UTF-8.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from bridge.hub.recipe import Array

_BY_VALUE = {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}
_BY_BITS = frozenset(
    {
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float4_e2m1fn",
    }
)

_TEXT = "object"


def carrier(dtype: str) -> str:
    """The name of the type that carries a type, as numpy has it (but `string`); most carry themselves."""
    if dtype == _TEXT:
        return "string"
    return "uint8" if dtype in _BY_BITS else _BY_VALUE.get(dtype, dtype)


def carry(array: Array) -> Array:
    """An array in the type that carries its own."""
    name = array.dtype.name
    if name in _BY_BITS:
        return array.view(np.uint8)
    return array.astype(_BY_VALUE[name]) if name in _BY_VALUE else array


def uncarry(array: Array, dtype: str) -> Array:
    """An array of the type named `dtype` from its carrier; the inverse of `carry`.

    Raises ValueError where the array is not of the type that carries `dtype`.
    """
    if dtype == _TEXT and array.dtype.name == _TEXT:
        texts = [each.decode() if isinstance(each, bytes) else each for each in array.reshape(-1)]
        return np.array(texts, object).reshape(array.shape)
    if array.dtype.name != carrier(dtype):
        raise ValueError(f"{dtype} is carried by {carrier(dtype)}, not by {array.dtype.name}")
    if dtype in _BY_BITS:
        return array.view(getattr(ml_dtypes, dtype))
    return array.astype(getattr(ml_dtypes, dtype)) if dtype in _BY_VALUE else array
