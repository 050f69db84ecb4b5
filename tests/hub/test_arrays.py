"""Copies in C order are right whatever the shape, the dtype and the order of axes."""

import numpy as np
import pytest

from bridge.hub.arrays import contiguous


@pytest.mark.parametrize(
    ("shape", "perm"),
    [
        ((300, 70, 7, 7), (2, 3, 1, 0)),
        ((700, 300), (1, 0)),
        ((3, 3, 200, 150), (3, 2, 0, 1)),
        ((1, 400_000), (1, 0)),
        ((5,), (0,)),
        ((), ()),
        ((0, 3), (1, 0)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_equal_to_numpys_copy(shape: tuple[int, ...], perm: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype).transpose(perm)
    copy = contiguous(array)
    assert copy.flags.c_contiguous
    assert copy.shape == array.shape
    assert copy.dtype == array.dtype
    np.testing.assert_array_equal(copy, array)


def test_an_array_in_order_is_not_copied() -> None:
    array = np.zeros((500, 500), np.float32)
    assert np.shares_memory(contiguous(array), array)
