"""`engine="onnx2torch"`: that library's module, saved, verified and reported as bridge's own are."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import bridge
from bridge.cli import main
from bridge.errors import BridgeError, InputError, OutputError, UnsupportedOps

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnx2torch") is None, reason="the extra bridge-ml[onnx2torch] is not installed"
)


def model(body: str = "h = Gemm(x, w, b) y = Relu(h)", opset: int = 13) -> onnx.ModelProto:
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]>net (float[N,8] x) => (float[N,8] y) {{ {body} }}'
    )
    generator = np.random.default_rng(0)
    for name, shape in (("w", (8, 8)), ("b", (8,))):
        array = generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


def test_it_is_verified_and_runs_in_other_batch_sizes(tmp_path: Path) -> None:
    source = model()
    result = bridge.convert(source, "torch", engine="onnx2torch", output=tmp_path / "out")
    assert result.report is not None
    assert result.report.passed
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["model.pt2"]
    assert any("onnx2torch" in note and "trainable" in note for note in result.notes)
    for batch in (1, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 8)).astype(np.float32)
        expected = onnxruntime.InferenceSession(source.SerializeToString()).run(None, {"x": x})[0]
        (actual,) = result.run(x)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_it_has_no_source_and_can_be_saved_again(tmp_path: Path) -> None:
    result = bridge.convert(model(), "torch", engine="onnx2torch", verify=False)
    with pytest.raises(BridgeError, match=r"no model\.py") as caught:
        _ = result.source
    assert "leave the engine out" in str(caught.value.hint)
    assert result.save(tmp_path / "out.pt2").is_file()
    assert result.save(tmp_path / "folder").is_dir()
    with pytest.raises(OutputError):
        result.save(tmp_path / "folder")
    result.save(tmp_path / "folder", force=True)


def test_every_operator_that_it_lacks_is_named_at_once() -> None:
    source = model("h = Gelu(x) i = Mish(h) y = Gelu(i)", opset=20)
    with pytest.raises(UnsupportedOps) as caught:
        bridge.convert(source, "torch", engine="onnx2torch")
    assert "Gelu x2: onnx2torch has no converter for version 20" in caught.value.message
    assert "Mish x1: onnx2torch has no converter for version 18" in caught.value.message
    assert "leave the engine out" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": "tf", "engine": "onnx2torch"}, "converts to torch only"),
        ({"to": "torch", "engine": "onnx2tf"}, "is not known"),
        ({"to": "torch", "engine": "onnx2torch", "io_layout": "native"}, "keeps the source's layout"),
    ],
)
def test_what_it_cannot_do_is_said_before_any_work(options: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        bridge.convert(model(), **options)


def test_it_takes_onnx_files_only(tmp_path: Path) -> None:
    result = bridge.convert(model(), "torch", engine="onnx2torch", verify=False, output=tmp_path / "a.pt2")
    assert result.output is not None
    with pytest.raises(InputError, match="ONNX files only"):
        bridge.convert(result.output, "torch", engine="onnx2torch")


def test_the_command_line_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(model(), file)
    arguments = ["convert", str(file), "--to", "torch", "--engine", "onnx2torch", "--json", "--quiet"]
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "-o", str(tmp_path / "out.pt2")])
    assert caught.value.code == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "equivalent"
