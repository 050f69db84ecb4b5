"""How far float64 arrays are apart, relative to their own size: gradients, changes in training, outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NEAR_ZERO = 1e-6
"""An array is held against at least this fraction of the largest one, element for element."""


def is_floating(array: Array) -> bool:
    """Whether an array holds real floating-point numbers, of any width."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def relative_error(source: Array, target: Array, scale: float) -> float:
    """The Euclidean distance of two arrays over the size of the source's.

    Its root mean square counts as at least NEAR_ZERO times `scale`. Infinite where NaN or infinities are in
    other places.
    """
    finite = np.isfinite(source)
    if not np.array_equal(finite, np.isfinite(target)):
        return math.inf
    if not np.array_equal(source[~finite], target[~finite], equal_nan=True):
        return math.inf
    ours, theirs = source[finite], target[finite]
    distance = float(np.linalg.norm((theirs - ours).reshape(-1)))
    if distance == 0.0:
        return 0.0
    size = max(float(np.linalg.norm(ours.reshape(-1))), NEAR_ZERO * scale * math.sqrt(ours.size))
    return distance / size if size else math.inf


def largest_rms(arrays: Sequence[Array]) -> float:
    """The largest root mean square of any of the arrays, NaN and infinities left out."""
    finite = [each[np.isfinite(each)] for each in arrays]
    return max((float(np.sqrt(np.mean(np.square(each)))) for each in finite if each.size), default=0.0)


def function_error(source: Sequence[Array], target: Sequence[Array]) -> float:
    """The largest relative Euclidean distance of two outputs; infinite where their shapes differ."""
    errors = [0.0]
    for ours, theirs in zip(source, target, strict=True):
        if ours.shape != theirs.shape:
            return math.inf
        if ours.dtype.kind == "f" and ours.size:
            errors.append(relative_error(ours, np.asarray(theirs, np.float64), largest_rms([ours])))
    return max(errors)
