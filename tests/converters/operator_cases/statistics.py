"""What samples of a distribution must look like; drawn with fixed seeds, the tests always decide the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from operator_cases.case import Array

COUNT = 20_000
_KOLMOGOROV = 1.95
"""The bound of the Kolmogorov-Smirnov statistic times sqrt(n) that one sample in a thousand exceeds."""


def assert_distributed(sample: Array, cumulative: Callable[[Array], Array]) -> None:
    """The Kolmogorov-Smirnov test of a sample against a cumulative distribution function."""
    ordered = np.sort(sample.reshape(-1).astype(np.float64))
    right = cumulative(ordered)
    count = len(ordered)
    above = np.arange(1, count + 1) / count - right
    below = right - np.arange(count) / count
    assert max(above.max(), below.max()) * math.sqrt(count) < _KOLMOGOROV


def normal(mean: float, scale: float) -> Callable[[Array], Array]:
    """The cumulative distribution function of a normal distribution."""
    return np.vectorize(lambda x: 0.5 * (1 + math.erf((x - mean) / (scale * math.sqrt(2)))))


def uniform(low: float, high: float) -> Callable[[Array], Array]:
    """The cumulative distribution function of a uniform distribution."""
    return lambda x: np.clip((x - low) / (high - low), 0, 1)


def assert_frequencies(drawn: Array, probabilities: Array) -> None:
    """Classes along the last axis are as frequent as their probabilities, within 4.5 deviations."""
    count = drawn.shape[-1]
    for row, right in zip(drawn.reshape(-1, count), probabilities, strict=True):
        seen = np.bincount(row, minlength=len(right)) / count
        np.testing.assert_array_less(np.abs(seen - right), 4.5 * np.sqrt(right * (1 - right) / count) + 1e-9)
