"""Storages: composing with transposes, and moving real arrays from one to another."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.hub.recipe import Array
from bridge.passes.layout.constants import apply, merged, operand_moves, shape_after
from bridge.passes.layout.storage import (
    Block,
    Dims,
    Fold,
    Move,
    Storage,
    moves,
    native,
    plain,
    seen_through,
    through,
)


def stored(array: Array, storage: Storage) -> Array:
    """The definition of a storage, written out."""
    fold = storage.fold
    if fold is not None:
        moved, start, parts = np.moveaxis(array, fold.axis, 0), 0, []
        for sizes, order in fold.blocks:
            stop = start + int(np.prod(sizes))
            part = moved[start:stop].reshape(*sizes, *moved.shape[1:])
            rest = range(len(sizes), part.ndim)
            parts.append(part.transpose(*order, *rest).reshape(-1, *moved.shape[1:]))
            start = stop
        array = np.moveaxis(np.concatenate(parts), 0, fold.axis)
    return array.transpose(storage.order)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, ...], Storage, Storage]:
    runs = draw(st.lists(st.lists(st.sampled_from([2, 3]), min_size=1, max_size=3), min_size=1, max_size=2))
    dims = tuple(draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3)))
    folded = draw(st.integers(0, len(dims)))
    dims = (*dims[:folded], sum(map(math.prod, runs)), *dims[folded:])

    def storage() -> Storage:
        order = tuple(draw(st.permutations(range(len(dims)))))
        if draw(st.booleans()):
            return Storage(order)
        blocks = (Block(tuple(run), tuple(draw(st.permutations(range(len(run)))))) for run in runs)
        return Storage(order, Fold(folded, tuple(blocks)))

    return dims, storage(), storage()


@given(cases())
def test_moves_do_what_storages_mean(case: tuple[tuple[int, ...], Storage, Storage]) -> None:
    dims, start, end = case
    array = np.arange(np.prod(dims)).reshape(dims)
    steps = moves(dims, start, end)
    assert steps is not None
    np.testing.assert_array_equal(apply(stored(array, start), steps), stored(array, end))


@given(cases(), st.data())
def test_views_compose(case: tuple[tuple[int, ...], Storage, Storage], data: st.DataObject) -> None:
    dims, storage, _ = case
    perm = tuple(data.draw(st.permutations(range(len(dims)))))
    view = np.arange(np.prod(dims)).reshape(dims)
    base = through(storage, perm)
    assert seen_through(base, perm) == storage
    np.testing.assert_array_equal(stored(view, storage), stored(view.transpose(np.argsort(perm)), base))


@given(cases(), st.booleans(), st.integers(0, 3))
def test_constants_broadcast_as_before(
    case: tuple[tuple[int, ...], Storage, Storage], keep_rank: bool, missing: int
) -> None:
    dims, storage, _ = case
    shape = dims[missing:]
    constant = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    data = np.arange(np.prod(dims)).reshape(dims)
    steps = operand_moves(shape, storage, keep_rank=keep_rank)
    moved = apply(constant, steps)
    assert moved.shape == shape_after(shape, steps)
    np.testing.assert_array_equal(stored(data, storage) + moved, stored(data + constant, storage))
    if keep_rank:
        assert moved.ndim == len(dims)


def test_a_channel_constant_becomes_a_vector_in_channels_last() -> None:
    last = native("channels_last", 4)
    assert operand_moves((8, 1, 1), last, keep_rank=False) == (Move("reshape", (8,)),)
    assert operand_moves((1, 8, 1, 1), last, keep_rank=False) == (Move("reshape", (1, 1, 1, 8)),)
    assert operand_moves((), last, keep_rank=False) == ()
    assert operand_moves((4, 5, 5), last, keep_rank=False) == (
        Move("reshape", (1, 4, 5, 5)),
        Move("transpose", (0, 2, 3, 1)),
        Move("reshape", (5, 5, 4)),
    )


def test_merged_moves() -> None:
    back_and_forth = [Move("transpose", (0, 2, 3, 1)), Move("transpose", (0, 3, 1, 2))]
    assert merged(back_and_forth) == ()
    assert merged([*back_and_forth, Move("reshape", (2,))]) == (Move("reshape", (2,)),)


def test_dynamic_axes() -> None:
    dims: Dims = ("N", 4, "H", "W")
    last = native("channels_last", 4)
    assert moves(dims, plain(4), last) == (Move("transpose", (0, 2, 3, 1)),)
    one: Dims = ("N", 4, 1, 1)
    assert moves(one, plain(4), last) == (Move("reshape", (-1, 1, 1, 4)),)
    wide: Dims = ("N", 1, "H", 1)
    assert moves(wide, plain(4), Storage((0, 2, 1, 3))) == (Move("reshape", (0, -1, 1, 1)),)
    fold = Fold(2, (Block((2, 3), (1, 0)),))
    assert moves(("N", "M", 6), plain(3), Storage((1, 0, 2), fold)) == (
        Move("reshape", (0, 0, 2, 3)),
        Move("transpose", (1, 0, 3, 2)),
        Move("reshape", (0, 0, 6)),
    )
    assert moves((6, "N", "M"), plain(3), Storage((0, 1, 2), fold._replace(axis=0))) is None
