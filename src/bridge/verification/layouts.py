"""Channels first or channels last: which of the two turns one shape into another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Permutation = tuple[int, ...]
"""`np.transpose(array, permutation)`: axis i of the result is axis `permutation[i]` of the array."""
Shape = Sequence[int | str | None]
"""The size of each axis; a name or None is a size that is not known or not fixed."""

_SPATIAL_RANKS = (3, 4, 5)
"""Ranks of batches of sequences, images and volumes with channels."""


def first_to_last(rank: int) -> Permutation:
    """The permutation that moves the channels from axis 1 to the end."""
    return (0, *range(2, rank), 1)


def last_to_first(rank: int) -> Permutation:
    """The permutation that moves the channels from the end to axis 1."""
    return (0, rank - 1, *range(1, rank - 1))


def inverse(permutation: Permutation | None) -> Permutation | None:
    """The permutation that undoes another."""
    return None if permutation is None else tuple(permutation.index(axis) for axis in range(len(permutation)))


def transposed(array: Array, permutation: Permutation | None) -> Array:
    """An array by a permutation, or as it is."""
    return array if permutation is None else np.transpose(array, permutation)


def candidates(rank: int) -> Iterator[Permutation]:
    """The permutations between the two layouts: of batches, then of single images and volumes."""
    if rank not in _SPATIAL_RANKS:
        return
    yield from dict.fromkeys((first_to_last(rank), last_to_first(rank)))
    if rank < _SPATIAL_RANKS[-1]:
        yield (*range(1, rank), 0)
        yield (rank - 1, *range(rank - 1))


def spec_layout(ours: Shape | None, theirs: Shape | None) -> Permutation | None:
    """The permutation from our shape, as a model declares it, to theirs; None where they are in one layout.

    Fixed sizes decide: a permutation is answered where the shapes contradict each other as they are and
    not if permuted, or where permuted they agree in more axes: (N, 3, H, W) and (N, H, W, 3). Where both
    layouts fit equally well, they are taken for the same.
    """
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    as_is = _agreement(ours, theirs)
    best, found = (-1 if as_is is None else as_is), None
    for permutation in candidates(len(ours)):
        if permutation[0] != 0 and not all(isinstance(size, int) for size in (*ours, *theirs)):
            continue
        agreed = _agreement([ours[axis] for axis in permutation], theirs)
        if agreed is not None and agreed > best:
            best, found = agreed, permutation
    return found


def _agreement(ours: Shape, theirs: Shape) -> int | None:
    """In how many axes besides the first both sizes are fixed and equal; None if any two contradict."""
    count = 0
    for axis, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if isinstance(one, int) and isinstance(other, int):
            if one != other:
                return None
            count += axis > 0
    return count


def array_layout(ours: Sequence[int], theirs: Sequence[int]) -> tuple[Permutation | None, bool]:
    """The permutation that turns an array of their shape into ours, and whether both layouts fit.

    None where the shapes are equal, or where no change of layout makes them so.
    """
    fitting = [
        permutation
        for permutation in candidates(len(ours))
        if len(theirs) == len(ours) and tuple(theirs[axis] for axis in permutation) == tuple(ours)
    ]
    if tuple(ours) == tuple(theirs):
        return None, max(ours[1:], default=1) > 1 and any(permutation[0] == 0 for permutation in fitting)
    return (fitting[0] if fitting else None), False
