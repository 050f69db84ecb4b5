"""Equal tensors in other orders of axes, and what is none."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.verification.localise.alike import Index, align, nearest, relative_error

Array = np.ndarray[Any, np.dtype[Any]]


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_any_order_of_axes_is_found(shape: list[int], random: Any) -> None:
    array = draw(*shape)
    order = list(range(array.ndim))
    random.shuffle(order)
    assert align(array, array.transpose(order) * (1 + 1e-9), 1e-6) is not None
    assert align(array, array.reshape(-1), 1e-6) is not None


def test_channels_last_is_plain_even_where_sizes_are_equal() -> None:
    array = draw(2, 4, 4, 4)
    found = align(array, array.transpose(0, 2, 3, 1), 1e-9)
    assert found is not None
    assert found.plain


def test_two_axes_of_one_size_that_change_places_are_not_plain() -> None:
    array = draw(2, 3, 5, 5)
    found = align(array, array.transpose(0, 1, 3, 2), 1e-9)
    assert found is not None
    assert not found.plain


def test_axes_joined_in_another_order_are_not_plain() -> None:
    array = draw(2, 3, 4, 5)
    joined = align(array, array.transpose(0, 2, 3, 1).reshape(2, 60), 1e-9)
    flat = align(array, array.reshape(2, 60), 1e-9)
    assert joined is not None
    assert flat is not None
    assert not joined.plain
    assert flat.plain


def test_other_orders_of_elements_are_other_tensors() -> None:
    array = draw(2, 6, 3)
    assert align(array, array[:, ::-1], 1e-6) is None
    assert align(array, np.roll(array, 1, axis=1), 1e-6) is None
    assert align(array, array + 1e-3, 1e-6) is None


def test_the_nearest_order_of_a_wrong_tensor() -> None:
    array = draw(2, 3, 4, 5)
    found = nearest(array, array.transpose(0, 2, 3, 1) + 0.01)
    assert found is not None
    moved, error = found
    assert moved.shape == (2, 4, 5, 3)
    assert error < 0.02
    assert nearest(array, draw(3, 7)) is None


@pytest.mark.parametrize(
    ("reference", "array", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.0, 2.0 + 2e-6], 1e-6),
        ([0.0, 0.0], [0.0, 1e-30], math.inf),
        ([math.nan, 2.0], [math.nan, 2.0], 0.0),
        ([math.nan, 2.0], [0.0, 2.0], math.inf),
        ([0.0, 2.0], [math.nan, 2.0], math.inf),
        ([math.inf, 2.0], [-math.inf, 2.0], math.inf),
        ([1, 2], [1, 2], 0.0),
        ([1, 2], [1, 3], math.inf),
        ([True, False], [True, True], math.inf),
        ([[1.0]], [1.0], math.inf),
        ([], [], 0.0),
    ],
)
def test_errors(reference: list[Any], array: list[Any], error: float) -> None:
    assert relative_error(np.array(reference), np.array(array)) == pytest.approx(error)


def test_a_mask_hides_no_other_element() -> None:
    scores = draw(4, 50)
    masked = np.where(np.arange(50) < 10, scores, -3e38)
    wrong = np.where(np.arange(50) < 10, scores + 0.1, -3e38)
    assert relative_error(masked, wrong) > 0.01
    assert relative_error(masked, masked * (1 + 1e-12)) < 1e-9


def test_an_index_finds_all_equal_arrays_and_only_those() -> None:
    arrays = [draw(2, 3, 4, seed=seed) for seed in range(5)]
    arrays += [arrays[2].transpose(0, 2, 1), -arrays[2], arrays[2] + 1e-3, np.array(3.0)]
    index = Index(arrays)
    assert [position for position, _ in index.find_all(arrays[2] * (1 + 1e-8), 1e-6)] == [2, 5]
    assert list(index.find_all(draw(24, seed=9), 1e-6)) == []
    assert [position for position, _ in index.find_all(np.array([3.0]), 1e-6)] == [8]


def test_all_orders_are_tried_up_to_six_axes() -> None:
    array = draw(1, 2, 3, 2, 3, 2)
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 97):
        assert align(array, array.transpose(order), 1e-9) is not None
