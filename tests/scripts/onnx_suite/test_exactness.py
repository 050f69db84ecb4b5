"""What counts as the rounding of another order of operations, and what does not."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from scripts.onnx_suite.exactness import is_rounding


def third() -> onnx.ModelProto:
    """y = x / 3 in float16."""
    graph = helper.make_graph(
        [helper.make_node("Div", ["x", "three"], ["y"])],
        "third",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [2])],
        [helper.make_tensor("three", TensorProto.FLOAT16, [], [3.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


X = np.array([1.0, 2.0], np.float16)
EXACT = np.array([1 / 3, 2 / 3], np.float16)
OFF = np.array([0.334, 0.6665], np.float16)


def test_nearer_to_the_exact_result_is_rounding() -> None:
    assert is_rounding(third(), [X], [EXACT], [OFF])


def test_farther_than_what_is_expected_is_wrong() -> None:
    assert not is_rounding(third(), [X], [OFF], [EXACT])


def test_no_number_where_one_is_expected_is_wrong() -> None:
    assert not is_rounding(third(), [X], [np.array([np.nan, 2 / 3], np.float16)], [OFF])


def test_another_type_or_shape_is_wrong() -> None:
    assert not is_rounding(third(), [X], [EXACT.astype(np.float32)], [OFF])
    assert not is_rounding(third(), [X], [EXACT[:1]], [OFF])


def test_what_cannot_be_computed_in_float64_is_not_judged() -> None:
    model = third()
    model.graph.node[0].op_type = "NoSuchOperator"
    assert not is_rounding(model, [X], [EXACT], [OFF])
