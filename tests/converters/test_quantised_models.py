"""A small network that onnxruntime has quantised, in every format, against onnxruntime itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, reference
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

import bridge
from bridge.worker.sides.onnx_file import OnnxSide
from scripts.onnx_suite import engines

Array = np.ndarray[Any, np.dtype[Any]]
Target = Literal["torch", "tf"]
TARGETS: tuple[Target, ...] = ("torch", "tf")


def images(seed: int, count: int = 2) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._batches: Iterator[dict[str, Array]] = iter([{"image": images(seed, 4)} for seed in range(3)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def float_model() -> onnx.ModelProto:
    rng = np.random.default_rng(7)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)) / 3,
        "b1": rng.normal(size=8),
        "w2": rng.normal(size=(8, 4, 3, 3)) / 4,
        "b2": rng.normal(size=8),
        "w3": rng.normal(size=(32, 5)) / 5,
        "b3": rng.normal(size=5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2], group=2),
        helper.make_node("MaxPool", ["c2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Add", ["p", "p"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module", params=["qdq", "qdq-per-channel", "operators", "dynamic"])
def quantised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("quantised")
    plain, file = directory / "float.onnx", directory / f"{request.param}.onnx"
    onnx.save(float_model(), plain)
    if request.param == "dynamic":
        quantize_dynamic(plain, file, weight_type=QuantType.QUInt8)
    else:
        quantize_static(
            plain,
            file,
            _Calibration(),
            quant_format=QuantFormat.QOperator if request.param == "operators" else QuantFormat.QDQ,
            per_channel=request.param.endswith("per-channel"),
            weight_type=QuantType.QInt8,
        )
    return file


@pytest.mark.parametrize("target", TARGETS)
def test_gives_what_onnxruntime_gives(quantised: Path, target: Target, tmp_path: Path) -> None:
    model = onnx.load(quantised)
    run = engines.load(target, tmp_path, engines.convert(model, target, tmp_path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(quantised), options)
    image = images(11, 5)
    (mine,), (right,) = run([image]), session.run(None, {"image": image})
    # a value that lies between two steps may be rounded to either: one step of the widest quantisation
    step = np.ptp(right) / 255
    np.testing.assert_allclose(mine, right, atol=2 * step)
    assert np.mean(np.abs(mine - right) > 1e-5) < 0.1


@pytest.mark.parametrize("target", TARGETS)
def test_quantised_weights_keep_their_bits_and_names(quantised: Path, target: Target, tmp_path: Path) -> None:
    model = onnx.load(quantised)
    emitted = engines.convert(model, target, tmp_path)
    named = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    whole = {
        name: array for name, array in named.items() if array.dtype in (np.int8, np.uint8) and array.ndim > 1
    }
    assert whole
    for name, array in whole.items():
        (kept,) = (each for path, each in emitted.tensors.items() if path.replace("/", ".") == name)
        assert kept.dtype == array.dtype
        np.testing.assert_array_equal(kept, array)


def test_the_reference_evaluator_agrees_bit_for_bit_where_it_computes(
    quantised: Path, tmp_path: Path
) -> None:
    model = onnx.load(quantised)
    if {each.domain for each in model.graph.node} != {""}:
        pytest.skip("the reference evaluator has no operators of onnxruntime")
    try:
        evaluator = reference.ReferenceEvaluator(onnx.version_converter.convert_version(model, 21))
        image = images(13, 3)
        (right,) = evaluator.run(None, {"image": image})
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"the reference evaluator does not run it: {error}")
    run = engines.load("torch", tmp_path, engines.convert(model, "torch", tmp_path))
    (mine,) = run([image])
    np.testing.assert_array_equal(mine, right)


def test_narrow_types_convert_end_to_end(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).integers(-8, 8, (4, 3)).astype(ml_dtypes.int4)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["real"], axis=1),
        helper.make_node("Cast", ["q"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["wide", "real"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "y_scale", "y_zero"], ["y4"]),
    ]
    graph = helper.make_graph(
        nodes,
        "narrow",
        [helper.make_tensor_value_info("q", TensorProto.FLOAT8E4M3FN, ["n", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("y4", TensorProto.INT4, ["n", 3]),
        ],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.float32([0.1, 0.2, 0.3]), "scale"),
            numpy_helper.from_array(np.float32(0.5), "y_scale"),
            numpy_helper.from_array(np.array(1, ml_dtypes.int4), "y_zero"),
        ],
    )
    file = tmp_path / "narrow.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)
    result = bridge.convert(file, "torch")
    assert result.report is not None
    assert result.report.passed, result.report.summary()
    q = np.random.default_rng(1).normal(size=(5, 4)).astype(ml_dtypes.float8_e4m3fn)
    for mine, right in zip(result.run(q), OnnxSide(str(file)).run({"q": q}), strict=True):
        assert mine.dtype == right.dtype
        np.testing.assert_allclose(mine.astype(np.float32), right.astype(np.float32), rtol=1e-6)
