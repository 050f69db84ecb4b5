"""Groups of axes: finding them in a reshape, and carrying storages across them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.passes.layout.axes import Anchored, Group, across, dropping, inverse, matching
from bridge.passes.layout.storage import Block, Dims, Fold, Storage, plain


@pytest.mark.parametrize(
    ("before", "after", "groups"),
    [
        (("N", 8, 4, 5), ("N", 160), {((0,), (0,)), ((1, 2, 3), (1,))}),
        (("N", 8, 1, 1), ("N", 8), {((0,), (0,)), ((1,), (1,)), ((2,), ()), ((3,), ())}),
        (("N", 6), ("N", 2, 3), {((0,), (0,)), ((1,), (1, 2))}),
        (("N", 8, "H", "W"), ("N", 8, "L"), {((0,), (0,)), ((1,), (1,)), ((2, 3), (2,))}),
        (("?1", 8, 4, 5), ("?2", 160), {((0,), (0,)), ((1, 2, 3), (1,))}),
        ((2, 3, 4), (4, 3, 2), {((0, 1, 2), (0, 1, 2))}),
        (("N", 12, 6), ("N", 3, 4, 6), {((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))}),
        (("N", "H", 4), ("N", 4, "H"), {((0,), (0,)), ((1, 2), (1, 2))}),
        ((1, 1), (1,), {((0,), ()), ((1,), ()), ((), (0,))}),
    ],
)
def test_matching(before: Dims, after: Dims, groups: set[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    found = matching(before, after)
    assert found is not None
    assert {tuple(group) for group in found} == groups


@pytest.mark.parametrize(("before", "after"), [((0, 3), (3, 0)), (("N", 4), (1, 1)), (("N",), (1,))])
def test_not_matching(before: Dims, after: Dims) -> None:
    assert matching(before, after) is None


def test_flattening_channels_last_is_a_fold_and_back() -> None:
    before: Dims = ("N", 8, 4, 5)
    after: Dims = ("N", 160)
    groups = matching(before, after)
    assert groups is not None
    last = Storage((0, 2, 3, 1))
    folded = Anchored((0, 1), Fold(1, (Block((8, 4, 5), (1, 2, 0)),)))
    assert across(groups, last, before, after) == folded
    assert across(groups, plain(4), before, after) == Anchored((0, 1), None)
    assert across(inverse(groups), Storage((0, 1), folded.fold), after, before) == Anchored(
        (0, 2, 3, 1), None
    )


def test_a_fold_of_other_factors_or_of_dynamic_axes_cannot_cross() -> None:
    groups = matching(("N", 12), ("N", 3, 4))
    assert groups is not None
    other = Storage((0, 1), Fold(1, (Block((4, 3), (1, 0)),)))
    assert across(groups, other, ("N", 12), ("N", 3, 4)) is None
    before: Dims = ("N", 8, "H", "W")
    groups = matching(before, ("N", "K"))
    assert groups is not None
    assert across(groups, Storage((0, 2, 3, 1)), before, ("N", "K")) is None


def test_axes_of_a_group_must_be_adjacent_in_storage() -> None:
    before: Dims = ("N", 8, 4, 5)
    after: Dims = ("N", 32, 5)
    groups = matching(before, after)
    assert groups is not None
    assert across(groups, Storage((0, 2, 3, 1)), before, after) is None
    assert across(groups, Storage((0, 3, 1, 2)), before, after) == Anchored((0, 2, 1), None)


def test_reductions_and_new_axes() -> None:
    groups = dropping(4, [1, 2])
    assert across(groups, Storage((0, 3, 1, 2)), ("N", 4, 5, 8), ("N", 8)) == Anchored((0, 1), None)
    assert across(dropping(4, [1]), Storage((0, 3, 1, 2)), ("N", 4, 5, 8), ("N", 5, 8)) == Anchored(
        (0, 2, 1), None
    )
    anchored = across(inverse(dropping(4, [2, 3])), plain(2), ("N", 8), ("N", 8, 1, 1))
    assert anchored == Anchored((0, 1), None)
    last = Storage((0, 2, 3, 1))
    assert anchored.allows(last)
    assert anchored.completed(4, [last, plain(4)]) == last
    assert anchored.completed(4, []) == plain(4)


@settings(deadline=None)
@given(st.data())
def test_across_is_what_a_row_major_reshape_does(data: st.DataObject) -> None:
    before = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4)))
    total = int(np.prod(before))
    options = [
        s for n in (1, 2, 3) for s in np.ndindex(*[total + 1] * n) if np.prod(s) == total and 0 not in s
    ]
    after = data.draw(st.sampled_from(options))
    groups = matching(before, after)
    assert groups is not None
    storage = Storage(tuple(data.draw(st.permutations(range(len(before))))))
    anchored = across(groups, storage, before, after)
    assume(anchored is not None and anchored.fold is None)
    assert anchored is not None
    target = anchored.completed(len(after), [])
    array = np.arange(total).reshape(before)
    np.testing.assert_array_equal(
        array.transpose(storage.order).reshape([after[axis] for axis in target.order]),
        array.reshape(after).transpose(target.order),
    )
    assert Group((), ()) not in groups
