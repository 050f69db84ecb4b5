"""The Python API on ONNX models, which need no framework to be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import bridge
from bridge.errors import InputError, OutputError


def model(width: int = 40) -> onnx.ModelProto:
    """A linear layer and a ReLU, with weights large enough to travel in a file of their own."""
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]>'
        f"net (float[N,{width}] x) => (float[N,{width}] y) {{ h = MatMul(x, w) z = Add(h, b) y = Relu(z) }}"
    )
    generator = np.random.default_rng(0)
    for name, shape in (("w", (width, width)), ("b", (width,))):
        array = generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(path).run(None, {"x": x})[0])


def test_a_model_in_memory_becomes_a_file_that_stands_alone(tmp_path: Path) -> None:
    source = model()
    result = bridge.convert(source, "onnx", output=tmp_path / "out.onnx")
    assert result.report is not None
    assert result.report.passed
    assert [each.name for each in tmp_path.iterdir()] == ["out.onnx"]
    x = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)
    expected = onnxruntime.InferenceSession(source.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(run(tmp_path / "out.onnx", x), expected, rtol=1e-5, atol=1e-5)


def test_a_result_runs_saves_and_is_verified(tmp_path: Path) -> None:
    source = model()
    result = bridge.convert(source, "torch", verify=False)
    assert result.report is None
    assert {each.target for each in result.weights.tensors if each.recipe is not None} >= {
        each.target for each in result.weights.tensors if each.kind == "parameter"
    }
    assert "class Net(nn.Module)" in result.source
    x = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)
    expected = onnxruntime.InferenceSession(source.SerializeToString()).run(None, {"x": x})[0]
    (actual,) = result.run(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    saved = result.save(tmp_path / "out")
    assert {"model.py", "model.safetensors", "weights.json", "anchors.json", "model.pt2"} == {
        each.name for each in saved.iterdir()
    }
    with pytest.raises(OutputError):
        result.save(tmp_path / "out")
    assert bridge.verify(source, saved).passed
    assert bridge.verify(source, result).passed


def test_a_different_model_is_told_apart(tmp_path: Path) -> None:
    source = model()
    other = model()
    weights = numpy_helper.to_array(other.graph.initializer[0]).copy()
    weights[3, 3] *= 1 + 1e-3
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    report = bridge.verify(source, other)
    assert report.verdict == "different"


def test_what_is_no_model_and_no_target_is_refused() -> None:
    with pytest.raises(InputError, match="not a model"):
        bridge.convert(object(), "torch")
    with pytest.raises(InputError, match="not a target"):
        bridge.convert(model(), "jax")
    with pytest.raises(InputError, match="engine"):
        bridge.convert(model(), "torch", engine="other")
