"""Which axes of a tensor become which axes of another: reshapes, reductions, new and dropped axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bridge.passes.layout.storage import Block, Dim, Dims, Fold, Storage


class Group(NamedTuple):
    """Adjacent axes on one side that become adjacent axes on the other, read in row-major order.

    A group with an empty side is an axis that vanishes (reduced, or of size 1) or appears.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


Groups = tuple[Group, ...]


def inverse(groups: Groups) -> Groups:
    """The groups of the opposite direction."""
    return tuple(Group(group.after, group.before) for group in groups)


def dropping(rank: int, dropped: Iterable[int]) -> Groups:
    """The groups of an operation that removes axes: a reduction without `keepdims`, Squeeze."""
    gone = set(dropped)
    kept = [axis for axis in range(rank) if axis not in gone]
    return (
        *(Group((axis,), (position,)) for position, axis in enumerate(kept)),
        *(Group((axis,), ()) for axis in sorted(gone)),
    )


class _Extent:
    """A product of sizes and names."""

    def __init__(self) -> None:
        self.size = 1
        self.names: Counter[str] = Counter()

    def times(self, dim: Dim) -> None:
        if isinstance(dim, int):
            self.size *= dim
        else:
            self.names[dim] += 1

    def equals(self, other: _Extent) -> bool:
        return self.size == other.size and self.names == other.names

    def is_less(self, other: _Extent) -> bool:
        mine, others = self.names.total(), other.names.total()
        return mine < others or (mine == others and self.size <= other.size)


def _scan(
    before: Sequence[tuple[int, Dim]], after: Sequence[tuple[int, Dim]]
) -> tuple[list[Group], int, int]:
    """Pair axes from the left while products are provably equal; returns what is paired and how far."""
    groups: list[Group] = []
    i = j = 0
    while i < len(before) and j < len(after):
        left, right = _Extent(), _Extent()
        next_i, next_j = i, j
        left.times(before[next_i][1])
        right.times(after[next_j][1])
        next_i, next_j = i + 1, j + 1
        while not left.equals(right):
            if left.is_less(right) and next_i < len(before):
                left.times(before[next_i][1])
                next_i += 1
            elif not left.is_less(right) and next_j < len(after):
                right.times(after[next_j][1])
                next_j += 1
            else:
                return groups, i, j
        groups.append(Group(tuple(a for a, _ in before[i:next_i]), tuple(a for a, _ in after[j:next_j])))
        i, j = next_i, next_j
    return groups, i, j


def matching(before: Dims, after: Dims) -> Groups | None:
    """The finest groups of a row-major reshape between two shapes; None if they cannot be told.

    What neither end proves equal (an unnamed dynamic axis in the middle) becomes one group.
    """
    if 0 in before or 0 in after:
        return None
    left = [(axis, dim) for axis, dim in enumerate(before) if dim != 1]
    right = [(axis, dim) for axis, dim in enumerate(after) if dim != 1]
    groups, i, j = _scan(left, right)
    left, right = left[i:], right[j:]
    tail, i, j = _scan(left[::-1], right[::-1])
    left, right = left[: len(left) - i], right[: len(right) - j]
    if bool(left) != bool(right):
        return None
    if left:
        groups.append(Group(tuple(axis for axis, _ in left), tuple(axis for axis, _ in right)))
    groups.extend(Group(before_axes[::-1], after_axes[::-1]) for before_axes, after_axes in tail[::-1])
    groups.extend(Group((axis,), ()) for axis, dim in enumerate(before) if dim == 1)
    groups.extend(Group((), (axis,)) for axis, dim in enumerate(after) if dim == 1)
    return tuple(groups)


class Anchored(NamedTuple):
    """What one side's storage says of the other's: the order of the axes that both sides share."""

    order: tuple[int, ...]
    fold: Fold | None

    def allows(self, storage: Storage) -> bool:
        """Whether a storage of the other side is consistent with it."""
        known = set(self.order)
        return storage.fold == self.fold and self.order == tuple(a for a in storage.order if a in known)

    def completed(self, rank: int, preferred: Iterable[Storage]) -> Storage:
        """A full storage: a preferred one that is consistent, else new axes beside their neighbours."""
        for storage in preferred:
            candidate = Storage(storage.order, self.fold)
            if self.allows(candidate):
                return candidate
        order = list(self.order)
        for axis in range(rank):
            if axis not in order:
                order.insert(order.index(axis - 1) + 1 if axis > 0 else 0, axis)
        return Storage(tuple(order), self.fold)


def across(groups: Groups, storage: Storage, before: Dims, after: Dims) -> Anchored | None:
    """Carry a storage over an operation that is performed on the stored tensor as it is.

    None if the stored axes of a group are apart, or merge in an order that no fold can express.
    """
    position = {axis: index for index, axis in enumerate(storage.order)}
    live = sorted(
        (position[axis], group_index)
        for group_index, group in enumerate(groups)
        if group.after
        for axis in group.before
    )
    sequence = [group_index for _, group_index in live]
    order: list[int] = []
    fold: Fold | None = None
    for index, group_index in enumerate(sequence):
        group = groups[group_index]
        if index and sequence[index - 1] == group_index:
            continue
        if sequence[index : index + len(group.before)] != [group_index] * len(group.before):
            return None
        stored = sorted(group.before, key=position.__getitem__)
        folded = storage.fold is not None and storage.fold.axis in group.before
        new_fold: Fold | None = None
        target: Sequence[int] = group.after
        if folded:
            assert storage.fold is not None
            if len(group.before) > 1:
                return None
            if len(group.after) == 1:
                new_fold = storage.fold._replace(axis=group.after[0])
            else:
                block = storage.fold.blocks[0]
                if len(storage.fold.blocks) > 1 or tuple(after[axis] for axis in group.after) != block.sizes:
                    return None
                target = [group.after[factor] for factor in block.order]
        elif tuple(stored) != group.before:
            sizes = tuple(size for axis in group.before if isinstance(size := before[axis], int))
            if len(group.after) != 1 or len(sizes) != len(group.before):
                return None
            block = Block(sizes, tuple(group.before.index(axis) for axis in stored))
            new_fold = Fold(group.after[0], (block,))
        if new_fold is not None:
            if fold is not None:
                return None
            fold = new_fold
        order.extend(target)
    return Anchored(tuple(order), fold)
