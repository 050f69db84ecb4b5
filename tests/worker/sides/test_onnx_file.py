"""The ONNX side: values inside, perturbed runs, limits of ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.worker.sides.onnx_file import OnnxSide, load

UNIT = 2.0**-24
Y: Mapping[str, int] = {"y": TensorProto.FLOAT}
N = helper.make_node


def side(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[Any]]],
    outputs: Mapping[str, int],
    weights: dict[str, Any] | None = None,
) -> OnnxSide:
    graph = helper.make_graph(
        list(nodes),
        "model",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, None) for name, dtype in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    file = path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), file)
    return load(ReadRequest(str(file), "onnx").to_json())


def test_values_inside_are_double_in_order_and_know_their_inputs(tmp_path: Path) -> None:
    model = side(
        tmp_path,
        [
            N("Mul", ["x", "w"], ["a"], name="/block/scale/Mul"),
            N("Shape", ["a"], ["s"]),
            N("Clip", ["a", "", "w"], ["y"], name="clip"),
        ],
        {"x": (TensorProto.FLOAT, [2])},
        Y,
        {"w": np.float32(1 / 3)},
    )
    found = model.intermediates({"x": np.array([1, 3], np.float32)})
    assert [record for record, _ in found] == [
        {"name": "a", "operator": "Mul", "scope": "block/scale", "location": None, "inputs": ["x", "w"]},
        {"name": "s", "operator": "Shape", "scope": None, "location": None, "inputs": ["a"]},
        {"name": "y", "operator": "Clip", "scope": None, "location": None, "inputs": ["a", "w"]},
    ]
    values = [value for _, value in found]
    assert [value.dtype.name for value in values] == ["float64", "int64", "float64"]
    np.testing.assert_array_equal(values[0], np.array([1.0, 3.0]) * np.float64(np.float32(1 / 3)))


def test_modules_and_lines_that_bridge_recorded(tmp_path: Path) -> None:
    node = N("Neg", ["x"], ["y"])
    for key, text in [
        ("bridge.scope", '[["layer1","Block",0],["act","Neg",0]]'),
        ("bridge.location", '"net.py:7"'),
    ]:
        node.metadata_props.add(key=key, value=text)
    model = side(tmp_path, [node], {"x": (TensorProto.FLOAT, [1])}, Y)
    ((record, _),) = model.intermediates({"x": np.ones(1, np.float32)})
    assert (record["scope"], record["location"]) == ("layer1.act", "net.py:7")


def test_perturbed_runs_move_as_far_as_the_unit_says(tmp_path: Path) -> None:
    model = side(
        tmp_path,
        [N("Relu", ["x"], ["a"]), N("Mul", ["a", "w"], ["y"]), N("ArgMax", ["y"], ["i"])],
        {"x": (TensorProto.FLOAT, [1000])},
        {**Y, "i": TensorProto.INT64},
        {"w": np.float32(3)},
    )
    feeds = {"x": np.linspace(-1, 1, 1000, dtype=np.float32)}
    exact, _ = model.run_fp64(feeds)
    once, index = model.run_noisy(feeds, UNIT, 5)
    moved = np.abs(once - exact)[exact > 0] / exact[exact > 0]
    assert UNIT < moved.max() <= 2.01 * UNIT
    np.testing.assert_array_equal(once[exact == 0], 0)
    assert index.dtype == np.int64
    np.testing.assert_array_equal(once, model.run_noisy(feeds, UNIT, 5)[0])
    assert not np.array_equal(once, model.run_noisy(feeds, UNIT, 6)[0])
    np.testing.assert_array_equal(exact, model.run_fp64(feeds)[0])


def test_noise_reaches_the_bodies_of_control_flow(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [N("Exp", ["x"], ["b"])], "then", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    )
    model = side(
        tmp_path,
        [N("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        {"c": (TensorProto.BOOL, []), "x": (TensorProto.FLOAT, [64])},
        Y,
    )
    feeds = {"c": np.array(True), "x": np.ones(64, np.float32)}
    moved = np.abs(model.run_noisy(feeds, UNIT, 1)[0] / np.exp(1.0) - 1)
    assert UNIT / 2 < moved.max() <= 1.01 * UNIT


def test_ids_are_limited_by_the_tables_that_they_index(tmp_path: Path) -> None:
    model = side(
        tmp_path,
        [
            N("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
            N("Gather", ["table", "wide"], ["a"]),
            N("Gather", ["columns", "ids"], ["b"], axis=1),
            N("Gather", ["table", "kinds"], ["c"]),
            N("Gather", ["x", "other"], ["d"]),
        ],
        {
            "ids": (TensorProto.INT32, [3]),
            "kinds": (TensorProto.INT64, [3]),
            "other": (TensorProto.INT64, [3]),
            "x": (TensorProto.FLOAT, [9, 3]),
        },
        dict.fromkeys("abcd", TensorProto.FLOAT),
        {"table": np.zeros((50, 2), np.float32), "columns": np.zeros((50, 30), np.float32)},
    )
    assert {each["name"]: each["limit"] for each in model.inputs} == {
        "ids": 30,
        "kinds": 50,
        "other": None,
        "x": None,
    }


def test_gradients_are_refused_in_words(tmp_path: Path) -> None:
    model = side(tmp_path, [N("Neg", ["x"], ["y"])], {"x": (TensorProto.FLOAT, [1])}, Y)
    feeds = {"x": np.ones(1, np.float32)}
    with pytest.raises(NotImplementedError, match="no gradients"):
        model.intermediates(feeds, lambda outputs: outputs)
    with pytest.raises(NotImplementedError, match="no gradients"):
        model.vjp(feeds, lambda outputs: outputs, False)


def test_another_precision_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match="not in float16") as caught:
        load({**ReadRequest("model.onnx", "onnx").to_json(), "dtype": "float16"})
    assert "--dtype" in str(caught.value.hint)


def test_types_that_numpy_lacks_cross_the_boundary_exactly(tmp_path: Path) -> None:
    model = side(
        tmp_path,
        [
            N("Identity", ["q"], ["same"]),
            N("Cast", ["f"], ["wide"], to=TensorProto.FLOAT),
            N("Cast", ["wide"], ["y"], to=TensorProto.FLOAT8E5M2),
        ],
        {"q": (TensorProto.INT4, [4]), "f": (TensorProto.FLOAT8E4M3FN, ["n"])},
        {"same": TensorProto.INT4, "y": TensorProto.FLOAT8E5M2},
    )
    assert [each["dtype"] for each in model.inputs] == ["int4", "float8_e4m3fn"]
    q = np.array([-8, -1, 0, 7], ml_dtypes.int4)
    f = np.array([1.0, -448.0, 2**-9], ml_dtypes.float8_e4m3fn)
    same, y = model.run({"q": q, "f": f})
    assert same.dtype == q.dtype
    assert same.tolist() == q.tolist()
    assert y.dtype == ml_dtypes.float8_e5m2
    assert y.astype(float).tolist() == f.astype(ml_dtypes.float8_e5m2).astype(float).tolist()


def test_what_onnxruntime_has_no_kernel_for_runs_in_the_reference_evaluator(tmp_path: Path) -> None:
    double = {"y": TensorProto.DOUBLE}
    model = side(tmp_path, [N("Acosh", ["x"], ["y"])], {"x": (TensorProto.DOUBLE, [2])}, double)
    assert "reference evaluator" in model.what
    assert "onnxruntime does not run the model" in model.notes[0]
    (y,) = model.run({"x": np.cosh([0.5, 2.0])})
    np.testing.assert_allclose(y, [0.5, 2.0])
