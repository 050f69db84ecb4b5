"""Whether two arrays are the same tensor, up to rounding and to the order of their axes."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_PROBES = 64
_LONGEST = 6
"""Axes, at most, whose orders are all tried."""

_HUGE = 1e8
"""Elements from here on are masks beside smaller ones, which they must not hide."""


def relative_error(reference: Array, array: Array) -> float:
    """The distance of two arrays of one shape: the larger of the relative Euclidean and maximum norms.

    Infinity where special values are in other places, where integers or booleans differ, or shapes do.
    """
    if reference.shape != array.shape:
        return math.inf
    if reference.dtype.kind != "f" and array.dtype.kind != "f":
        return 0.0 if np.array_equal(reference, array) else math.inf
    first, second = reference.astype(np.float64, copy=False), array.astype(np.float64, copy=False)
    finite = np.isfinite(first)
    if not np.array_equal(finite, np.isfinite(second)):
        return math.inf
    if not finite.all():
        if not np.array_equal(first[~finite], second[~finite], equal_nan=True):
            return math.inf
        first, second = first[finite], second[finite]
    return _finite_error(first.reshape(-1), second.reshape(-1))


def _finite_error(first: Array, second: Array) -> float:
    size = np.abs(first)
    largest = float(size.max(initial=0.0))
    huge = size >= _HUGE
    if largest >= _HUGE and not huge.all():
        return max(
            _finite_error(first[huge], second[huge]),
            _finite_error(first[~huge], second[~huge]),
        )
    difference = first - second
    farthest = float(np.abs(difference).max(initial=0.0))
    if farthest == 0.0:
        return 0.0
    if largest == 0.0:
        return math.inf
    norm = float(np.linalg.norm(first / largest))
    return max(farthest / largest, float(np.linalg.norm(difference / largest)) / norm)


@dataclass(frozen=True)
class Alignment:
    """How one array is another: `error` after moving its axes.

    `plain` where the move is one that layouts differ by. It is not where two axes of one size have changed
    places, which only the elements tell, or where axes were joined in another order than the array has.
    """

    error: float
    plain: bool


def align(source: Array, target: Array, tolerance: float) -> Alignment | None:
    """Find a move of axes that makes `source` be `target`; None where there is none within the tolerance."""
    first, second = _squeezed(source), _squeezed(target)
    if first.size != second.size:
        return None
    probes = np.unique(np.linspace(0, second.size - 1, min(_PROBES, second.size)).astype(np.int64))
    scale = _scale(second)
    refused = set()
    for moved, goal, standard in _moves(first, second):
        shapes = (moved.shape, goal.shape)
        if _agree_at(moved, goal, probes, tolerance, scale):
            error = relative_error(np.asarray(moved).reshape(goal.shape), goal)
            if error <= tolerance:
                unmoved = moved is first and goal is second
                known_order = standard or shapes not in refused
                plain = unmoved or (known_order and moved.ndim <= goal.ndim)
                return Alignment(error, plain)
        refused.add(shapes)
    return None


def nearest(source: Array, target: Array) -> tuple[Array, float] | None:
    """`source` with its axes moved so that it comes nearest to `target`, and their distance.

    None where no move gives the target's shape.
    """
    first, second = _squeezed(source), _squeezed(target)
    if first.size != second.size or first.ndim != second.ndim:
        return None
    best: tuple[Array, float] | None = None
    for moved, _, _ in _moves(first, second):
        if moved.shape == second.shape:
            error = relative_error(moved, second)
            if best is None or error < best[1]:
                best = moved.reshape(target.shape), error
    return best


def _squeezed(array: Array) -> Array:
    return array.reshape([size for size in array.shape if size != 1])


def _scale(array: Array) -> float:
    if array.dtype.kind != "f":
        return 0.0
    finite = array[np.isfinite(array)]
    return float(np.abs(finite).max(initial=0.0))


def _agree_at(moved: Array, goal: Array, probes: Array, tolerance: float, scale: float) -> bool:
    """Whether some elements agree; `moved` has the axes of `goal`, or a finer division of them."""
    ours = moved[np.unravel_index(probes, moved.shape)] if moved.ndim else moved.reshape(1)
    theirs = goal[np.unravel_index(probes, goal.shape)] if goal.ndim else goal.reshape(1)
    if ours.dtype.kind != "f" and theirs.dtype.kind != "f":
        return bool(np.array_equal(ours, theirs))
    return bool(np.allclose(ours, theirs, rtol=tolerance, atol=2 * tolerance * scale, equal_nan=True))


def _moves(first: Array, second: Array) -> Iterator[tuple[Array, Array, bool]]:
    """Views of the two arrays with equal flat positions if they are the same tensor, the plain ones first.

    The third item says whether the move is one between channels first and channels last.
    """
    yield first, second, True
    ranks = (first.ndim, second.ndim)
    if min(ranks) == 0 or max(ranks) > _LONGEST:
        return
    if ranks[0] >= ranks[1]:
        for order, standard in _orders(first.ndim):
            if _merges(tuple(first.shape[axis] for axis in order), second.shape):
                yield first.transpose(order), second, standard
    if ranks[0] < ranks[1]:
        for order, standard in _orders(second.ndim):
            if _merges(tuple(second.shape[axis] for axis in order), first.shape):
                yield first, second.transpose(order), standard


def _orders(rank: int) -> Iterator[tuple[tuple[int, ...], bool]]:
    """The orders of axes but the present one, those that move channels past the spatial axes first."""
    identity = tuple(range(rank))
    standard = []
    if rank >= 3:
        standard = [(0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))]
    if rank >= 2:
        # A batch of one image has no axis for the batch here.
        standard += [(*range(1, rank), 0), (rank - 1, *range(rank - 1))]
    for order in dict.fromkeys(standard):
        yield order, True
    for order in itertools.permutations(identity):
        if order != identity and order not in standard:
            yield order, False


def _merges(fine: Sequence[int], coarse: Sequence[int]) -> bool:
    """Whether neighbouring axes of `fine` multiply up to the axes of `coarse`."""
    axes = iter(fine)
    for size in coarse:
        product = 1
        while product < size:
            product *= next(axes, size + 1)
        if product != size:
            return False
    return next(axes, None) is None


@dataclass(frozen=True)
class _Fingerprint:
    """What no order of elements changes."""

    norm: float
    total: float
    lowest: float
    highest: float
    special: int


def fingerprint(array: Array) -> _Fingerprint:
    values = array.astype(np.float64, copy=False).reshape(-1)
    finite = np.isfinite(values)
    special = 0
    if not finite.all():
        special = int(values.size - np.count_nonzero(finite))
        values = values[finite]
    if not values.size:
        return _Fingerprint(0.0, 0.0, 0.0, 0.0, special)
    lowest, highest = float(values.min()), float(values.max())
    scale = max(abs(lowest), abs(highest)) or 1.0
    scaled = values / scale
    return _Fingerprint(
        scale * float(np.linalg.norm(scaled)), scale * float(scaled.sum()), lowest, highest, special
    )


def _compatible(first: _Fingerprint, second: _Fingerprint, size: int, tolerance: float) -> bool:
    if first.special != second.special:
        return False
    norm = max(first.norm, second.norm)
    largest = max(abs(first.lowest), abs(first.highest))
    bound = 2 * tolerance
    return (
        abs(first.norm - second.norm) <= bound * norm
        and abs(first.total - second.total) <= bound * math.sqrt(size) * norm
        and abs(first.lowest - second.lowest) <= bound * largest
        and abs(first.highest - second.highest) <= bound * largest
    )


class Index:
    """Arrays by the number of their elements and their norm, to find equal ones among many."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._arrays = arrays
        self._prints = [fingerprint(array) for array in arrays]
        by_size: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for position, array in enumerate(arrays):
            by_size[array.size].append((self._prints[position].norm, position))
        self._by_size = {size: sorted(entries) for size, entries in by_size.items()}

    def find_all(self, target: Array, tolerance: float) -> Iterator[tuple[int, Alignment]]:
        """Every array that is `target`, in order."""
        entries = self._by_size.get(target.size, [])
        wanted = fingerprint(target)
        low = bisect_left(entries, (wanted.norm * (1 - 3 * tolerance), -1))
        near = itertools.takewhile(lambda entry: entry[0] <= wanted.norm * (1 + 3 * tolerance), entries[low:])
        for position in sorted(position for _, position in near):
            if _compatible(self._prints[position], wanted, target.size, tolerance):
                alignment = align(self._arrays[position], target, tolerance)
                if alignment is not None:
                    yield position, alignment
