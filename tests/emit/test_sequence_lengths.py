"""Recurrences over sequences of different lengths, or with masks, as PyTorch's own layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper

from bridge.emit.imported import load_emitted

from .test_recurrent import FEATURES, GATES, HIDDEN, convert, floats

STEPS = np.array([5, 2, 0, 4], np.int32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1]], np.bool_)


def tensors(op: str, directions: int) -> list[onnx.TensorProto]:
    rows = GATES[op] * HIDDEN
    return [
        numpy_helper.from_array(floats(directions, rows, FEATURES), "rnn.W"),
        numpy_helper.from_array(floats(directions, rows, HIDDEN), "rnn.R"),
        numpy_helper.from_array(floats(directions, 2 * rows), "rnn.B"),
    ]


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[Any]]], outputs: list[str], weights: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "lengths",
        [helper.make_tensor_value_info(name, *what) for name, what in inputs.items()],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def check(made: onnx.ModelProto, feeds: dict[str, Any], directory: Path) -> str:
    """Compare with onnxruntime; the emitted source."""
    emitted = convert(made, "torch", directory)
    expected = ort.InferenceSession(made.SerializeToString()).run(None, feeds)
    with torch.no_grad():
        found = load_emitted(directory)(*(torch.from_numpy(each) for each in feeds.values()))
    for wanted, got in zip(expected, found if isinstance(found, tuple) else (found,), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-5, atol=1e-6)
    return emitted.source


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("swapped", [False, True])
def test_lengths(op: str, direction: str, swapped: bool, tmp_path: Path) -> None:
    directions = 2 if direction == "bidirectional" else 1
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    options = {"linear_before_reset": 1} if op == "GRU" else {}
    nodes = [helper.make_node("Transpose", ["x"], ["first"], perm=[1, 0, 2])] if swapped else []
    arguments = ["first" if swapped else "x", "rnn.W", "rnn.R", "rnn.B", "lengths"]
    nodes.append(helper.make_node(op, arguments, outputs, hidden_size=HIDDEN, direction=direction, **options))
    inputs = {"x": (1, ["N", "T", FEATURES] if swapped else ["T", "N", FEATURES]), "lengths": (6, ["N"])}
    x = floats(4, 5, FEATURES) if swapped else floats(5, 4, FEATURES)
    made = model(nodes, inputs, outputs, tensors(op, directions))
    source = check(made, {"x": x, "lengths": STEPS}, tmp_path)
    assert source.count(f"nn.{op}(") == 1
    assert ("pack_padded_sequence" in source) == (op == "LSTM" or directions == 2)


@pytest.mark.parametrize("read", ["Y", "Y_h"])
def test_what_is_not_packed_can_be_exported(read: str, tmp_path: Path) -> None:
    node = helper.make_node(
        "LSTM", ["x", "rnn.W", "rnn.R", "rnn.B", "lengths"], ["Y", "Y_h"], hidden_size=HIDDEN
    )
    inputs = {"x": (1, ["T", "N", FEATURES]), "lengths": (6, ["N"])}
    made = model([node], inputs, [read], tensors("LSTM", 1))
    source = check(made, {"x": floats(5, 4, FEATURES), "lengths": STEPS}, tmp_path)
    assert "pack_padded_sequence" not in source


def masked(*, axis: int = 1, size: str = "two", zero: str = "zero", minus: str = "one") -> onnx.ModelProto:
    """A GRU over the steps of a mask, as the reader of Keras writes it."""
    sizes = {"zero": 0, "one": 1, "half": 0.5}
    constants = {name: np.array(value, np.int32) for name, value in sizes.items()}
    constants |= {
        "last": np.array([2]),
        "rows": np.array([1]),
        "first": np.array([0]),
        "axis": np.array(axis),
    }
    constants |= {"two": np.array([2]), "short": np.array([4]), "none": np.zeros((), np.float32)}
    constants |= {"half": np.array(0.5, np.float32)}
    make = helper.make_node
    nodes = [
        make("Cast", ["mask"], ["number"], to=6),
        make("Shape", ["mask"], ["sizes"]),
        make("Slice", ["sizes", "rows", "two"], ["whole"]),
        make("TopK", ["number", "short" if size == "short" else "whole"], ["sorted", "order"], axis=1),
        make("Unsqueeze", ["order", "last"], ["places"]),
        make("GatherND", ["x", "places"], ["kept"], batch_dims=1),
        make("Transpose", ["kept"], ["time"], perm=[1, 0, 2]),
        make("ReduceSum", ["number", "rows"], ["lengths"], keepdims=0),
        make("GRU", ["time", "rnn.W", "rnn.R", "rnn.B", "lengths"], ["Y"], hidden_size=HIDDEN,
             linear_before_reset=1),
        make("Squeeze", ["Y", "rows"], ["flat"]),
        make("Transpose", ["flat"], ["series"], perm=[1, 0, 2]),
        make("CumSum", ["number", "axis"], ["count"]),
        make("Sub", ["count", minus], ["before"]),
        make("Max", ["before", "zero"], ["bound"]),
        make("Cast", ["bound"], ["long"], to=7),
        make("Unsqueeze", ["long", "last"], ["steps"]),
        make("GatherND", ["series", "steps"], ["held"], batch_dims=1),
        make("Greater", ["count", "zero"], ["some"]),
        make("Unsqueeze", ["some", "last"], ["choice"]),
        make("Where", ["choice", "held", "none" if zero == "zero" else "half"], ["y"]),
    ]  # fmt: skip
    read = {name for node in nodes for name in node.input}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read]
    inputs = {"x": (1, ["N", "T", FEATURES]), "mask": (9, ["N", "T"])}
    return model(nodes, inputs, ["y"], [*weights, *tensors("GRU", 1)])


def test_moves_around_a_masked_recurrence_are_named(tmp_path: Path) -> None:
    source = check(masked(), {"x": floats(4, 5, FEATURES), "mask": MASK}, tmp_path)
    assert "argsort" in source
    assert "def held" in source
    assert source.count("nn.GRU(") == 1


@pytest.mark.parametrize("change", [{"axis": 0}, {"zero": "half"}, {"minus": "zero"}])
def test_other_moves_stay_as_they_are(change: dict[str, Any], tmp_path: Path) -> None:
    mask = np.eye(4, 6, dtype=np.bool_)
    source = check(masked(**change), {"x": floats(4, 6, FEATURES), "mask": mask}, tmp_path)
    assert "def held" not in source


def test_a_part_of_the_steps_stays_as_it_is(tmp_path: Path) -> None:
    mask = np.array([[1, 0, 1, 1], [0, 1, 0, 0]], np.bool_)
    source = check(masked(size="short"), {"x": floats(2, 4, FEATURES), "mask": mask}, tmp_path)
    assert "argsort" not in source
