from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.comparison.accuracy import assess, main_output, mcnemar, wilson

NAMES = ("PyTorch", "TensorFlow")
RNG = np.random.default_rng(0)


def scores(classes: np.ndarray[Any, Any], count: int = 4) -> np.ndarray[Any, Any]:
    return np.eye(count, dtype=np.float32)[classes]


def test_wilson_is_the_published_interval() -> None:
    found = wilson(81, 263)  # Newcombe (1998), table II
    assert found.low == pytest.approx(0.2553, abs=1e-4)
    assert found.high == pytest.approx(0.3662, abs=1e-4)
    assert wilson(0, 20).low == 0
    assert wilson(20, 20).high == 1


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    found = wilson(hits, count)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_mcnemar_is_a_binomial_test() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(3, 9) == pytest.approx(0.14599609375)
    assert mcnemar(1100, 1000) == pytest.approx(mcnemar(1000, 1100))
    assert 0.02 < mcnemar(1100, 1000) < 0.04


def test_equal_predictions_are_equally_right() -> None:
    classes = RNG.integers(0, 4, 100)
    labels = np.where(np.arange(100) < 90, classes, (classes + 1) % 4)
    found = assess(NAMES, "logits", scores(classes), scores(classes) * 2, labels)
    assert found.metric == "accuracy"
    assert found.first is not None
    assert found.first.value == 0.9
    assert found.agreement is not None
    assert found.agreement.value == 1
    assert found.p_value == 1
    assert "both are right for 90.0%" in found.sentence


def test_a_worse_version_is_named_with_its_chance() -> None:
    labels = RNG.integers(0, 4, 200)
    worse = np.where(np.arange(200) < 160, labels, (labels + 1) % 4)
    found = assess(NAMES, "logits", scores(labels), scores(worse), labels)
    assert "no chance" in found.sentence
    few = np.where(np.arange(200) < 198, labels, (labels + 1) % 4)
    assert "may be chance" in assess(NAMES, "logits", scores(labels), scores(few), labels).sentence


def test_without_labels_the_agreement_is_told() -> None:
    first = RNG.normal(size=(50, 3)).astype(np.float32)
    found = assess(NAMES, "logits", first, first + 1e-7, None)
    assert found.metric is None
    assert found.agreement is not None
    assert found.agreement.value == 1
    assert found.largest_difference < 1e-6


def test_one_score_is_a_class_by_its_sign_or_as_a_probability() -> None:
    labels = np.array([0, 1, 1, 0])
    logits = np.array([[-3.0], [2.0], [-1.0], [-2.0]], np.float32)
    found = assess(NAMES, "score", logits, logits, labels)
    assert found.first is not None
    assert found.first.value == 0.75
    probabilities = 1 / (1 + np.exp(-logits))
    again = assess(NAMES, "score", probabilities, probabilities, labels)
    assert again.first == found.first


def test_numbers_have_absolute_errors() -> None:
    truth = RNG.normal(size=(80, 2))
    first = truth + 0.1
    found = assess(NAMES, "y", first, first + 1e-9, truth)
    assert found.metric == "mean absolute error"
    assert found.first is not None
    assert found.first.value == pytest.approx(0.1)
    assert found.first.low <= found.first.value + 1e-12
    assert found.agreement is None
    assert "do not fit" in assess(NAMES, "y", first, first, truth[:, :1]).sentence


def test_special_values_and_zeros_divide_nothing() -> None:
    zeros = np.zeros((4, 2), np.float32)
    assert assess(NAMES, "y", zeros, zeros, None).largest_difference == 0
    assert math.isfinite(assess(NAMES, "y", zeros, zeros + 1, None).largest_difference)


def test_the_output_is_the_one_that_fits_the_labels() -> None:
    labels = RNG.integers(0, 5, 8)
    outputs = [np.zeros((8, 3, 3, 2), np.float32), np.zeros((8, 5), np.float32), np.zeros(8, np.int64)]
    assert main_output(outputs, labels) == 1
    assert main_output(outputs, None) == 0
    assert main_output([np.zeros(8, np.int64), np.zeros((8, 2), np.float32)], None) == 1
