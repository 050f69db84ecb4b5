"""Central differences against gradients that are right, wrong and in between."""

from __future__ import annotations

import numpy as np
import pytest
from networks import sides

from bridge.verification.derivatives import (
    DIRECTIONS,
    STEP,
    Slope,
    gradients_at,
    moved,
    slope,
    stops_gradients,
)

X = np.random.default_rng(3).standard_normal((4, 5))


@pytest.mark.parametrize(
    ("difference", "gradient", "finding"),
    [
        (1.0, 1.005, "right"),
        (0.0, 0.0, "right"),
        (1.0, 1.03, "unclear"),
        (1.0, 1.2, "wrong"),
        (1.0, -1.0, "wrong"),
        (1.0, 0.0, "wrong"),
        (np.nan, 1.0, "unclear"),
        (np.inf, 1.0, "unclear"),
    ],
)
def test_what_a_difference_says_of_a_gradient(difference: float, gradient: float, finding: str) -> None:
    assert Slope(difference, gradient).finding == finding


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_move_both_ways_by_a_part_of_their_size(dtype: type) -> None:
    array = X.astype(dtype)
    pairs = moved(array, 1)
    assert len(pairs) == DIRECTIONS
    for after, before in pairs:
        assert after.dtype == before.dtype == dtype
        assert np.all(np.abs(after - before) >= STEP * np.abs(array))
        np.testing.assert_allclose((after + before) / 2, array, rtol=1e-3)
    assert not np.array_equal(pairs[0][0], pairs[1][0])
    np.testing.assert_array_equal(pairs[0][0], moved(array, 1)[0][0])


def test_zeros_and_small_arrays_move_too() -> None:
    for array in (np.zeros((2, 2), np.float32), np.float32([[0.0]])):
        after, before = moved(array, 0)[0]
        assert np.all(after != before)


@pytest.mark.parametrize(("factor", "finding"), [(1.0, "right"), (1.5, "wrong"), (0.0, "wrong")])
def test_the_slope_of_a_function_is_its_gradients(factor: float, finding: str) -> None:
    weight = np.random.default_rng(4).standard_normal(X.shape)
    for pair in moved(X, 2):
        outputs = [[np.zeros(3), np.tanh(each)] for each in pair]
        gradient = factor * weight * (1 - np.tanh(X) ** 2)
        found = slope((outputs[0], outputs[1]), pair, gradient, {1: weight})
        assert found.finding == finding


def test_a_side_tells_its_gradients_and_whether_it_stops_some() -> None:
    feeds = {"x": X[:, :4].astype(np.float32)}
    cotangents = {0: np.ones((4, 3))}
    with sides({"operator": "StopGradient"}, {"operator": "aten.relu.default"}) as (source, target):
        found = gradients_at(source, feeds, cotangents, "one")
        assert found is not None
        assert found.outputs[0].shape == (4, 3)
        assert found.inputs["x"].shape == (4, 4)
        assert gradients_at(source, {}, cotangents, "none") is None
        assert stops_gradients(source, feeds, "two")
        assert not stops_gradients(target, {"inputs": feeds["x"]}, "three")
        assert not stops_gradients(target, {}, "none")
