"""Copying large arrays in another order of axes."""

from __future__ import annotations

import itertools

import numpy as np

from bridge.hub.recipe import Array

_BLOCK_BYTES = 1 << 19
"""What is moved at a time: reading and writing stay within a second-level cache."""


def contiguous(array: Array) -> Array:
    """The array in C order: itself if it is, else a copy.

    A large transposed array is copied block by block over its two longest axes, which is
    about twice as fast as numpy's copy where neither order of axes suits the cache.
    """
    if array.flags.c_contiguous or array.nbytes < _BLOCK_BYTES or array.ndim < 2:
        return np.ascontiguousarray(array).reshape(array.shape)
    result = np.empty(array.shape, array.dtype)
    first, second = sorted(range(array.ndim), key=lambda axis: -array.shape[axis])[:2]
    inner = array.nbytes // (array.shape[first] * array.shape[second])
    side = max(1, int((_BLOCK_BYTES / max(inner, 1)) ** 0.5))
    index: list[slice] = [slice(None)] * array.ndim
    starts = (range(0, array.shape[axis], side) for axis in (first, second))
    for row, column in itertools.product(*starts):
        index[first], index[second] = slice(row, row + side), slice(column, column + side)
        result[tuple(index)] = array[tuple(index)]
    return result
