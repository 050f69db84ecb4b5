"""What counts as what a case says."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from scripts.onnx_suite.compare import difference

ONE = np.array([1.0], np.float32)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (ONE, ONE),
        (np.array([np.nan, np.inf]), np.array([np.nan, np.inf])),
        (np.array([1.0005], np.float32), ONE),
        (np.array([1.01], ml_dtypes.bfloat16), np.array([1.0], ml_dtypes.bfloat16)),
        ([ONE, None], [ONE, None]),
        (None, None),
        (np.array([b"\xc3\xa9"], object), np.array(["é"], object)),
        (np.array([1 + 2j], np.complex64), np.array([1 + 2j], np.complex64)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_equal(actual: Any, expected: Any) -> None:
    assert difference(actual, expected, rtol=1e-3, atol=1e-7) is None


@pytest.mark.parametrize(
    ("actual", "expected", "told"),
    [
        (ONE.astype(np.float64), ONE, "float64 instead of float32"),
        (ONE.reshape(1, 1), ONE, "shape [1, 1] instead of [1]"),
        (np.array([1.01], np.float32), ONE, "1.01 instead of 1 at [0], 1 of 1"),
        (np.array([np.nan]), np.array([1.0]), "nan instead of 1 at [0], 1 of 1"),
        (np.array([2]), np.array([1]), "2 instead of 1 at [0], 1 of 1"),
        ([ONE], [ONE, ONE], "a list of 1 instead of a list of 2"),
        (ONE, [ONE], "a tensor instead of a list of 1"),
        (None, ONE, "nothing instead of a tensor"),
        (np.array(["a"], object), np.array(["b"], object), "other strings"),
    ],
)
def test_different(actual: Any, expected: Any, told: str) -> None:
    assert difference(actual, expected, rtol=1e-3, atol=1e-7) == told


def test_random_values_need_type_and_shape_only() -> None:
    assert difference(ONE + 5, ONE, rtol=0, atol=0, values=False) is None
    assert difference(ONE[None], ONE, rtol=0, atol=0, values=False) is not None
