from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge.formats.detect import Framework
from bridge.verification.conventions import excuse, is_convention

FINITE, SPECIAL = np.ones(3), np.array([1.0, np.nan, np.inf])


def node(name: str, operator: str, inputs: list[str], value: Any) -> tuple[dict[str, Any], Any]:
    return {"name": name, "operator": operator, "inputs": inputs}, value


@pytest.mark.parametrize(
    ("framework", "operator", "excused"),
    [
        ("tf", "MaxPool", True),
        ("tf", "Softmax", True),
        ("tf", "TopKV2", True),
        ("tf", "Max", False),
        ("tf", "Softsign", False),
        ("torch", "aten.max_pool2d.default", False),
        ("torch", "aten.softmax.int", False),
        ("torch", "aten.sign.default", True),
        ("torch", "aten.softsign.default", False),
        ("torch", "aten.gelu.default", True),
        ("onnx", "ReduceMax", True),
        ("onnx", "Softmax", False),
        ("onnx", "Resize", True),
    ],
)
def test_operators_with_a_way_of_their_own(framework: Framework, operator: str, excused: bool) -> None:
    trace = [node("a", "Conv", ["x", "w"], SPECIAL), node("b", operator, ["a"], FINITE)]
    found = excuse(framework, trace, {"x": SPECIAL})
    assert (found is not None) == excused
    assert found is None or operator in found


@pytest.mark.parametrize(
    ("framework", "operator", "nan", "inf"),
    [
        ("tf", "MaxPool", True, False),
        ("tf", "Softmax", True, True),
        ("tf", "ResizeBilinear", False, True),
        ("torch", "aten.gelu.default", False, True),
        ("torch", "aten.topk.default", False, True),
        ("onnx", "ArgMax", False, True),
        ("torch", "aten.sign.default", True, False),
    ],
)
def test_nan_and_infinities_are_told_apart(framework: Framework, operator: str, nan: bool, inf: bool) -> None:
    for value, excused in ((np.nan, nan), (np.inf, inf)):
        feeds = {"x": np.array([1.0, value])}
        assert (excuse(framework, [node("b", operator, ["x"], FINITE)], feeds) is not None) == excused
        assert (excuse(framework, [node("b", operator, [], FINITE)], feeds) is not None) == excused


def test_a_value_that_is_lost_before_is_no_excuse() -> None:
    trace = [
        node("a", "Conv", ["x", "w"], SPECIAL),
        node("b", "Select", ["a"], FINITE),
        node("c", "MaxPool", ["b"], FINITE),
        node("n", "ArgMax", ["c"], np.ones(3, np.int64)),
    ]
    assert excuse("tf", trace, {"x": SPECIAL}) is None
    assert excuse("tf", [node("c", "MaxPool", ["x"], FINITE)], {"x": SPECIAL}) is not None
    assert excuse("tf", [node("c", "MaxPool", ["x"], FINITE)], {"x": FINITE}) is None


def test_operators_that_differ_in_some_framework() -> None:
    assert all(
        map(is_convention, ("MaxPool", "aten.max_pool2d.default", "TopKV2", "aten.sign.default", "Softmax"))
    )
    assert not any(map(is_convention, ("Conv", "aten.softsign.default", "Relu", "aten.linear.default")))
