"""How a value is stored: the order of its hub axes in memory, and the moves between two such orders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bridge.hub.metadata import Layout
from bridge.hub.recipe import Array

Dim = int | str
"""A size, or the name of a dynamic axis; names that the hub leaves open are made unique."""

Dims = tuple[Dim, ...]


class Block(NamedTuple):
    """A run of elements that merges several axes: factors `sizes` in the hub, stored in the order `order`."""

    sizes: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def length(self) -> int:
        return math.prod(self.sizes)

    @property
    def is_idle(self) -> bool:
        """Whether the elements are stored as in the hub; factors of size 1 may stand anywhere."""
        busy = [factor for factor in self.order if self.sizes[factor] != 1]
        return busy == sorted(busy)

    def indices(self) -> Array:
        """For each stored element, its place in the hub's run."""
        return np.arange(self.length).reshape(self.sizes).transpose(self.order).reshape(-1)


class Fold(NamedTuple):
    """An axis whose elements are stored in another order than the hub's, block by block.

    Flattening a channels-last map `[N, H, W, C]` gives the fold of axis 1 with the single block
    `Block((C, H, W), (1, 2, 0))`; concatenating flattened maps gives several blocks.
    """

    axis: int
    blocks: tuple[Block, ...]

    def indices(self) -> Array:
        """For each stored element of the axis, its place in the hub's axis."""
        starts = itertools.accumulate((block.length for block in self.blocks), initial=0)
        runs = [block.indices() + start for block, start in zip(self.blocks, starts, strict=False)]
        return np.concatenate(runs)


class Storage(NamedTuple):
    """Stored axis i is hub axis `order[i]`; at most one axis is folded besides."""

    order: tuple[int, ...]
    fold: Fold | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the value is stored as the hub says."""
        return self.fold is None and self.order == tuple(range(len(self.order)))


class Move(NamedTuple):
    """One step on a stored tensor: `transpose` by a permutation, `reshape` to a shape, or `take`.

    In a shape, -1 and 0 mean what they mean to ONNX' Reshape. The argument of `take` is an axis
    followed by the indices to take along it.
    """

    op: str
    argument: tuple[int, ...]


def plain(rank: int) -> Storage:
    """The hub's own order."""
    return Storage(tuple(range(rank)))


def native(layout: Layout, rank: int) -> Storage:
    """The storage of a channels-first hub value `[N, C, *spatial]` that is kept in a layout."""
    if layout == "channels_first" or rank < 3:
        return plain(rank)
    return Storage((0, *range(2, rank), 1))


def through(storage: Storage, perm: Sequence[int]) -> Storage:
    """The storage of x that `transpose(x, perm)` sees as `storage`."""
    fold = storage.fold and storage.fold._replace(axis=perm[storage.fold.axis])
    return Storage(tuple(perm[axis] for axis in storage.order), fold)


def seen_through(storage: Storage, perm: Sequence[int]) -> Storage:
    """The storage in which `transpose(x, perm)` appears if x has `storage`: the inverse of `through`."""
    inverse = [0] * len(perm)
    for position, axis in enumerate(perm):
        inverse[axis] = position
    return through(storage, inverse)


def stored_dims(dims: Dims, storage: Storage) -> Dims:
    """The dimensions of a value in storage order."""
    return tuple(dims[axis] for axis in storage.order)


def distinction(storage: Storage, dims: Dims) -> tuple[tuple[int, ...], Fold | None]:
    """What of a storage matters in memory: axes of size 1 may stand anywhere."""
    return tuple(axis for axis in storage.order if dims[axis] != 1), storage.fold


def without_idle_fold(storage: Storage, dims: Dims) -> Storage:
    """The storage without a fold that changes nothing: of an axis of size 1, or in the hub's own order."""
    fold = storage.fold
    if fold is None:
        return storage
    idle = dims[fold.axis] == 1 or all(block.is_idle for block in fold.blocks)
    return Storage(storage.order) if idle else storage


class _Atom(NamedTuple):
    """A factor of a hub axis."""

    axis: int
    factor: int
    size: Dim


def _atoms(dims: Dims, storage: Storage, split: Fold | None) -> list[_Atom]:
    """The factors of a stored value in order of storage, with the axis of `split`'s only block split."""
    atoms = []
    for axis in storage.order:
        if split is None or axis != split.axis:
            atoms.append(_Atom(axis, 0, dims[axis]))
            continue
        (block,) = split.blocks
        order = storage.fold.blocks[0].order if storage.fold is not None else range(len(block.sizes))
        atoms.extend(_Atom(axis, factor, block.sizes[factor]) for factor in order)
    return atoms


def _shape(target: Sequence[_Atom], source: Sequence[_Atom]) -> tuple[int, ...] | None:
    """The argument of the Reshape from one sequence to another; None if no argument says it."""
    free = [index for index, atom in enumerate(target) if not isinstance(atom.size, int)]
    if any(atom.size == 0 for atom in target):
        return None
    shape = [atom.size if isinstance(atom.size, int) else -1 for atom in target]
    if len(free) > 1:
        kept = [i for i in free if i < len(source) and source[i].axis == target[i].axis]
        for index in kept:
            shape[index] = 0
        if len(free) - len(kept) > 1:
            return None
    return tuple(shape)


def moves(dims: Dims, start: Storage, end: Storage) -> tuple[Move, ...] | None:
    """The moves that bring a stored value from one storage to another; None if there is no static form.

    Axes of size 1 that change places are a reshape, not a transpose. `dims` are the hub's dimensions.
    """
    start, end = without_idle_fold(start, dims), without_idle_fold(end, dims)
    if start == end:
        return ()
    if start.fold and end.fold and not _same_factors(start.fold, end.fold):
        middle = Storage(end.order)
        first, second = moves(dims, start, middle), moves(dims, middle, end)
        return None if first is None or second is None else first + second
    fold = start.fold or end.fold
    if fold is not None and len(fold.blocks) > 1:
        return _moves_of_blocks(dims, start, end)
    before, after = _atoms(dims, start, fold), _atoms(dims, end, fold)
    result: list[Move] = []
    if before != after:
        if [atom for atom in before if atom.size != 1] == [atom for atom in after if atom.size != 1]:
            shape = _shape(after, before)
            if fold is None and shape is not None:
                same = [atom.size for atom in before] == [atom.size for atom in after]
                return () if same else (Move("reshape", shape),)
        if fold is not None:
            shape = _shape(before, _atoms(dims, start, None))
            if shape is None:
                return None
            result.append(Move("reshape", shape))
        result.append(Move("transpose", tuple(before.index(atom) for atom in after)))
        if fold is not None:
            shape = _shape(_atoms(dims, end, None), after)
            if shape is None:
                return None
            result.append(Move("reshape", shape))
    return tuple(result)


def _same_factors(one: Fold, other: Fold) -> bool:
    """Whether two folds of an axis differ by a transpose of the same factors."""
    sizes = [[block.sizes for block in fold.blocks] for fold in (one, other)]
    return one.axis == other.axis and sizes[0] == sizes[1] and len(one.blocks) == 1


def _moves_of_blocks(dims: Dims, start: Storage, end: Storage) -> tuple[Move, ...] | None:
    """Moves to or from a fold of several blocks: its axis is taken in another order."""
    steps = moves(dims, Storage(start.order), Storage(end.order))
    if steps is None:
        return None
    before: tuple[Move, ...] = ()
    after: tuple[Move, ...] = ()
    if start.fold is not None:
        order = np.argsort(start.fold.indices()).tolist()
        before = (Move("take", (start.order.index(start.fold.axis), *order)),)
    if end.fold is not None:
        order = end.fold.indices().tolist()
        after = (Move("take", (end.order.index(end.fold.axis), *order)),)
    return before + steps + after
