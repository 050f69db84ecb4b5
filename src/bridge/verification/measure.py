"""Distances between outputs, in float64 and piece by piece, so that outputs of any size fit into memory.

NaN and infinities are left out here: where they are the same on both sides, they are at no distance.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_PIECE = 2**22


@dataclass(frozen=True)
class Size:
    """The Euclidean norm of a vector and its largest element by absolute value."""

    norm: float
    largest: float

    @classmethod
    def of(cls, vector: Array) -> Size:
        """Scaled by the largest element, so that squares neither overflow nor vanish."""
        largest = float(np.max(np.abs(vector), initial=0.0))
        if largest == 0.0:
            return cls(0.0, 0.0)
        scaled = np.abs(vector) / largest
        return cls(largest * math.sqrt(float(np.dot(scaled, scaled))), largest)

    def larger(self, other: Size) -> Size:
        """The larger of both, each measure by itself."""
        return Size(max(self.norm, other.norm), max(self.largest, other.largest))

    def map(self, function: Callable[[float], float]) -> Size:
        """A function of each measure."""
        return Size(function(self.norm), function(self.largest))

    def within(self, limit: Size) -> bool:
        """Whether neither measure is beyond the limit's."""
        return self.norm <= limit.norm and self.largest <= limit.largest

    @classmethod
    def total(cls, parts: Iterable[Size]) -> Size:
        """The size of the vector that consists of parts."""
        sizes = list(parts)
        norm = math.hypot(*(each.norm for each in sizes))
        return cls(norm, max((each.largest for each in sizes), default=0.0))


@dataclass(frozen=True)
class Distance:
    """How far the source and the target are from a reference, and the reference's own size.

    `outside` counts elements of the target beyond `atol + rtol * |reference|`, `farthest` is the index of the
    target's element that is farthest off.
    """

    count: int
    reference: Size
    source: Size
    target: Size
    outside: int
    farthest: tuple[int, ...]


def double(array: Array) -> Array:
    """An array as float64 or complex128."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def pieces(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Arrays of one size, flat and as float64 or complex128, piece by piece."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _PIECE):
        yield tuple(double(each[start : start + _PIECE]) for each in flat)


def count_special_mismatches(source: Array, target: Array) -> int:
    """How many elements are NaN or infinite in only one of two arrays, or in both but not the same."""
    wrong = 0
    for ours, theirs in pieces(source, target):
        finite = np.isfinite(ours) & np.isfinite(theirs)
        same = finite | (np.isnan(ours) & np.isnan(theirs)) | (ours == theirs)
        wrong += int(same.size - np.count_nonzero(same))
    return wrong


def distance(
    source: Array, target: Array, reference: Array, *, rtol: float = 0.0, atol: float = 0.0
) -> Distance | None:
    """Measure over the elements in which the source is finite; source and target have the same ones.

    None where the reference does not fit the source: another shape, or not finite where the source is.
    """
    if reference.shape != source.shape:
        return None
    sizes: list[tuple[Size, Size, Size]] = []
    outside = 0
    farthest, position, offset = -1.0, 0, 0
    for ours, theirs, exact in pieces(source, target, reference):
        finite = np.isfinite(ours)
        if not np.all(np.isfinite(exact[finite])):
            return None
        ours, theirs, exact = (np.where(finite, each, 0.0) for each in (ours, theirs, exact))
        error = np.abs(theirs - exact)
        sizes.append((Size.of(exact), Size.of(ours - exact), Size.of(error)))
        outside += int(np.count_nonzero(error > atol + rtol * np.abs(exact)))
        if error.max() > farthest:
            farthest, position = float(error.max()), offset + int(error.argmax())
        offset += error.size
    index = tuple(int(axis) for axis in np.unravel_index(position, source.shape)) if source.size else ()
    return Distance(
        source.size,
        Size.total(each[0] for each in sizes),
        Size.total(each[1] for each in sizes),
        Size.total(each[2] for each in sizes),
        outside,
        index,
    )


@dataclass(frozen=True)
class Spread:
    """How much an output varies over the inputs: root mean square and largest deviation from its mean.

    `relative` is the deviation relative to the size of the output.
    """

    rms: float
    largest: float
    relative: float


def rows(array: Array, batch: int | None) -> Array:
    """The parts of an output that belong to one input each: samples along axis 0, or the whole."""
    return array if batch is not None and array.ndim and array.shape[0] == batch else array[None]


def spread(outputs: Sequence[tuple[Array, Array]], batches: Sequence[int | None]) -> Spread | None:
    """The spread of outputs over all rows; None where no two rows have the same shape.

    Each output comes with an array of the same shape whose finite elements are those that count, and with
    the size of its batch.
    """
    by_shape: dict[tuple[int, ...], list[tuple[Array, Array]]] = defaultdict(list)
    for (output, judged), batch in zip(outputs, batches, strict=True):
        parts = rows(output, batch)
        flat = (parts.reshape(len(parts), -1), rows(judged, batch).reshape(len(parts), -1))
        by_shape[parts.shape[1:]].append(flat)
    deviations, sizes = [], []
    count = 0
    for bucket in by_shape.values():
        length, columns = sum(len(part) for part, _ in bucket), bucket[0][0].shape[1]
        if length < 2:
            continue
        width = max(1, _PIECE // length)
        for start in range(0, columns, width):
            piece, counted = (
                np.concatenate([double(part[side][:, start : start + width]) for part in bucket])
                for side in (0, 1)
            )
            piece = np.where(np.isfinite(counted), piece, 0.0)
            deviations.append(Size.of((piece - piece.mean(axis=0)).reshape(-1)))
            sizes.append(Size.of(piece.reshape(-1)))
            count += piece.size
    if not count:
        return None
    deviation, size = Size.total(deviations), Size.total(sizes)
    relative = deviation.norm / size.norm if size.norm else 0.0
    return Spread(deviation.norm / math.sqrt(count), deviation.largest, relative)


def rows_differ(outputs: Sequence[Array], batches: Sequence[int | None]) -> bool | None:
    """Whether any two rows of one shape differ; None where no two rows have the same shape."""
    first: dict[tuple[int, ...], Array] = {}
    compared = False
    for output, batch in zip(outputs, batches, strict=True):
        parts = rows(output, batch)
        compared |= parts.size > 0 and (parts.shape[1:] in first or len(parts) > 1)
        if parts.size and np.any(parts != first.setdefault(parts.shape[1:], parts[:1])):
            return True
    return False if compared else None
