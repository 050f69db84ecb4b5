"""Every type of less than 16 bits survives the way through its carrier."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from bridge.hub.carriers import carrier, carry, uncarry

BITS = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("name", BITS)
def test_every_pattern_of_bits_survives(name: str) -> None:
    patterns = np.arange(256, dtype=np.uint8)
    array = patterns.view(getattr(ml_dtypes, name))
    assert carry(array).dtype == np.uint8
    np.testing.assert_array_equal(carry(array), patterns)
    np.testing.assert_array_equal(uncarry(carry(array), name).view(np.uint8), patterns)


def test_float4_is_one_element_to_a_byte() -> None:
    array = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -6], ml_dtypes.float4_e2m1fn)
    assert carry(array).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 15]
    assert uncarry(carry(array), "float4_e2m1fn").astype(float).tolist() == array.astype(float).tolist()


@pytest.mark.parametrize("name", ["float6_e2m3fn", "float6_e3m2fn"])
def test_float6_is_one_element_to_a_byte(name: str) -> None:
    patterns = np.arange(64, dtype=np.uint8)
    carried = carry(patterns.view(getattr(ml_dtypes, name)))
    np.testing.assert_array_equal(carried, patterns)
    assert uncarry(carried, name).dtype.name == name


@pytest.mark.parametrize(
    ("name", "low", "high"), [("int4", -8, 7), ("uint4", 0, 15), ("int2", -2, 1), ("uint2", 0, 3)]
)
def test_narrow_integers_keep_their_values(name: str, low: int, high: int) -> None:
    values = np.arange(low, high + 1)
    array = values.astype(getattr(ml_dtypes, name))
    assert carry(array).tolist() == values.tolist()
    assert carry(array).dtype == carrier(name)
    assert uncarry(carry(array), name).dtype == array.dtype


def test_other_types_carry_themselves() -> None:
    array = np.zeros((), ml_dtypes.bfloat16)
    assert carry(array) is array
    assert uncarry(array, "bfloat16") is array
    with pytest.raises(ValueError, match="float8_e5m2 is carried by uint8, not by int8"):
        uncarry(np.zeros(2, np.int8), "float8_e5m2")
